"""Compacts the objects of collectord into an Apache Iceberg table, with Spark.

    spark-submit --py-files ledger.py spark_job.py --from s3a://usages/prod --table lake.db.usages

docs/compaction-spark.md shows the whole command. Catalog and storages come from Spark's
configuration. Exit status: 0 all is in the table; 2 all but damaged objects; 1 an error.
Standard output has the report: spark-submit redirects Python's standard error to it anyway.

The job does one day after the other, the oldest first. Each day is one commit, which changes
rows and bookkeeping together, because both are branches of one table:

    main                 the rows: what readers see
    collectord_ledger    one row for each day: the ledger of its objects, as JSON in usage
    collectord_work_*    what running jobs write, and killed ones have left

A job writes to work branches. Its commit sets main and the ledger to these, if both are still
what the job began with, and removes all other work branches: they have lost. A job that has
lost starts the day over.
"""

import argparse
import datetime
import re
import secrets
import sys
import time

from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession, Window, functions as F

import ledger

LEDGER = "collectord_ledger"
WORK = "collectord_work_"
BEGAN = "collectord.main"  # of a snapshot of the ledger: the snapshot of main that belongs to it
COLUMNS = "id string, received_at timestamp, via string, client string, usage string, node string, log string"
PROPERTIES = {
    # A task has rows of one day: it writes what it reads, without a shuffle.
    "write.distribution-mode": "none",
    "write.spark.fanout.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
}
ATTEMPTS = 50  # another job wins each time that one is lost, so all jobs together make progress


class Conflict(Exception):
    """Another job, or maintenance, has changed the table meanwhile."""


class Source:
    """A destination of collectord."""

    def __init__(self, spark, url):
        self.spark, self.url = spark, url.rstrip("/")
        self.path = spark._jvm.org.apache.hadoop.fs.Path
        self.fs = self.path(self.url).getFileSystem(spark._jsc.hadoopConfiguration())

    def _paths(self, iterator):
        """Returns the paths of a listing, in one call: calls for each file would take minutes."""
        listed = self.spark._jvm.org.apache.hadoop.util.functional.RemoteIterators.toList(iterator)
        return re.findall(r"path=(.*?); isDirectory=", listed.toString())

    def days(self):
        names = (path.rsplit("/", 1)[1] for path in self._paths(self.fs.listStatusIterator(self.path(self.url))))
        return sorted(name[3:] for name in names if re.fullmatch(r"dt=\d{4}-\d\d-\d\d", name))

    def objects(self, day):
        listed = self._paths(self.fs.listFiles(self.path(f"{self.url}/dt={day}"), True))
        return [o for o in map(ledger.parse, map(key_of, listed)) if o]

    def lines(self, objects, **options):
        """Returns the lines of objects, with the path of each. Spark opens no other file."""
        reader = self.spark.read.format("text").options(recursiveFileLookup=True, lineSep="\n", **options)
        files = reader.load([f"{self.url}/{p}" for p in sorted({o.partition for o in objects})])
        lines = files.select("value", F.col("_metadata.file_path").alias("path"))
        join = self.spark._jvm.org.apache.hadoop.util.StringUtils.join
        # Not of lines: if equal ones are persisted, Spark knows no input of them.
        listed = join("\n", files._jdf.inputFiles()).split("\n")
        keys = {o.key for o in objects}
        paths = [re.sub("^file:/+", "file:/", p) for p in listed if key_of(p) in keys]  # as file_path has it
        if len(paths) < len(listed):
            lines = lines.where(F.expr(in_list("path", paths)))
        return lines


KEY = "substring_index(path, '/', -3)"  # key_of


def key_of(path):
    return "/".join(path.rsplit("/", 3)[1:])


def in_list(column, texts):
    """Returns a condition as SQL, because a call for each text would take minutes."""
    quoted = ("'" + t.replace("\\", "\\\\").replace("'", "\\'") + "'" for t in texts)
    return f"{column} IN ({','.join(quoted)})" if texts else "false"


# The columns of a line have a fixed order, and up to via a fixed size. A quote within client is
# escaped, so the first ,"usage": is where the usage begins.
AT = """locate(',"usage":', value)"""
WELL_FORMED = f"""startswith(value, '{{"id":"') AND substring(value, 44, 17) = '","received_at":"'
    AND substring(value, 88, 9) = '","via":"' AND substring(value, {AT} + 9, 1) = '{{' AND endswith(value, '}}}}')
    AND try_cast(substring(value, 61, 27) AS timestamp) IS NOT NULL AND {AT} > 97"""
DERIVED = "substring(value, 22, 1) = '8'"  # ledger.is_derived


def rows(lines):
    """Returns the rows of lines. A usage is cut out, not parsed: no byte of it changes."""
    return lines.selectExpr(
        "value", "path", f"{AT} AS at", f"{DERIVED} AS derived",
        "substring_index(substring_index(substring_index(path, '/', -1), '.ndjson.zst', 1), '~', 1) AS stem",
    ).selectExpr("*", "substring_index(substring(value, 97, 16), '\"', 1) AS via").selectExpr(
        "*", "substring(value, 97 + length(via) + 11, at - 97 - length(via) - 11) AS text",  # ","client": is between
    ).selectExpr(
        "substring(value, 8, 36) AS id",
        "CAST(substring(value, 61, 27) AS timestamp) AS received_at",
        "via",
        """CASE WHEN text = 'null' THEN NULL
                WHEN instr(text, '\\\\') = 0 THEN substring(text, 2, length(text) - 2)
                ELSE get_json_object(concat('{"c":', text, '}'), '$.c') END AS client""",
        "substring(value, at + 9, length(value) - at - 9) AS usage",
        "left(stem, length(stem) - 76) AS node",
        "substring(stem, length(stem) - 74, 16) AS log",
        "path", "derived")


class Table:
    """The Iceberg table, with its branches."""

    def __init__(self, spark, name):
        self.spark, self.name = spark, name
        self.jvm = spark._jvm.org.apache.iceberg
        properties = ", ".join(f"'{key}'='{value}'" for key, value in PROPERTIES.items())
        spark.sql(f"CREATE TABLE IF NOT EXISTS {name} ({COLUMNS}) USING iceberg "
                  f"PARTITIONED BY (days(received_at)) TBLPROPERTIES ({properties})")
        self.table = self.jvm.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, name)
        self.refresh()
        if self.table.currentSnapshot() is None:
            self.table.newFastAppend().commit()
            self.refresh()
        if self._branch(LEDGER) is None:
            if self.table.currentSnapshot().summary().get("total-records") != "0":
                sys.exit(f"{name} has rows, but no ledger: another program has made it, or the branch {LEDGER} was removed")
            self._change(lambda change: change if self._branch(LEDGER) else change.createBranch(LEDGER, self._branch("main")))

    def refresh(self):
        self.table.refresh()
        self.spark.catalog.refreshTable(self.name)

    def _branch(self, name):
        """Returns the id of the snapshot of a branch, or None."""
        ref = self.table.refs().get(name)
        return ref and ref.snapshotId()

    def _change(self, make):
        """Commits a change of branches. Each other change of the table makes it begin again."""
        for attempt in range(ATTEMPTS):
            self.refresh()
            try:
                return make(self.table.manageSnapshots()).commit()
            except Py4JJavaError as e:
                if not is_a(e, "CommitFailedException") or attempt == ATTEMPTS - 1:
                    raise

    def begin(self):
        """Returns the snapshots of main and of the ledger that belong together."""
        self.refresh()
        main, book = self._branch("main"), self._branch(LEDGER)
        began = self.table.snapshot(book).summary().get(BEGAN)
        if began and self.table.snapshot(int(began)) and not self.jvm.util.SnapshotUtil.isAncestorOf(self.table, main, int(began)):
            sys.exit(f"{self.name} was rolled back to before its ledger: roll the branch {LEDGER} back, too")
        return main, book

    def at(self, snapshot):
        return self.spark.read.option("versionAsOf", snapshot).table(self.name)

    def ledger(self, book, day):
        found = self.at(book).where(f"received_at = '{day}' AND id = '{day}'").select("usage").collect()
        return ledger.load(found[0].usage) if found else ledger.empty()

    def commit(self, began, day, found, expected, book):
        """Appends rows and replaces the ledger of a day, in one commit. Returns the number of
        rows. Raises Conflict if the table is no longer what the job began with."""
        rows, ledgers = names = [WORK + secrets.token_hex(8) for _ in began]
        try:
            self._change(lambda change: change.createBranch(rows, began[0]).createBranch(ledgers, began[1]))
            self.refresh()
            found.writeTo(f"{self.name}.branch_{rows}").append()
            self.refresh()
            written = self.table.snapshot(self._branch(rows))
            added = int(written.summary().get("added-records") or 0)
            if expected is not None and added != expected:
                raise RuntimeError(f"{added} rows were written of {expected} records")
            at = datetime.datetime.fromisoformat(day + "T00:00:00+00:00")
            row = self.spark.createDataFrame([(day, at, "ledger", None, ledger.dump(book), None, None)], COLUMNS)
            row.writeTo(f"{self.name}.branch_{ledgers}").option(
                "snapshot-property." + BEGAN, str(written.snapshotId())).overwritePartitions()
            self._change(lambda change: self._publish(change, began, names))
            return added
        except (Py4JJavaError, PySparkException):
            # Whoever was quicker has removed the branches.
            self.refresh()
            if (self._branch("main"), self._branch(LEDGER)) != began:
                raise Conflict() from None
            raise

    def _publish(self, change, began, names):
        """Moves main and the ledger to the work branches, and removes all of these."""
        if (self._branch("main"), self._branch(LEDGER)) != began:
            raise Conflict()
        for name, parent in zip(names, began):
            if self._branch(name) is None or self.table.snapshot(self._branch(name)).parentId() != parent:
                raise Conflict()
        change = change.fastForwardBranch("main", names[0]).fastForwardBranch(LEDGER, names[1])
        for name in list(self.table.refs()):
            if name.startswith(WORK):
                change = change.removeBranch(name)
        return change


def is_a(error, name):
    """Reports whether a Java exception, or a cause of it, has this class name."""
    e = error.java_exception
    while e is not None:
        if e.getClass().getSimpleName() == name:
            return True
        e = e.getCause()
    return False


def overlapping(known, objects):
    """Returns those objects that may have records of others: stored beside one, or with seqs
    that another one has, too."""
    ranges, found = ledger.ranges(known), set()
    logs = {}
    for o in objects:
        logs.setdefault(o.log, []).append((o.first, o.last, o))
    for log, some in logs.items():
        some += [(first, last, None) for first, last in ranges.get(log, [])]
        end, longest = 0, None
        for first, last, o in sorted(some, key=lambda s: s[:2]):
            if first <= end:
                found |= {o, longest} - {None}
            if last > end:
                end, longest = last, o
    return found | {o for o in objects if o.beside}


def check(source, objects):
    """Returns the lines of objects, kept on local disks because no object is read twice; what
    was counted in each intact object, by key; and reasons why the others are not: {key: reason}."""
    def read(objects):
        lines = source.lines(objects).persist(StorageLevel.DISK_ONLY)
        counted = lines.groupBy("path").agg(
            F.count("*").alias("lines"), F.expr(f"count_if({DERIVED})").alias("derived"),
            F.expr(f"count_if(NOT ({WELL_FORMED}))").alias("malformed"))
        return lines, {key_of(c.path): c for c in counted.collect()}

    damaged = {}
    try:
        lines, counted = read(objects)
    except (Py4JJavaError, PySparkException):
        # One object can't be read. As whole texts, such objects are left out. What was persisted
        # would be read instead of the objects again.
        source.spark.catalog.clearCache()
        whole = source.lines(objects, wholetext=True, ignoreCorruptFiles=True, ignoreMissingFiles=True)
        readable = {key_of(r.path) for r in whole.select("path").collect()}
        damaged = {o.key: "it can't be decompressed or read" for o in objects if o.key not in readable}
        objects = [o for o in objects if o.key in readable]
        lines, counted = read(objects) if objects else (None, {})
    for o in objects:
        c = counted.pop(o.key, None)
        if not c or c.lines != o.records:
            damaged[o.key] = f"it has {c.lines if c else 0} lines, and its name says {o.records}"
        elif c.malformed:
            damaged[o.key] = f"{c.malformed} of its lines are not what collectord writes"
        else:
            counted[o.key] = c
    return lines, counted, damaged


def compact(source, table, day, look_back):
    """Adds the objects of a day that the table has not. Returns the number of damaged ones."""
    start = time.monotonic()
    began = table.begin()
    known = table.ledger(began[1], day)
    objects = source.objects(day)
    covered = ledger.covers(known, objects)
    new = [o for o in objects if o not in covered]
    hidden = [o for o in new if o.node[0] in "._"]
    for o in hidden:
        print(f"skipped {o.key}: Spark reads no file whose name begins with {o.node[0]} (change node)", flush=True)
    new = [o for o in new if o.node[0] not in "._"]
    lines, counted, damaged = check(source, new) if new else (None, {}, {})
    for key, reason in sorted(damaged.items()):
        print(f"skipped {key}: {reason}", flush=True)
    new = [o for o in new if o.key in counted]
    read = sum(o.records for o in new)
    added = 0
    if new:
        again = overlapping(known, new)
        found = rows(lines.where(F.expr(in_list(KEY, [o.key for o in new]))) if damaged else lines)
        derived = sum(counted[o.key].derived for o in new)
        if derived or again:
            of_these = F.expr(in_list(KEY, [o.key for o in again]))
            found = once(table.at(began[0]), found, F.col("derived") | of_these, new, look_back)
        expected = None if derived or again else read
        added = table.commit(began, day, found.drop("path", "derived"), expected, ledger.add(known, new))
    print(f"{day}: {len(objects)} objects, {len(new)} new, {read} records read, {added} added, "
          f"{len(damaged) + len(hidden)} skipped, {time.monotonic() - start:.1f} s", flush=True)
    return len(damaged) + len(hidden)


def once(table, found, doubtful, objects, look_back):
    """Returns the rows without those whose id is there twice or in the table. Only the doubtful
    ones are compared: any other id is unique."""
    hours = sorted(o.partition for o in objects)
    at = [datetime.datetime.strptime(p, "dt=%Y-%m-%d/hour=%H") for p in (hours[0], hours[-1])]
    earliest, latest = at[0] - look_back, at[1] + datetime.timedelta(hours=1) + look_back
    there = table.where(f"received_at BETWEEN '{earliest}' AND '{latest}'").select("id")
    first = Window.partitionBy("id").orderBy("received_at", "path")
    kept = (found.where(doubtful).withColumn("n", F.row_number().over(first)).where("n = 1").drop("n")
            .join(there, "id", "left_anti").select(found.columns))
    return found.where(~doubtful).unionByName(kept)


def hours(text):
    m = re.fullmatch(r"(\d+)h", text)
    if not m:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 24h")
    return datetime.timedelta(hours=int(m[1]))


def day(text):
    return datetime.date.fromisoformat(text).isoformat()


def main():
    p = argparse.ArgumentParser(description="Compacts the objects of collectord into an Apache Iceberg table.")
    p.add_argument("--from", dest="source", required=True, metavar="URL", help="the destination that collectord ships to, such as s3a://usages/prod")
    p.add_argument("--table", required=True, metavar="CATALOG.DB.TABLE", help="the table; it is made if it does not exist")
    p.add_argument("--since", type=day, default="0001-01-01", metavar="DAY", help="leave out earlier days (default: all days of the destination)")
    p.add_argument("--until", type=day, default="9999-12-31", metavar="DAY", help="leave out later days")
    p.add_argument("--look-back", type=hours, default="24h", metavar="HOURS", help="how far apart repeats of one Idempotency-Key are found (default: 24h)")
    p.error = sys.exit  # with 1: 2 means damaged objects
    args = p.parse_args()

    spark = SparkSession.builder.appName("collectord compaction").getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    # Objects are small: a task reads hundreds.
    spark.conf.set("spark.sql.files.openCostInBytes", 64 << 10)
    source = Source(spark, args.source)
    table = Table(spark, args.table)
    skipped = 0
    for d in source.days():
        if not args.since <= d <= args.until:
            continue
        for attempt in range(ATTEMPTS):
            try:
                skipped += compact(source, table, d, args.look_back)
                break
            except Conflict:
                print(f"{d}: another job was quicker, starting over", flush=True)
            finally:
                spark.catalog.clearCache()
        else:
            sys.exit(f"{d}: other jobs were quicker {ATTEMPTS} times")
    spark.stop()
    sys.exit(2 if skipped else 0)


if __name__ == "__main__":
    main()
