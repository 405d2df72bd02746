#!/usr/bin/env python3
"""Handles each object of a bucket once, as the bucket announces it.

    export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… EVENTS_TOKEN=…
    events.py --bucket http://minio.example:9000/usages/prod --state events.sqlite

The bucket posts a notification for each new object. It is answered once the object's key is
in the state, so that an answered notification is never lost; a listing finds the objects of
notifications that never arrived. An object's records and the mark that it is done are one
transaction: an object is handled exactly once, however often it is announced, and whenever
this program is killed. Nothing in a notification is trusted: a key must be one of collectord,
and the object must be what its key says.

Change insert() to handle the records in another way. Needs Python 3.11 and zstandard.
"""

import argparse
import contextlib
import hmac
import itertools
import json
import logging
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.parse
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from objects import AWAY, DAMAGED, MAX_OBJECT, TIMEOUT, Bucket, Gone, Refused, parse, records

MAX_NOTIFICATION = 1 << 20  # bytes; one has about 1 KiB

log = logging.getLogger("events")


class State:
    """The queue, and what was made of the objects, in one database: one transaction at a time."""

    def __init__(self, path):
        self.db = sqlite3.connect(path, timeout=TIMEOUT, isolation_level=None, check_same_thread=False)
        self.turn = threading.Lock()
        self.db.executescript("""
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS objects (
                key TEXT PRIMARY KEY,
                state TEXT NOT NULL DEFAULT 'queued', -- then 'done', or 'failed' until it is announced or listed again
                records INTEGER, known INTEGER,       -- of the records, how many ids were there already
                reason TEXT) WITHOUT ROWID;
            CREATE INDEX IF NOT EXISTS queued ON objects (reason IS NOT NULL, key) WHERE state = 'queued';
            CREATE TABLE IF NOT EXISTS usages (
                id TEXT PRIMARY KEY, received_at TEXT NOT NULL, via TEXT NOT NULL, client TEXT, usage TEXT NOT NULL) WITHOUT ROWID;
        """)

    @contextlib.contextmanager
    def transaction(self):
        """Yields the database. What was done is durable at the end, or was not done."""
        with self.turn:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                self.db.execute("ROLLBACK")
                raise

    def queue(self, keys):
        """Queues the objects. Those that are done stay done."""
        with self.transaction() as db:
            db.executemany("INSERT INTO objects (key) VALUES (?) ON CONFLICT (key) DO UPDATE SET state = 'queued' WHERE state = 'failed'",
                           ((key,) for key in keys))

    def next(self):
        """Returns the key of a queued object, or None. Those that failed before come last, so that
        they hold up no others."""
        with self.transaction() as db:
            return next(iter(db.execute("SELECT key FROM objects WHERE state = 'queued' ORDER BY reason IS NOT NULL, key LIMIT 1").fetchone() or ()), None)

    def is_done(self, key):
        with self.transaction() as db:
            return db.execute("SELECT 1 FROM objects WHERE key = ? AND state = 'done'", (key,)).fetchone() is not None

    def fail(self, key, reason):
        """Leaves an object until it is announced or listed again."""
        with self.transaction() as db:
            known = db.execute("SELECT 1 FROM objects WHERE key = ? AND reason = ?", (key, reason)).fetchone()
            db.execute("UPDATE objects SET state = 'failed', reason = ? WHERE key = ? AND state = 'queued'", (reason, key))
        if not known:
            log.error("did not handle %s: %s (it is tried again when it is announced or listed)", key, reason)

    def counts(self):
        with self.transaction() as db:
            row = db.execute("SELECT count(*), total(state = 'done'), total(state = 'queued'), total(state = 'failed'), total(records), "
                             "total(known), (SELECT count(*) FROM usages) FROM objects").fetchone()
        return dict(zip(("objects", "done", "queued", "failed", "records", "known", "ids"), map(int, row)))


def insert(db, record):
    """Handles one record, in the transaction that marks the object as done. Returns whether the id is new.

    An id can be in the bucket twice: if a request with an Idempotency-Key was repeated.
    """
    return db.execute("INSERT INTO usages VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING", record).rowcount


def handle(bucket, state, key):
    """Handles a queued object. The transaction begins once all of it has arrived."""
    _, first, last = parse(key)
    count = last - first + 1
    with tempfile.TemporaryFile() as file:
        with bucket.call("GET", key) as response:
            size = int(response.headers["Content-Length"])
            if size > MAX_OBJECT:
                raise ValueError(f"it has {size} bytes, more than any object of collectord")
            shutil.copyfileobj(response, file)
            sha256 = response.headers.get("x-amz-meta-collectord-sha256")
        if file.tell() != size:
            raise OSError(f"{file.tell()} of {size} bytes arrived")
        file.seek(0)
        with state.transaction() as db:
            if db.execute("SELECT 1 FROM objects WHERE key = ? AND state = 'queued'", (key,)).fetchone() is None:
                return  # another process has handled it
            new = sum(insert(db, record) for record in records(file, count, sha256))
            db.execute("UPDATE objects SET state = 'done', records = ?, known = ?, reason = NULL WHERE key = ?", (count, count - new, key))


def work(bucket, state):
    """Handles what is queued. Raises AWAY once three objects in a row did not arrive."""
    in_row = 0
    while key := state.next():
        try:
            handle(bucket, state, key)
            in_row = 0
        except Gone:
            state.fail(key, "the bucket does not have it")
        except Refused as error:
            state.fail(key, f"the bucket does not return it: {error!r}")
            in_row = 0
        except AWAY as error:
            state.fail(key, f"it did not arrive: {error!r}")
            in_row += 1
            if in_row == 3:
                raise
        except DAMAGED as error:
            state.fail(key, f"it is damaged: {error!r}")


def reconcile(bucket, state, delete_after):
    """Queues every object that the bucket lists, and works. Then deletes those that are done and old, if it is told to."""
    ages = {}
    listing = ((key, age) for key, age in bucket.list() if parse(key))
    while some := dict(itertools.islice(listing, 1000)):
        state.queue(some)
        if delete_after is not None:
            ages.update(some)
    work(bucket, state)
    # The oldest of each log first, and never the newest: audit reports that they expired, and no
    # hole, and not that the log is gone.
    for _, of_log in itertools.groupby(sorted((*parse(key), key) for key in ages), key=lambda parsed: parsed[0]):
        of_log = list(of_log)
        newest = max(last for _, _, last, _ in of_log)
        for _, _, last, key in of_log:
            if last == newest or ages[key] < delete_after or not state.is_done(key):
                break
            try:
                with contextlib.suppress(Gone), bucket.call("DELETE", key):
                    log.info("deleted %s: it is done, and %d s old", key, ages[key])
            except Refused as error:
                log.error("could not delete %s: %r", key, error)
                return


class Receiver(BaseHTTPRequestHandler):
    """Queues what notifications announce."""

    timeout = 10  # seconds that a client may be silent

    def do_POST(self):
        self.send_response(self.receive())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def receive(self):
        """Returns the status of the answer."""
        size = self.headers["Content-Length"] or ""
        if not re.fullmatch("[0-9]{1,9}", size):
            return HTTPStatus.LENGTH_REQUIRED
        if int(size) > MAX_NOTIFICATION:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        body = self.rfile.read(int(size))  # always, since closing with unread bytes can take the answer with it
        if not hmac.compare_digest((self.headers["Authorization"] or "").encode(), b"Bearer " + self.server.token):
            return HTTPStatus.UNAUTHORIZED
        try:
            keys = list(self.announced(json.loads(body)))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return HTTPStatus.BAD_REQUEST
        if keys:
            self.server.state.queue(keys)
            self.server.wake.set()
        return HTTPStatus.OK  # also for what is not ours: the bucket would repeat it for ever

    def announced(self, notification):
        """Yields the keys of new objects of collectord."""
        for record in notification.get("Records") or ():
            path = record["s3"]["bucket"]["name"] + "/" + urllib.parse.unquote_plus(record["s3"]["object"]["key"])
            key = path.removeprefix(self.server.below)
            if "ObjectCreated:" in record["eventName"] and path.startswith(self.server.below) and parse(key):
                yield key

    def log_message(self, format, *args):
        log.debug("%s", format % args)


class Server(ThreadingHTTPServer):
    """Serves a bounded number of notifications at once."""

    daemon_threads = True
    request_queue_size = 128
    places = threading.BoundedSemaphore(64)

    def process_request(self, request, address):
        self.places.acquire()
        super().process_request(request, address)

    def process_request_thread(self, request, address):
        try:
            super().process_request_thread(request, address)
        finally:
            self.places.release()


def duration(text):
    """Returns the seconds of a duration such as 90s, 5m, 24h or 7d."""
    if not re.fullmatch(r"\d+(\.\d+)?[smhd]", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 90s, 5m, 24h or 7d")
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]


def main():
    flags = argparse.ArgumentParser(description="Handles each object of a bucket once, as the bucket announces it.")
    flags.add_argument("--bucket", required=True, help="http(s)://host/bucket/prefix")
    flags.add_argument("--state", required=True, help="the file of the database")
    flags.add_argument("--listen", default="127.0.0.1:8085", help="for notifications")
    flags.add_argument("--reconcile", type=duration, default="10m", help="how often the bucket is listed")
    flags.add_argument("--keep", type=duration, default="5m", help="shipper.keep of the hosts: nothing younger is deleted")
    flags.add_argument("--delete-after", type=duration, help="delete objects that are done and this old (default: never)")
    flags.add_argument("--once", action="store_true", help="list the bucket once, handle what is new, print counts, and exit")
    args = flags.parse_args()
    if args.delete_after is not None and args.delete_after < args.keep:
        flags.error("--delete-after must not be shorter than --keep: hosts look at their objects again until then")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    os.umask(0o077)  # the database contains usages
    bucket, state = Bucket(args.bucket), State(args.state)
    if args.once:
        try:
            reconcile(bucket, state, args.delete_after)
        except AWAY as error:
            sys.exit(f"could not read the bucket: {error!r}")
        counts = state.counts()
        print(json.dumps(counts))
        sys.exit(2 if counts["failed"] else 0)
    host, _, port = args.listen.rpartition(":")
    server = Server((host, int(port)), Receiver)
    server.token, server.below = os.environ["EVENTS_TOKEN"].encode(), f"{bucket.name}/{bucket.prefix}"
    server.state, server.wake = state, threading.Event()
    if len(server.token) < 16:
        flags.error("EVENTS_TOKEN must have 16 characters or more")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log.info("listening on %s", args.listen)
    due, pause = 0, 1
    while True:
        server.wake.clear()
        try:
            if time.monotonic() >= due:
                reconcile(bucket, state, args.delete_after)
                due, pause = time.monotonic() + args.reconcile, 1
                log.info("listed the bucket: %s", json.dumps(state.counts()))
            work(bucket, state)
        except AWAY as error:
            log.warning("could not read the bucket: %r (tries again in %d s)", error, pause)
            due, pause = time.monotonic() + pause, min(2 * pause, 60)
        server.wake.wait(max(0, due - time.monotonic()))


if __name__ == "__main__":
    main()
