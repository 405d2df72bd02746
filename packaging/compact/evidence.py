"""What the bucket shows of each log: objects, loss notes, heartbeats. The rule is in closed."""

import concurrent.futures
import json
import re

import closed
import ledger

MAX_HEARTBEAT = 128 << 10  # bytes, as in collectord

_NODE = re.compile(r"_collectord/nodes/([^/]+)-([0-9a-f]{16})\.json")
_LOST = re.compile(r"_collectord/lost/[^/]+-([0-9a-f]{16})-(\d{20})-(\d{20})-[0-9a-f]{16}\.json")


class Evidence:
    def __init__(self, sources, raw, tables, gone):
        self.gone = set(gone)
        self.known = {}  # log -> {Known: key or None}
        self.names = {}
        self.lost, self.beats = {}, {}
        self.logs = None
        for table in tables.values():
            for log, nodes in table.ledger["objects"].items():
                for node, runs in nodes.items():
                    self.names[log] = node
                    for there, chains in runs.items():
                        run, _, partition = there.partition(" ")
                        begin, end = closed.hours_of(partition)
                        for c in chains:
                            self._known(log, closed.Known(c[0], c[0] + sum(c[1:]) - 1, run, begin, end), None)
            for key in table.ledger["beside"]:
                if object := ledger.parse(key):
                    self._object(object)
        for partition, objects in raw.items():
            covered = ledger.covers(tables[partition].ledger, objects) if partition in tables else ()
            for object in objects:
                if object not in covered:
                    self._object(object)
        for source in sources:
            self._notes(source)

    def _known(self, log, known, key):
        self.known.setdefault(log, {})[known] = key

    def _object(self, o):
        begin, end = closed.hours_of(o.partition)
        self.names[o.log] = o.node
        run = o.key if o.beside else o.run  # somebody else wrote what is stored beside
        self._known(o.log, closed.Known(o.first, o.last, run, begin, end), o.key)

    def _notes(self, source):
        for key, _ in source.list("_collectord/lost/"):
            if m := _LOST.fullmatch(key):
                self.lost.setdefault(m[1], []).append((int(m[2]), int(m[3])))
        named = [m for key, _ in source.list("_collectord/nodes/") if (m := _NODE.fullmatch(key))]

        def read(m):
            try:
                return closed.heartbeat(m[1], m[2], json.loads(source.read(m[0], limit=MAX_HEARTBEAT)))
            except (OSError, ValueError, RecursionError):
                return None
            except Exception as err:
                if hasattr(err, "response"):  # the storage does not return it
                    return None
                raise
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for m, beat in zip(named, pool.map(read, named)):
                self.names[m[2]] = m[1]
                # A host whose heartbeat can't be read has not confirmed anything.
                other = self.beats.get(m[2])
                if m[2] not in self.beats or beat and other and beat.at > other.at:
                    self.beats[m[2]] = beat

    def reasons(self, partition, left_out):
        """Returns why the partition is not closed, without the objects that are left out or gone."""
        if self.logs is None:
            self.logs = {log: self._log(log, ()) for log in self.names if log not in self.gone}
        logs = self.logs
        if left_out:
            logs = {**logs, **{o.log: self._log(o.log, {o.key for o in left_out}) for o in left_out if o.log in logs}}
        why = [f"{o.node} {o.log}: an object was left out, or is gone" for o in left_out]
        return why + closed.open_reasons(partition, logs.values())

    def _log(self, log, without):
        known = [k for k, key in self.known.get(log, {}).items() if key is None or key not in without]
        return closed.log(f"{self.names[log]} {log}", known, self.lost.get(log, ()), self.beats.get(log))
