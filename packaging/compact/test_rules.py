"""Tests of the pure rules: python -m unittest discover -s packaging/compact"""

import errno
import os
import random
import tempfile
import time
import unittest
import unittest.mock

import zstandard

import closed
import evidence
import footer
import frame
import ledger
import places

KEY = "dt=2026-11-23/hour=08/%s-%016x-%020d-%020d-%016x%s.ndjson.zst"


def obj(first, last, log=7, run=1, node="edge-1-x", beside="", hour=8):
    return ledger.parse((KEY % (node, log, first, last, run, beside)).replace("hour=08", f"hour={hour:02}"))


class Ledger(unittest.TestCase):
    def test_parses_what_collectord_writes(self):
        o = obj(1, 200)
        self.assertEqual((o.partition, o.node, o.log, o.first, o.last, o.run, o.beside, o.records),
                         ("dt=2026-11-23/hour=08", "edge-1-x", "%016x" % 7, 1, 200, "%016x" % 1, False, 200))
        self.assertTrue(obj(1, 2, beside="~0123abcd").beside)

    def test_parses_nothing_else(self):
        good = KEY % ("n", 1, 1, 2, 3, "")
        self.assertIsNotNone(ledger.parse(good))
        for bad in (good[:-1], "x" + good, good.replace("hour=08", "hour=24"), good.replace("11-23", "02-30"), KEY % ("n", 1, 0, 2, 3, ""),
                    KEY % ("n", 1, 3, 2, 3, ""), KEY % ("n", 1, 1, 2**63, 3, ""), KEY % ("", 1, 1, 2, 3, ""), KEY % ("a/b", 1, 1, 2, 3, ""),
                    (KEY % ("n", 1, 1, 2, 0xABC, "")).replace("abc", "ABC"), KEY % ("n", 1, 1, 2, 3, "~12"), good + "\n"):
            self.assertIsNone(ledger.parse(bad), bad)

    def test_names_exactly_what_was_added(self):
        rng = random.Random(1)
        for _ in range(300):
            every = [obj(a := rng.randrange(1, 40), a + rng.randrange(6), rng.randrange(2), rng.randrange(2), beside=rng.choice(["", "", "~0123abcd"])) for _ in range(40)]
            inside = set(every[:20])
            some = ledger.add(ledger.add(ledger.empty(), every[:7]), every[5:20])
            some = ledger.load(ledger.dump(some))
            self.assertEqual(ledger.covers(some, every), {o for o in every if o in inside})
            self.assertEqual(ledger.count(some), len(inside))
            both = ledger.merge(ledger.add(ledger.empty(), every[10:20]), ledger.add(ledger.empty(), every[:12]))
            self.assertEqual(ledger.dump(both), ledger.dump(some))
            for log, found in ledger.ranges(some).items():
                seqs = {s for o in inside if o.log == log for s in range(o.first, o.last + 1)}
                self.assertEqual(seqs, {s for first, last in found for s in range(first, last + 1)})

    def test_pieces_of_a_segment_are_not_covered_by_it(self):
        whole = ledger.add(ledger.empty(), [obj(1, 200)])
        self.assertEqual(ledger.covers(whole, [obj(1, 100), obj(101, 200), obj(1, 200, run=2)]), set())

    def test_objects_of_two_hours_are_two_objects(self):
        day = ledger.add(ledger.empty(), [obj(1, 200)])
        self.assertEqual(ledger.covers(day, [obj(1, 200), obj(1, 200, hour=9)]), {obj(1, 200)})

    def test_another_format_is_an_error(self):
        for text in ('{"format":2}', "[]", "{"):
            self.assertRaises(ValueError, ledger.load, text)


class Frame(unittest.TestCase):
    def setUp(self):
        self.text = b"".join(b"%d %d\n" % (i, i * i) for i in range(60000))
        self.good = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(self.text)

    def test_accepts_one_frame(self):
        for size in (True, False):
            for text in (b"", b"x\n", self.text, bytes(10**6)):
                frame.check_frame(zstandard.ZstdCompressor(write_checksum=True, write_content_size=size).compress(text))

    def test_rejects_anything_else(self):
        for bad in (b"", self.good[:4], self.good[:-1], self.good[:99], self.good + b"\0", self.good * 2, b"x" + self.good,
                    zstandard.ZstdCompressor(write_checksum=False).compress(self.text)):
            self.assertRaises(frame.Damage, frame.check_frame, bad)


    def test_an_object_can_not_fill_the_disk(self):
        class Endless:
            def read(self, size):
                return b"x" * (size - 1) + b"\n"

        class Count:
            size = 0

            def write(self, some):
                self.size += len(some)
        out = Count()
        self.assertRaises(frame.Damage, frame.copy_lines, Endless(), out, ledger.MAX_SEQ)
        self.assertLessEqual(out.size, frame.MAX_LINES)


class Footer(unittest.TestCase):
    def test_a_damaged_footer_is_an_error(self):
        doubles = bytes([0x19, 0xF7]) + b"\xff" * 6 + b"\x7f"  # a list of 2**49 of them
        for bad in (doubles, b"", b"\x1c" * 5000, b"\x15", b"\x18\x7fx"):
            self.assertRaises(ValueError, footer.parse, bad + bytes(8))


class Places(unittest.TestCase):
    def test_a_file_that_can_not_be_linked_is_copied(self):
        with tempfile.TemporaryDirectory() as directory:
            folder = places.Folder(directory)
            folder.overwrite("dt=1/a", b"content")
            for error in (None, errno.EXDEV, errno.EPERM):
                path = os.path.join(directory, f"copy-{error}")
                with unittest.mock.patch("os.link", os.link if error is None else unittest.mock.Mock(side_effect=OSError(error, "no link"))):
                    folder.fetch(folder.stat("dt=1/a"), path)
                    self.assertRaises(places.Lost, folder.fetch, folder.stat("dt=1/a")._replace(tag="x"), path + "-x")
                    self.assertRaises(places.Lost, folder.fetch, places.File("dt=1/b", 1, "x", 0), path + "-b")
                with open(path, "rb") as f:
                    self.assertEqual(f.read(), b"content")


class Closed(unittest.TestCase):
    def reasons(self, known, beat=None, lost=(), partition="dt=2026-11-23/hour=08"):
        return closed.open_reasons(partition, [closed.log("n", known, lost, beat)])

    def known(self, first, last, hour, run="1"):
        h, _ = closed.hours_of("dt=2026-11-23/hour=08")
        return closed.Known(first, last, run, h + hour, h + hour)

    def beat(self, minutes, last, confirmed=None, oldest=0, retired=False, cloned=False):
        at = closed.hours_of("dt=2026-11-23/hour=08")[0] * 3600 + 60 * minutes
        return closed.Heartbeat("n", at, last, confirmed or last + 1, at - 60 * oldest, retired, cloned)

    def test_many_notes_and_gaps_take_no_longer_each(self):
        known = [self.known(10 * i + 1, 10 * i + 5, 0) for i in range(40000)]
        notes = [(10 * i + 6, 10 * i + 10) for i in range(40000)] + [(9, 7), (1, 3)]
        began = time.process_time()
        self.assertEqual(closed.log("n", known, notes, None).gaps, [])
        self.assertLess(time.process_time() - began, 5)

    def test_a_later_object_confirms_the_hour(self):
        self.assertEqual(self.reasons([self.known(1, 5, 0), self.known(6, 9, 1)]), [])
        self.assertTrue(self.reasons([self.known(1, 5, 0)]))
        self.assertTrue(self.reasons([self.known(1, 5, -1)]))

    def test_a_gap_may_hide_records_of_the_hours_around_it(self):
        for left, right, free in ((-2, -1, True), (-1, 0, False), (-1, 1, False), (0, 0, False), (0, 1, False), (1, 2, True)):
            known = [self.known(1, 5, left), self.known(7, 9, right), self.known(10, 11, 3)]
            self.assertEqual(not self.reasons(known), free, (left, right))
            self.assertEqual(self.reasons(known, lost=[(6, 6)]), [])

    def test_what_came_before_the_first_object_is_not_known(self):
        later = self.known(8, 9, 5)
        self.assertEqual(self.reasons([self.known(3, 7, -1), later]), [])
        self.assertTrue(self.reasons([self.known(3, 7, 0), later]))
        self.assertTrue(self.reasons([later]))

    def test_a_heartbeat_confirms_the_hour(self):
        known = [self.known(1, 5, 0)]
        self.assertEqual(self.reasons(known, self.beat(61, 5)), [])
        self.assertEqual(self.reasons(known, self.beat(70, 8, 6, oldest=5)), [])
        self.assertEqual(self.reasons([], self.beat(61, 0)), [])
        self.assertEqual(self.reasons(known, self.beat(30, 5, retired=True)), [])
        for beat in (self.beat(59, 5), self.beat(60, 5), self.beat(70, 8, 6, oldest=30), self.beat(61, 6), self.beat(61, 5, cloned=True), self.beat(30, 6, 6, retired=True)):
            self.assertTrue(self.reasons(known, beat), beat)

    def test_two_runs_with_the_same_seqs_leave_their_hours_open(self):
        self.assertTrue(self.reasons([self.known(1, 5, 0), self.known(4, 9, 0, run="2"), self.known(10, 11, 1, run="2")]))

    def test_what_is_stored_beside_leaves_its_hour_open(self):
        def reasons(*objects):
            raw = {"dt=2026-11-23/hour=08": [o for o in objects if "hour=08" in o.key], "dt=2026-11-23/hour=09": [o for o in objects if "hour=09" in o.key]}
            return evidence.Evidence([], raw, {}, []).reasons("dt=2026-11-23/hour=08", [])
        self.assertEqual(reasons(obj(1, 5), obj(6, 9, hour=9)), [])
        self.assertTrue(reasons(obj(1, 5), obj(1, 5, beside="~0123abcd"), obj(6, 9, hour=9)))

    def test_only_partitions_are_partitions(self):
        for good in ("dt=2026-11-23", "dt=2026-11-23/hour=23"):
            self.assertTrue(closed.is_partition(good))
        for bad in ("dt=2026-02-30", "dt=2026-11-23/hour=24", "dt=2026-11-23.old/hour=08", "dt=2026-11-23/hour=08.old", "dt=\x1b[2J"):
            self.assertFalse(closed.is_partition(bad))

    def test_a_day_has_24_hours(self):
        self.assertEqual(closed.hours_of("dt=1970-01-02"), (24, 47))

    def test_a_forged_heartbeat_confirms_nothing(self):
        good = {"format": 1, "node": "n", "log_id": "a", "at": "2026-11-23T08:00:00.5Z", "last_seq": 5, "confirmed_below": 6,
                "oldest_unshipped_seconds": 0, "retired": False, "cloned": False}
        self.assertEqual(closed.heartbeat("n", "a", good).last, 5)
        for change in ({"node": "m"}, {"at": 5}, {"at": "yesterday"}, {"last_seq": None}, {"format": 2}, {"last_seq": float("inf")},
                       {"oldest_unshipped_seconds": float("nan")}):
            self.assertIsNone(closed.heartbeat("n", "a", good | change))
        for age in (10**15, 10**400):
            beat = closed.heartbeat("n", "a", good | {"oldest_unshipped_seconds": age})
            self.assertTrue(self.reasons([self.known(1, 5, 0)], beat))
        self.assertIsNone(closed.heartbeat("n", "a", []))


if __name__ == "__main__":
    unittest.main()
