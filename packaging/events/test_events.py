"""Tests of the receiver without a bucket: python -m unittest discover -s packaging/events"""

import argparse
import contextlib
import io
import logging
import os
import resource
import tempfile
import unittest
import unittest.mock

import zstandard

import events
import objects


def key(log, first, last=None):
    return f"dt=2026-11-23/hour=08/edge-{log:016x}-{first:020}-{last or first:020}-{1:016x}.ndjson.zst"


def frame(*usages):
    lines = (b'{"id":"%d","received_at":"x","via":"http","client":null,"usage":%s}\n' % (n, usage) for n, usage in enumerate(usages))
    return zstandard.ZstdCompressor(write_checksum=True).compress(b"".join(lines))


class Answer(io.BytesIO):
    def __init__(self, content):
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content)), "Date": "Mon, 23 Nov 2026 12:00:00 GMT"}


class Bucket:
    """Has these objects, or raises these errors for them."""

    def __init__(self, contents):
        self.contents, self.deletes = contents, None

    def list(self):
        return [(k, 3600) for k in sorted(self.contents)]

    @contextlib.contextmanager
    def call(self, method, k):
        if method == "DELETE" and self.deletes:
            raise self.deletes
        if method == "DELETE":
            del self.contents[k]
        elif isinstance(self.contents[k], Exception):
            raise self.contents[k]
        yield Answer(self.contents.get(k, b""))


class Events(unittest.TestCase):
    def setUp(self):
        logging.disable()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.state = events.State(os.path.join(directory.name, "state"))
        self.addCleanup(self.state.db.close)

    def test_objects_that_are_not_returned_hold_up_no_others(self):
        for n, error in enumerate((objects.Refused("status 403"), OSError("status 500"))):
            bucket = Bucket({key(n, seq): error if seq < 5 else frame(b"{}") for seq in range(1, 9)})
            for _ in range(3):
                with contextlib.suppress(OSError):
                    events.reconcile(bucket, self.state, None)
            self.assertEqual(self.state.counts()["done"], 4 * (n + 1))

    def test_objects_are_handled_where_none_can_be_deleted(self):
        bucket = Bucket({key(1, seq): frame(b"{}") for seq in range(1, 4)})
        for bucket.deletes in (objects.Refused("status 403"), OSError("status 500")):
            with contextlib.suppress(OSError):
                events.reconcile(bucket, self.state, 60)
            self.assertEqual(self.state.counts()["done"], 3)

    def test_the_newest_object_of_a_log_stays(self):
        bucket = Bucket({key(log, seq): frame(b"{}") for log in (1, 2) for seq in range(1, 4)})
        events.reconcile(bucket, self.state, 60)
        self.assertEqual(sorted(bucket.contents), [key(1, 3), key(2, 3)])

    def test_keys_need_not_be_text(self):
        names = ["%FE", "%FF", "a+b", "%F0%90%80%80", "dt"]
        page = "<r>" + "".join(f"<Contents><Key>{n}</Key><LastModified>2026-11-23T08:00:00Z</LastModified></Contents>" for n in sorted(names, key=objects.urllib.parse.unquote_to_bytes)) + "</r>"
        bucket = object.__new__(objects.Bucket)
        bucket.prefix = ""
        bucket.call = lambda *a, **k: contextlib.nullcontext(Answer(page.encode()))
        self.assertEqual(len(list(bucket.list())), len(names))

    def test_a_small_object_does_not_take_much_memory_or_time(self):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for text in (b"\n" * (1 << 28), b"x" * (1 << 28)):
            bomb = zstandard.ZstdCompressor(write_checksum=True).compress(text)
            self.assertRaises(ValueError, list, objects.records(io.BytesIO(bomb), objects.MAX_SEQ, None))
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 1 << 20)  # KiB; it includes the bomb
        many = frame(*[b'{"a":"%s"}' % (b"x" * (1 << 20))] * 40)
        with unittest.mock.patch("objects.MAX_LINES", 32 << 20):
            self.assertRaises(ValueError, list, objects.records(io.BytesIO(many), objects.MAX_SEQ, None))

    def test_the_largest_usage_is_a_record(self):
        usage = b'{"a":"%s"}' % os.urandom((8 << 20) - 4).hex().encode()
        self.assertEqual([r[4].encode() for r in objects.records(io.BytesIO(frame(usage, b"{}", usage)), 3, None)], [usage, b"{}", usage])

    def test_durations(self):
        self.assertEqual(events.duration("1.5h"), 5400)
        for bad in ("", "5", "5x", "nans", "-5m", "infd"):
            self.assertRaises(argparse.ArgumentTypeError, events.duration, bad)


if __name__ == "__main__":
    unittest.main()
