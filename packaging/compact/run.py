"""One run: which partitions have something new, their building, and the checks across them."""

import concurrent.futures
import contextlib
import datetime
import errno
import json
import mmap
import os
import random
import shutil
import sys
import threading
import time

import closed
import evidence
import expire
import footer
import frame
import ledger
from derived import Derived
from places import Failure, Lost

NAME = "usages.parquet"
SMALL = 4 << 20  # an object up to this size is read into memory


class Table:
    """A Parquet file of the target, as its footer describes it."""

    def __init__(self, file, values, columns, footer_start):
        try:
            self.ledger = ledger.load(values["collectord.ledger"])
            self.closed = json.loads(values["collectord.closed"])["closed"] is True
            self.rows, self.derived = int(values["collectord.rows"]), int(values["collectord.derived"])
        except (LookupError, TypeError, ValueError) as err:
            raise Failure(f"{quote(file.key)} was not written by this program, or by a later version ({err})") from err
        self.file, self.ids, self.footer_start = file, columns.get("id", []), footer_start


class Run:
    def __init__(self, options, sources, target, directory):
        self.options, self.sources, self.target, self.directory = options, sources, target, directory
        self.lock = threading.Lock()
        self.database = None
        self.tables = {}  # partition -> Table
        self.raw = {}  # partition -> {ledger.Object: (source, File or None)}
        self.left_out = {}  # key -> problem
        self.derived = Derived(self)
        self.after = self.day()
        self.gone = set()  # objects that were listed, and deleted before they were read
        self.failed, self.short_of_memory, self.written = [], [], set()
        self.sum = {"objects": 0, "new": 0, "rows": 0, "records": 0, "repeated": 0, "written": 0, "expired": 0}

    def run(self):
        self.list()
        self.read_tables(self.tables_there())
        self.evidence = evidence.Evidence(self.sources, self.raw, self.tables, self.options.gone)
        wanted = [p for p in sorted(set(self.raw) | set(self.tables)) if self.selected(p)]
        waiting = [p for p in wanted if self.new(p, self.tables.get(p)) or self.can_close(p)]
        if waiting:
            self.parallel(self.compact, waiting, self.options.threads)
        for p in self.short_of_memory.copy():  # those that had too little beside others
            self.database.one_thread()
            self.attempt(self.compact, p, last=True)
        for p in wanted:
            self.attempt(self.derived.check, p, last=True)
        self.derived.save()
        if self.options.expire and not self.failed:
            self.sum["expired"] = expire.expire(self)
        return self.report()

    # What is there.

    def day(self, earlier=0):
        """Returns the directory of the day from which on --since looks at partitions, or "" for all."""
        if self.options.since is None:
            return ""
        return datetime.datetime.fromtimestamp(max(0, time.time() - self.options.since - earlier), datetime.timezone.utc).strftime("dt=%Y-%m-%d")

    def partition_of(self, object):
        return object.partition[:13] if self.options.day else object.partition

    def selected(self, partition):
        only = self.options.partition
        return partition >= self.after and (not only or (partition + "/").startswith(only + "/") or (only + "/").startswith(partition + "/"))

    def list(self):
        for source in self.sources:
            for key, file in source.list("dt=", self.after):
                if not key.endswith(".ndjson.zst"):
                    continue
                object = ledger.parse(key)
                if object:
                    there = self.raw.setdefault(self.partition_of(object), {})
                    if object in there:
                        raise Failure(f"{quote(key)} is in two of the sources: name only one of them")
                    there[object] = source, file
                    self.sum["objects"] += 1
                else:
                    self.leave_out(key, "its name is not one of collectord")
        if not self.raw and not self.left_out and not self.after:
            raise Failure("there are no objects below " + " and ".join(quote(s.url) for s in self.sources))

    def tables_there(self):
        there, other = [], None
        for key, file in self.target.list("dt=", self.day(self.options.look_back)):
            partition, _, name = key.rpartition("/")
            if name != NAME:
                continue
            if not closed.is_partition(partition):
                raise Failure(f"{quote(key)} was not written by this program: move it away")
            if ("/" in partition) == self.options.day:
                other = key
            else:
                there.append((partition, file or self.target.stat(key)))
        if other:
            raise Failure(f"{quote(other)} is of a compaction by {'hour' if self.options.day else 'day'}: "
                          f"{'leave out' if self.options.day else 'add'} --day, or use another --to")
        return [(p, f) for p, f in there if f]

    def read_tables(self, there):
        def read(one):
            partition, file = one
            while file:  # until it is not replaced meanwhile
                with contextlib.suppress(FileNotFoundError, Lost):
                    self.tables[partition] = self.table(file)
                    return
                file = self.target.stat(file.key)
        self.parallel(read, there, 16 if len(there) > 1 and not hasattr(self.target, "path") else 1, stop=True)

    def table(self, file):
        """Reads the footer of a file."""
        start = max(0, file.size - (32 << 10))
        tail = self.target.read(file.key, start, file.size, file.tag)
        try:
            size = footer.length(tail)
            if size > len(tail):
                tail = self.target.read(file.key, max(0, file.size - size), file.size, file.tag)
            _, values, columns = footer.parse(tail[-size:])
        except ValueError as err:
            raise Failure(f"{quote(file.key)}: {err} (move it away to build it anew)") from err
        return Table(file, values, columns, file.size - size)

    def new(self, partition, table):
        there = self.raw.get(partition, {})
        covered = ledger.covers(table.ledger, there) if table else ()
        return sorted((o for o in there if o not in covered), key=lambda o: (o.log, o.first, o.last, o.key))

    def can_close(self, partition):
        table = self.tables.get(partition)
        return table and not table.closed and not self.open_reasons(partition)

    def open_reasons(self, partition):
        why = self.evidence.reasons(partition, [o for o in self.raw.get(partition, {}) if o.key in self.left_out or o.key in self.gone])
        return ["with --since, older objects are not known"] + why if self.after else why

    # Building.

    def compact(self, partition):
        """Brings the partition's file up to date, however many others do the same."""
        for attempt in range(100):
            try:
                if attempt:
                    self.refresh(partition)
                    time.sleep(random.random() * min(2, 0.05 * 2**attempt))  # so that racing processes do not lose for ever
                table = self.tables.get(partition)
                new = [o for o in self.new(partition, table) if o.key not in self.left_out]
                if new or self.can_close(partition):
                    self.build(partition, table, new)
                return
            except Lost:
                continue
        raise Failure(f"{partition}: other processes replaced its file 100 times")

    def refresh(self, partition):
        file = self.target.stat(self.key(partition))
        if file:
            self.tables[partition] = self.table(file)
        else:
            self.tables.pop(partition, None)

    def key(self, partition):
        return f"{partition}/{NAME}"

    def build(self, partition, table, new, earlier=None):
        """Writes the partition's file anew. Raises Lost if another process was faster."""
        self.target.check(self.options.alone)
        with self.work() as (build, directory):
            staged = self.stage(partition, build, new) if new else []
            if not staged:
                if new and earlier is None and not self.can_close(partition):
                    return  # everything was left out
                build.create_empty()
            build.remove_lines()
            existing = None
            if table:
                existing = os.path.join(directory, "old.parquet")
                self.target.fetch(table.file, existing)
            if earlier is None:
                earlier = self.derived.fetch_earlier(partition, directory) if staged and build.derived() else []
            names = ledger.add(table.ledger if table else ledger.empty(), staged)
            why = self.open_reasons(partition)

            def metadata(rows, derived):
                state = {"closed": not why} | ({"why": [w[:200] for w in why[:10]]} if why else {})
                return {"collectord.ledger": ledger.dump(names), "collectord.closed": json.dumps(state),
                        "collectord.rows": str(rows), "collectord.derived": str(derived)}

            rows, repeated = build.write(existing, earlier, metadata, changed=bool(staged))
            self.target.replace(self.key(partition), build.parquet, table.file.tag if table else None)
        self.refresh(partition)
        with self.lock:
            self.written.add(partition)
            records = sum(o.records for o in staged)
            for name, n in ("new", len(staged)), ("rows", rows), ("records", records), ("repeated", repeated), ("written", 1):
                self.sum[name] += n
        late = bool(table and table.closed and staged)
        self.say({"partition": partition, "rows": rows, "objects": len(staged), "records": records, "repeated": repeated,
                  "late": late, "closed": not why, "why": why[:10]},
                 f"{partition}: {rows} rows, with {records} records of {len(staged)} new objects" + (f", {repeated} repeated" if repeated else "") +
                 ("; closed" if not why else "; " + opened(why)) +
                 ("; they came late: the partition was closed" if late else ""))

    @contextlib.contextmanager
    def work(self):
        """A build with a directory of its own."""
        with self.lock:
            if not self.database:
                import rows  # here, since DuckDB takes a quarter of a second
                self.database = rows.Database(self.directory, self.options.memory, self.options.threads, self.options.level)
        directory = os.path.join(self.directory, os.urandom(8).hex())
        os.mkdir(directory)
        build = self.database.build(directory)
        try:
            yield build, directory
        finally:
            build.close()
            shutil.rmtree(directory)

    def stage(self, partition, build, new):
        """Loads the new objects, and returns those that are as their names say."""
        begin, end = closed.hours_of(partition)
        while True:
            for object, raw in self.contents(partition, new, build):
                try:
                    build.stage(object, raw)
                except frame.Damage as err:
                    self.leave_out(object.key, str(err))
            staged = [o for o, _, _ in build.staged]
            if not staged or build.load(begin * 3600, (end + 1) * 3600):
                return staged
            damaged = build.damaged(lambda o: o.partition[3:13] + "T" + o.partition[-2:]) or build.refused(begin * 3600, (end + 1) * 3600)
            if not damaged:
                raise AssertionError(f"{partition}: DuckDB reads other lines than those that are there: this is a bug")
            for object, problem in damaged:
                self.leave_out(object.key, problem)
            new = [o for o in staged if o.key not in self.left_out]
            build.restart()

    def contents(self, partition, new, build):
        """Yields (object, bytes) of the objects that can be read, several of S3 at once."""
        def read(object):
            source, file = self.raw[partition][object]
            try:
                file = file or source.stat(object.key)
                if file is None:
                    return None  # deleted since the listing
                if file.size > frame.MAX_OBJECT:
                    return frame.Damage(f"it has {file.size} bytes, more than any object of collectord")
                if file.size <= SMALL:
                    return source.read(object.key)
                path = os.path.join(os.path.dirname(build.lines), f"{threading.get_ident()}.zst")
                source.fetch(file, path)
                with open(path, "rb") as f:
                    os.unlink(path)
                    return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
            except (FileNotFoundError, Lost):
                return None
            except Exception as err:
                if hasattr(err, "response") or isinstance(err, OSError) and err.errno not in (errno.ENOSPC, errno.EDQUOT):
                    return err
                raise
        at_once = 1 if all(hasattr(s, "path") for s in self.sources) else 16
        for object, raw in ahead(read, new, at_once):
            if isinstance(raw, frame.Damage):
                self.leave_out(object.key, str(raw))
            elif isinstance(raw, Exception):
                self.leave_out(object.key, f"it can't be read: {str(raw)[:200]}")
            elif raw is None:
                self.gone.add(object.key)
            else:
                yield object, raw

    # Reports.

    def parallel(self, work, items, at_once, stop=False):
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            for _ in pool.map(work if stop else lambda item: self.attempt(work, item), items):
                pass

    def attempt(self, work, partition, last=False):
        """Does the work, and goes on with others if it fails."""
        try:
            work(partition)
        except Exception as err:
            with self.lock:
                if type(err).__name__ == "OutOfMemoryException" and not last:
                    self.short_of_memory.append(partition)
                    return
                self.failed.append(partition)
            text = str(err) if isinstance(err, Failure) else f"{type(err).__name__}: {quote(str(err)[:500])}"
            self.say({"partition": partition, "error": text}, f"{partition} failed: {text}", error=True)

    def leave_out(self, key, problem):
        with self.lock:
            known = key in self.left_out
            self.left_out[key] = problem
        if not known:
            self.say({"object": key, "left_out": problem}, f"left out {quote(key)}: {quote(problem)}", error=True)

    def say(self, value, text, error=False):
        with self.lock:
            if self.options.json:
                print(json.dumps(value), flush=True)
            else:
                print(text, flush=True, file=sys.stderr if error else sys.stdout)

    def report(self):
        for partition, table in sorted(self.tables.items()):
            if not table.closed and self.selected(partition) and partition not in self.written:
                why = self.open_reasons(partition)
                if why:
                    self.say({"partition": partition, "rows": table.rows, "closed": False, "why": why[:10]}, f"{partition}: {table.rows} rows; {opened(why)}")
        open_ones = sum(not t.closed for t in self.tables.values())
        total = {**self.sum, "left_out": len(self.left_out), "failed": len(self.failed), "open": open_ones, "closed": len(self.tables) - open_ones}
        self.say({"sum": total}, f"{total['objects']} objects, {total['new']} of them new with {total['records']} records; {total['repeated']} rows repeated, "
                 f"{total['left_out']} objects left out, {total['expired']} expired; {total['closed']} of {len(self.tables)} partitions are closed")
        return 1 if self.failed else 2 if self.left_out else 0


def ahead(work, items, at_once):
    """Yields (item, work(item)) in order, and works on the next ones meanwhile."""
    if at_once == 1:
        for item in items:
            yield item, work(item)
        return
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        running = []
        for item in items:
            running.append((item, pool.submit(work, item)))
            if len(running) >= 2 * at_once:
                first, result = running.pop(0)
                yield first, result.result()
        for item, result in running:
            yield item, result.result()


def opened(why):
    return f"open: {quote(why[0])}" + (f" and {len(why) - 1} more" if len(why) > 1 else "")


def quote(text):
    """Returns text of strangers so that it can't control a terminal."""
    return json.dumps(text)
