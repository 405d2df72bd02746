"""The objects of collectord in a bucket of S3: which there are, and the records of one."""

import contextlib
import datetime
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import re
import sys
import urllib.parse
import xml.etree.ElementTree

import zstandard

MAX_OBJECT = 1 << 29  # bytes, compressed; a segment has at most 256 MiB before compression
MAX_LINE = (16 << 20) + (64 << 10)  # as in collectord
MAX_LINES = 2 << 30  # bytes of the lines of an object: small records become larger lines
MAX_WINDOW = 8 << 20
MAX_SEQ = 2**63 - 1
TIMEOUT = 60  # seconds without progress of a connection

KEY = re.compile(
    r"dt=(\d{4}-\d\d-\d\d)/hour=([01]\d|2[0-3])/"
    r"([A-Za-z0-9._-]{1,63}-[0-9a-f]{16})-(\d{20})-(\d{20})-[0-9a-f]{16}(~[0-9a-f]{8})?\.ndjson\.zst",
    re.ASCII,
)
AWAY = (OSError, http.client.HTTPException, xml.etree.ElementTree.ParseError)  # the bucket can't be read now
DAMAGED = (ValueError, LookupError, TypeError, RecursionError, zstandard.ZstdError)  # an object is not what its key says


class Gone(Exception):
    """The bucket does not have the object."""


class Refused(Exception):
    """The bucket answers, but does not do this with the object: access is denied, or it is in an archive."""


def parse(key):
    """Returns the log, first and last seq in the key of an object, or None if it is no such key."""
    m = KEY.fullmatch(key)
    if m is None:
        return None
    try:
        datetime.date.fromisoformat(m[1])
    except ValueError:
        return None
    first, last = int(m[4]), int(m[5])
    return (m[3], first, last) if 1 <= first <= last <= MAX_SEQ else None


class Bucket:
    """A bucket of S3, addressed by path. Every call is signed, and sent once."""

    def __init__(self, url):
        url = urllib.parse.urlsplit(url)
        self.name, _, prefix = url.path.strip("/").partition("/")
        if url.scheme not in ("http", "https") or not url.netloc or not self.name:
            sys.exit("--bucket must be http(s)://host/bucket or http(s)://host/bucket/prefix")
        self.prefix = prefix and prefix + "/"
        self.host, self.region = url.netloc, os.environ.get("AWS_REGION", "us-east-1")
        self.access_key, self.secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        self.connection = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection

    @contextlib.contextmanager
    def call(self, method, key="", **query):
        """Yields the answer to a request. Its status is 2xx."""
        path = urllib.parse.quote(f"/{self.name}/{self.prefix + key}" if key else f"/{self.name}")
        query = "&".join(f"{k}={urllib.parse.quote(v, safe='')}" for k, v in sorted((k.replace("_", "-"), v) for k, v in query.items()))
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope, none = f"{now[:8]}/{self.region}/s3/aws4_request", hashlib.sha256().hexdigest()
        names = "host;x-amz-content-sha256;x-amz-date"
        request = f"{method}\n{path}\n{query}\nhost:{self.host}\nx-amz-content-sha256:{none}\nx-amz-date:{now}\n\n{names}\n{none}"
        signature = ("AWS4" + self.secret).encode()
        for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"):
            signature = hmac.digest(signature, part.encode(), "sha256")
        connection = self.connection(self.host, timeout=TIMEOUT)
        try:
            connection.request(method, path + ("?" + query if query else ""), headers={
                "x-amz-date": now, "x-amz-content-sha256": none,
                "Authorization": f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature.hex()}",
            })
            response = connection.getresponse()
            if response.status == 404 and key:
                raise Gone("the bucket does not have it")
            if response.status // 100 != 2:
                problem = f"{method} {path}: status {response.status}: {response.read(500)!r}"
                raise Refused(problem) if key and response.status // 100 == 4 and response.status not in (408, 429) else OSError(problem)
            yield response
        finally:
            connection.close()

    def list(self):
        """Yields key and age in seconds, by the bucket's own clock, of each object."""
        token, last = {}, b""
        while True:
            with self.call("GET", list_type="2", encoding_type="url", prefix=self.prefix + "dt=", **token) as response:
                now = email.utils.parsedate_to_datetime(response.headers["Date"])
                page = xml.etree.ElementTree.fromstring(response.read(MAX_OBJECT))
            text = lambda of, name: of.findtext("{*}" + name) or ""
            for entry in page.iterfind("{*}Contents"):
                key = urllib.parse.unquote_to_bytes(text(entry, "Key").replace("+", " "))  # which need not be UTF-8
                if key <= last:
                    raise OSError(f"the listing does not advance: {key!r} after {last!r}")
                last = key
                yield key.decode(errors="replace").removeprefix(self.prefix), (now - datetime.datetime.fromisoformat(text(entry, "LastModified"))).total_seconds()
            if text(page, "IsTruncated") != "true":
                return
            token = {"continuation_token": text(page, "NextContinuationToken")}


def records(file, count, sha256):
    """Yields id, received_at, via, client and usage of each record of an object; usages byte for byte.

    Raises one of DAMAGED unless the file is one whole zstd frame of so many lines.
    """
    frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    pending, seen, size, digest = bytearray(), 0, 0, hashlib.sha256()
    while part := file.read(1 << 10):  # which become 32 MiB at most
        if frame.eof:
            raise ValueError("something follows its frame")
        text = frame.decompress(part)
        digest.update(text)
        size += len(text)
        begin, at = 0, len(pending)
        pending += text
        while (end := pending.find(b"\n", at)) >= 0:
            line = bytes(pending[begin:end])
            begin = at = end + 1
            seen += 1
            if seen > count:
                raise ValueError(f"it has more than {count} lines")
            # In a string the quotes would be escaped: this is the column.
            head, _, usage = line.partition(b',"usage":{')
            columns = json.loads(head + b"}")
            record = *(columns[name] for name in ("id", "received_at", "via", "client")), "{" + usage[:-1].decode()
            if not usage.endswith(b"}}") or not all(isinstance(v, str) or v is None and i == 3 for i, v in enumerate(record)):
                raise ValueError("a line is not a record")
            yield record
        del pending[:begin]
        if len(pending) > MAX_LINE or size > MAX_LINES:
            raise ValueError(f"it has a line of more than {MAX_LINE} bytes, or more than {MAX_LINES} in all")
    if not frame.eof or frame.unused_data or pending:
        raise ValueError("it is not one whole frame of lines")
    if seen != count:
        raise ValueError(f"it has {seen} lines, and its key says {count}")
    if sha256 and digest.hexdigest() != sha256:
        raise ValueError("its lines have another SHA-256 than its metadata")
