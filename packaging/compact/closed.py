"""The rule by which an hour (or day) is closed, as pure functions. docs/compaction.md
describes it. Hours are counted from 1970, as in package bucket of collectord."""

import bisect
import calendar
import re
import time
from typing import NamedTuple

import ledger


class Known(NamedTuple):
    """Records that are known of a log: an object that is there, or part of a ledger."""

    first: int
    last: int
    run: str
    begin: int  # first and last hour in which they can have been received
    end: int


class Gap(NamedTuple):
    """What a log lacks: records that may have been received from hour begin to end."""

    begin: int
    end: int
    why: str


class Heartbeat(NamedTuple):
    node: str
    at: float  # seconds since 1970
    last: int  # seq
    confirmed_below: int
    oldest_at: float  # when the oldest record was received that is not shipped; or at
    retired: bool
    cloned: bool


class Log(NamedTuple):
    """What is known of a log."""

    name: str  # for people
    gaps: list
    tail: int  # hour of the record with the highest seq; -1: no record
    last: int  # the highest seq; 0: none
    heartbeat: Heartbeat


_ALWAYS = 1 << 40  # an hour after all others
_MARGIN = 60  # seconds in which a host stores a record that it has received


def is_partition(text):
    """Reports whether hours_of accepts a text from the bucket."""
    try:
        return bool(re.fullmatch(r"dt=\d{4}-\d\d-\d\d(/hour=([01]\d|2[0-3]))?", text, re.ASCII) and hours_of(text))
    except ValueError:
        return False


def hours_of(partition):
    """Returns the first and the last hour of dt=2026-11-23/hour=08, or of dt=2026-11-23."""
    day, _, hour = partition.partition("/hour=")
    begin = calendar.timegm(time.strptime(day, "dt=%Y-%m-%d")) // 3600
    return (begin + int(hour), begin + int(hour)) if hour else (begin, begin + 23)


def heartbeat(node, log, value):
    """Returns the Heartbeat of parsed JSON, or None if no host writes that."""
    try:
        if value["format"] != 1 or value["node"] != node or value["log_id"] != log:
            return None
        stamp, fraction = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z", value["at"]).groups()
        at = calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S")) + float(fraction or 0)
        age = min(max(0, int(value["oldest_unshipped_seconds"])), at)  # so that the time can be printed
        return Heartbeat(node, at, int(value["last_seq"]), int(value["confirmed_below"]), at - age, bool(value["retired"]), bool(value["cloned"]))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def log(name, known, lost, beat):
    """Returns the Log of what is known: Known records, ranges (first, last) of loss notes,
    and the heartbeat or None."""
    gaps, covered, left, run, runs_end = [], 0, None, "", 0
    notes = ledger.merged(note for note in lost if note[0] <= note[1])

    def missing(first, last, begin, end):
        for at in range(bisect.bisect_left(notes, first, key=lambda note: note[1]), len(notes)):
            note_first, note_last = notes[at]
            if note_first > last:
                break
            if note_first > first:
                gaps.append(Gap(begin, end, f"records {first} to {note_first - 1} are not there"))
            first = note_last + 1
        if first <= last:
            gaps.append(Gap(begin, end, f"records {first} to {last} are not there"))

    for k in sorted(known):
        if k.first > covered + 1:
            begin, end = (-1, k.end) if left is None else (min(left.begin, k.begin), max(left.end, k.end))
            missing(covered + 1, k.first - 1, begin, end)
        if k.run != run and run and k.first <= runs_end:
            gaps.append(Gap(min(left.begin, k.begin), max(left.end, k.end), f"record {k.first} was written twice"))
        if k.last > covered:
            covered, left = k.last, k
            run, runs_end = k.run, k.last
    tail = left.end if left else -1
    if beat and beat.confirmed_below - 1 > covered:
        missing(covered + 1, beat.confirmed_below - 1, left.begin if left else -1, _ALWAYS)
    return Log(name, gaps, tail, covered, beat)


def open_reasons(partition, logs):
    """Returns why the partition is not closed: a list of texts, empty if it is closed."""
    begin, end = hours_of(partition)
    over = (end + 1) * 3600
    why = []
    for l in logs:
        for gap in l.gaps:
            if gap.begin <= end and gap.end >= begin:
                why.append(f"{l.name}: {gap.why}")
        beat = l.heartbeat
        if beat and beat.cloned:
            why.append(f"{l.name}: two hosts write this log")
        if l.tail > end:
            continue  # a later record is there, so every earlier one is there or a gap
        if not beat:
            why.append(f"{l.name}: no heartbeat, and no later object")
        elif beat.retired and beat.confirmed_below > beat.last:
            continue
        elif beat.at < over + _MARGIN:
            why.append(f"{l.name}: its host has not been heard of since {_text(beat.at)}")
        elif beat.oldest_at < over:
            why.append(f"{l.name}: its host has records from {_text(beat.oldest_at)} that are not shipped")
    return why


def _text(at):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
