"""Rows: from the lines of objects into one sorted Parquet file, with DuckDB.

DuckDB's JSON changes numbers (-0 becomes 0, 40 digits become binary64), also where a column
is declared as VARCHAR. So a line is read as one value, whose text DuckDB keeps, and the
usage is cut out of that text."""

import contextlib
import os
import threading

import duckdb
import zstandard

import frame

# A line is {"id":"…","received_at":"…","via":"…","client":…,"usage":…}: the first ,"usage":
# in it is the member's name, since quotes in strings are escaped. The parameters are begin
# and end in microseconds, the staged file, and the longest line.
_LOAD = """
CREATE TEMP TABLE new AS
SELECT id, make_timestamptz(micros) AS received_at, via,
       CASE WHEN client = 'null' THEN NULL
            WHEN contains(client, '\\') THEN TRY(json_extract_string(client, '$'))
            ELSE substr(client, 2, length(client) - 2) END AS client,
       usage,
       (good AND micros >= %d AND micros < %d AND via IS NOT NULL AND TRY_CAST(id AS UUID) IS NOT NULL
        AND (client = 'null' OR starts_with(client, '"') AND ends_with(client, '"')) AND starts_with(usage, '{')) IS TRUE AS good
FROM (SELECT id, micros, usage, good, CASE WHEN starts_with(middle, 'http","client":') THEN 'http' WHEN starts_with(middle, 'udp","client":') THEN 'udp' END AS via,
             substr(middle, CASE WHEN starts_with(middle, 'http') THEN 16 ELSE 15 END) AS client
FROM (SELECT substr(line, 8, 36) AS id, epoch_us(TRY_CAST(substr(line, 61, 26) AS TIMESTAMP)) AS micros,
             substr(line, 97, tag - 97) AS middle, substr(line, tag + 9, length(line) - tag - 9) AS usage,
             starts_with(line, '{"id":"') AND substr(line, 44, 17) = '","received_at":"' AND substr(line, 87, 10) = 'Z","via":"' AND ends_with(line, '}}') AS good
FROM (SELECT line, instr(line, ',"usage":') AS tag
FROM (SELECT json::VARCHAR AS line FROM read_ndjson_objects('%s', maximum_object_size = %d)))))
"""
COLUMNS = "id, received_at, via, client, usage"


class Database:
    """One DuckDB for all threads of this process, so that they share one memory limit."""

    def __init__(self, directory, memory, threads, level):
        self.level = level
        self.db = duckdb.connect(":memory:", config={
            "memory_limit": memory, "threads": threads, "temp_directory": os.path.join(directory, "spill"),
            "preserve_insertion_order": "false", "autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
        self.db.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'")
        self.local = threading.local()

    def one_thread(self):
        """Makes the memory go further."""
        self.db.execute("SET threads = 1")

    def build(self, directory):
        if not hasattr(self.local, "cursor"):
            self.local.cursor = self.db.cursor()
            self.local.decoder = zstandard.ZstdDecompressor(max_window_size=frame.WINDOW)
        return Build(self.local.cursor, self.local.decoder, directory, self.level)


class Build:
    """The building of one Parquet file."""

    def __init__(self, db, decoder, directory, level):
        self.db, self.decoder, self.level = db, decoder, level
        self.lines = os.path.join(directory, "lines.ndjson")
        self.parquet = os.path.join(directory, "new.parquet")
        self.out = open(self.lines, "wb+", buffering=1 << 20)
        self.restart()

    def restart(self):
        """Forgets what was staged and loaded."""
        self.longest, self.staged = 0, []  # (object, start, end) in lines
        self.out.seek(0)
        self.out.truncate()
        self.db.execute("DROP TABLE IF EXISTS new; DROP TABLE IF EXISTS again")

    def stage(self, object, raw):
        """Appends the lines of an object. Raises frame.Damage, and then appends nothing."""
        start = self.out.tell()
        try:
            frame.check_frame(raw)
            with self.decoder.stream_reader(raw, read_size=1 << 20) as reader:
                size, longest = frame.copy_lines(reader, self.out, object.records)
        except (frame.Damage, zstandard.ZstdError) as err:
            self.out.seek(start)
            self.out.truncate()
            raise frame.Damage(str(err)) from err
        self.longest = max(self.longest, longest)
        self.staged.append((object, start, start + size))

    def load(self, begin, end):
        """Loads the staged lines, all received from begin to end (seconds since 1970).
        Reports whether each is a record."""
        self.out.flush()
        return self._load(self.lines, sum(o.records for o, _, _ in self.staged), begin, end)

    def _load(self, path, records, begin, end):
        try:
            self.db.execute(_LOAD % (begin * 1_000_000, end * 1_000_000, _quoted(path), max(4 << 20, self.longest + 64)))
        except duckdb.InvalidInputException:  # not JSON
            return False
        return self.db.execute("SELECT count(*), count(*) FILTER (good) FROM new").fetchone() == (records, records)

    def damaged(self, hour):
        """Returns [(object, problem)] of staged objects with a line that is not a record."""
        found = []
        for object, start, end in self.staged:
            self.out.seek(start)
            try:
                frame.check_lines(_until(self.out, end - start), hour(object))
            except frame.Damage as err:
                found.append((object, str(err)))
        return found

    def refused(self, begin, end):
        """Returns [(object, problem)] of staged objects that DuckDB does not accept by themselves:
        check_lines does not find everything, such as half of a surrogate pair."""
        found, one = [], self.lines + ".one"
        for object, start, stop in self.staged:
            self.out.seek(start)
            with open(one, "wb") as out:
                for line in _until(self.out, stop - start):
                    out.write(line)
            self.db.execute("DROP TABLE IF EXISTS new")
            if not self._load(one, object.records, begin, end):
                found.append((object, "it has a line that DuckDB does not accept"))
        return found

    def remove_lines(self):
        self.out.close()
        os.unlink(self.lines)

    def derived(self):
        """Reports whether a new id is derived from an Idempotency-Key."""
        return self.db.execute("SELECT count(*) FILTER (id[15] = '8') FROM new").fetchone()[0] > 0

    def create_empty(self):
        self.db.execute("CREATE TEMP TABLE new (id VARCHAR, received_at TIMESTAMPTZ, via VARCHAR, client VARCHAR, usage VARCHAR)")

    def write(self, existing, earlier, metadata, changed=True):
        """Writes the rows of the file existing (or None) and the new ones, each id once and
        without derived ids that the files earlier have, and verifies what was written.
        Returns (rows, rows left out). metadata is a function of (rows, derived)."""
        db = self.db
        old = f"SELECT {COLUMNS}, 0 AS place FROM {_parquet(existing)}" if existing else ""
        rows = f"{old}{' UNION ALL ' if old else ''}SELECT {COLUMNS}, 1 AS place FROM new"
        total = db.execute(f"SELECT count(*) FROM ({rows})").fetchone()[0]
        db.execute(f"CREATE TEMP TABLE again AS SELECT id FROM ({rows}) GROUP BY id HAVING count(*) > 1" if changed else
                   "CREATE TEMP TABLE again (id VARCHAR)")
        doubled = db.execute("SELECT count(*) FROM again").fetchone()[0]
        unique = rows
        if doubled:  # first the row that is there already, else the one that was received first
            unique = (f"(SELECT * FROM ({rows}) WHERE id NOT IN (FROM again)) UNION ALL "
                      f"(SELECT DISTINCT ON (id) * FROM ({rows}) WHERE id IN (FROM again) ORDER BY id, place, received_at)")
        elsewhere = ""
        if earlier:
            elsewhere = f"SELECT id FROM {_parquet(*earlier)} WHERE id[15] = '8'"
            unique = f"SELECT * FROM ({unique}) WHERE id[15] <> '8' OR id NOT IN ({elsewhere})"
        want, derived = db.execute(f"SELECT count(*), count(*) FILTER (id[15] = '8') FROM (SELECT id FROM ({unique}))").fetchone()
        order = "ORDER BY received_at, id"
        values = ", ".join(f"'{key}': '{_quoted(value)}'" for key, value in metadata(want, derived).items())
        db.execute(f"COPY (SELECT {COLUMNS} FROM ({unique}) {order}) TO '{_quoted(self.parquet)}' (FORMAT parquet, PARQUET_VERSION v2, "
                   f"COMPRESSION zstd, COMPRESSION_LEVEL {self.level}, ROW_GROUP_SIZE 122880, KV_METADATA {{{values}}})")
        found = db.execute(f"SELECT count(*), count(DISTINCT id) FROM {_parquet(self.parquet)}").fetchone()
        distinct = db.execute(f"SELECT count(DISTINCT id) FROM ({unique})").fetchone()[0] if doubled else want
        if found != (want, want) or want != distinct:
            raise AssertionError(f"wrote {found[0]} rows with {found[1]} ids instead of {want}: this is a bug, nothing was replaced")
        return want, total - want

    def has_derived(self, path, earlier):
        """Reports whether a file has a derived id that an earlier one has."""
        return self.db.execute(f"SELECT count(*) FROM {_parquet(path)} WHERE id[15] = '8' AND id IN "
                               f"(SELECT id FROM {_parquet(*earlier)} WHERE id[15] = '8')").fetchone()[0] > 0

    def close(self):
        self.db.execute("DROP TABLE IF EXISTS new; DROP TABLE IF EXISTS again")
        with contextlib.suppress(OSError):  # of a full disk
            self.out.close()


def _parquet(*paths):
    """Returns the table function that reads these files. The directories of a path, such as
    client=acme, must not become columns, which DuckDB would prefer to those of the file."""
    return "read_parquet([" + ", ".join(f"'{_quoted(p)}'" for p in paths) + "], hive_partitioning = false)"


def _quoted(text):
    return text.replace("'", "''")


def _until(file, size):
    while size > 0:
        line = file.readline(frame.MAX_LINE)
        size -= len(line)
        yield line
