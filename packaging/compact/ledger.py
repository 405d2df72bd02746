"""The bookkeeping of a compaction: which objects are in a file or table.

Pure functions, without input or output. A ledger is a dict that is stored as compact JSON,
in the same commit as the rows that it describes:

    {"format": 1,
     "objects": {"<log id>": {"<node>": {"<run> <partition>": [[first, records, records, ...], ...]}}},
     "beside": ["dt=.../hour=.../<node>-<log id>-<first>-<last>-<run>~xxxxxxxx.ndjson.zst", ...]}

A chain [first, n1, n2, ...] stands for objects whose seqs follow one another: the first one
has the seqs first to first+n1-1, the next one begins at first+n1. So a ledger names each
object exactly, and the seq ranges of each log and run follow from it (ranges).

Rules, for every program that keeps such a ledger:

- An object is in the rows if the ledger names it (covers). Otherwise it is read as a whole,
  and each row whose id is there already is left out. An object that overlaps others (a
  segment that was split after it was shipped, a restored snapshot) is read once and adds
  only what is new. Overlapping seqs alone never prove that records are in: two hosts that
  run from one snapshot of a virtual machine write different records under the same seqs.
- Ids are unique for each record. Only an id derived from an Idempotency-Key (UUIDv8, see
  is_derived) can be in objects of several hours and logs; its usage is the same there.
- A ledger belongs to a set of partitions (one hour, or a day). Objects of two partitions
  are different objects, even if the rest of their names is the same.
- An object that is damaged is never added.
"""

import json
import re
from typing import NamedTuple

FORMAT = 1
MAX_SEQ = 2**63 - 1

_KEY = re.compile(
    r"(dt=(\d{4}-\d\d-\d\d)/hour=([01]\d|2[0-3]))/([^/~]+)-([0-9a-f]{16})-(\d{20})-(\d{20})-([0-9a-f]{16})"
    r"(~[0-9a-f]{8})?\.ndjson\.zst", re.ASCII)


class Object(NamedTuple):
    """An object, as its key describes it."""

    key: str  # without the prefix of the destination
    partition: str  # dt=2026-11-23/hour=08
    node: str
    log: str
    first: int
    last: int
    run: str
    beside: bool  # stored beside an object of the same name with other lines

    @property
    def run_there(self):
        """The run, and the partition, in the ledger."""
        return f"{self.run} {self.partition}"

    @property
    def records(self):
        return self.last - self.first + 1


def parse(key):
    """Returns the Object of a key, or None if collectord writes no such key."""
    m = _KEY.fullmatch(key)
    if not m:
        return None
    partition, day, _, node, log, first, last, run, sha8 = m.groups()
    if not _is_day(day) or not 1 <= int(first) <= int(last) <= MAX_SEQ:
        return None
    return Object(key, partition, node, log, int(first), int(last), run, sha8 is not None)


def _is_day(day):
    year, month, of_month = map(int, day.split("-"))
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= month <= 12 and 1 <= of_month <= (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def is_derived(id):
    """Reports whether an id (a string) was derived from an Idempotency-Key."""
    return id[14] == "8"


def empty():
    return {"format": FORMAT, "objects": {}, "beside": []}


def load(text):
    """Returns the ledger of a JSON text. Raises ValueError for a format that is not known."""
    ledger = json.loads(text)
    if not isinstance(ledger, dict) or ledger.get("format") != FORMAT:
        raise ValueError("its ledger has a format that this version does not know: use a later version")
    return ledger


def dump(ledger):
    """Returns the JSON text of a ledger. Equal ledgers have equal texts."""
    return json.dumps(ledger, separators=(",", ":"), sort_keys=True)


def covers(ledger, objects):
    """Returns the set of those objects that the ledger names."""
    named, beside, found = {}, set(ledger["beside"]), set()
    for o in objects:
        if o.beside:
            if o.key in beside:
                found.add(o)
            continue
        at = (o.log, o.node, o.run_there)
        if at not in named:
            chains = ledger["objects"].get(o.log, {}).get(o.node, {}).get(o.run_there, [])
            named[at] = set(_pairs(chains))
        if (o.first, o.last) in named[at]:
            found.add(o)
    return found


def add(ledger, objects):
    """Returns a new ledger that also names these objects."""
    pairs = {at: set(_pairs(chains)) for at, chains in _runs(ledger)}
    beside = set(ledger["beside"])
    for o in objects:
        if o.beside:
            beside.add(o.key)
        else:
            pairs.setdefault((o.log, o.node, o.run_there), set()).add((o.first, o.last))
    new = empty()
    for (log, node, run), known in pairs.items():
        new["objects"].setdefault(log, {}).setdefault(node, {})[run] = _chains(known)
    new["beside"] = sorted(beside)
    return new


def merge(a, b):
    """Returns a ledger that names the objects of both."""
    new = empty()
    pairs = {}
    for ledger in (a, b):
        for at, chains in _runs(ledger):
            pairs.setdefault(at, set()).update(_pairs(chains))
    for (log, node, run), known in pairs.items():
        new["objects"].setdefault(log, {}).setdefault(node, {})[run] = _chains(known)
    new["beside"] = sorted(set(a["beside"]) | set(b["beside"]))
    return new


def count(ledger):
    """Returns the number of objects that the ledger names."""
    return len(ledger["beside"]) + sum(len(c) - 1 for _, chains in _runs(ledger) for c in chains)


def ranges(ledger):
    """Returns the seqs of each log, whatever the run: {log: [(first, last), ...]}, in order,
    merged where they overlap or touch."""
    found = {}
    for (log, _, _), chains in _runs(ledger):
        found.setdefault(log, []).extend((c[0], c[0] + sum(c[1:]) - 1) for c in chains)
    for key in ledger["beside"]:
        o = parse(key)
        if o:
            found.setdefault(o.log, []).append((o.first, o.last))
    return {log: merged(some) for log, some in found.items()}


def merged(some):
    """Returns ranges in order, merged where they overlap or touch."""
    done = []
    for first, last in sorted(some):
        if done and first <= done[-1][1] + 1:
            done[-1] = (done[-1][0], max(done[-1][1], last))
        else:
            done.append((first, last))
    return done


def _runs(ledger):
    for log, nodes in ledger["objects"].items():
        for node, runs in nodes.items():
            for run, chains in runs.items():
                yield (log, node, run), chains


def _pairs(chains):
    for chain in chains:
        first = chain[0]
        for records in chain[1:]:
            yield first, first + records - 1
            first += records


def _chains(pairs):
    """Returns the chains of a set of (first, last)."""
    chains, ending = [], {}  # ending: the next seq of a chain -> chains
    for first, last in sorted(pairs):
        waiting = ending.get(first)
        chain = waiting.pop() if waiting else None
        if chain is None:
            chain = [first]
            chains.append(chain)
        chain.append(last - first + 1)
        ending.setdefault(last + 1, []).append(chain)
    return chains
