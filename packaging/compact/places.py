"""Where objects and Parquet files are: a folder or S3. A file's tag changes with its content."""

import base64
import contextlib
import email.utils
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from typing import NamedTuple
from urllib.parse import unquote, urlparse

OWN = "_compact"  # directory of locks, temporary files and the probe; no reader's glob matches it


class Failure(Exception):
    """What a person has to do something about."""


class Lost(Exception):
    """Another process replaced the file first."""


class File(NamedTuple):
    key: str
    size: int
    tag: str
    modified: float


def open_place(url):
    if url.startswith("s3://"):
        return S3(url)
    if url.startswith("file://"):
        return Folder(unquote(urlparse(url).path))
    if "://" in url:
        raise Failure(f"{url!r} is not a folder, file:///path or s3://bucket/prefix")
    return Folder(url)


class Folder:
    def __init__(self, path):
        self.path, self.url, self.clock = os.path.abspath(path), path, None

    def list(self, prefix="", after=""):
        """Yields (key, File or None) of files below, in no order. Only S3 has the File in
        the listing."""
        self.clock = time.time()
        start = os.path.join(self.path, prefix.rpartition("/")[0])
        waiting = [start]
        while waiting:
            try:
                entries = list(os.scandir(waiting.pop()))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                key = entry.path[len(self.path) + 1:]
                if entry.is_dir(follow_symlinks=False):
                    if (key + "/").startswith(prefix[:len(key) + 1]) and (key >= after[:len(key)]):
                        waiting.append(entry.path)
                elif key.startswith(prefix) and key >= after and entry.is_file(follow_symlinks=False):
                    yield key, None

    def stat(self, key):
        """Returns the File, or None if there is none."""
        try:
            s = os.stat(os.path.join(self.path, key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return File(key, s.st_size, _tag(s), s.st_mtime)

    def read(self, key, start=0, end=None, tag=None, limit=None):
        """Returns the content, or what is from start to end; of more than limit only the beginning."""
        with open(os.path.join(self.path, key), "rb", buffering=0) as f:
            if tag and _tag(os.fstat(f.fileno())) != tag:
                raise Lost(key)
            if start:
                f.seek(start)
            return f.read(limit) if end is None else f.read(end - start)

    def fetch(self, file, path):
        """Makes the content available at path: as a link, since nobody changes a file in place.
        On another file system, or of another owner's file, there can be none."""
        source = os.path.join(self.path, file.key)
        try:
            try:
                os.link(source, path)
                there = os.stat(path)
            except FileNotFoundError:
                raise
            except OSError:
                with open(source, "rb") as content, open(path, "wb") as out:
                    there = os.fstat(content.fileno())
                    shutil.copyfileobj(content, out, 1 << 20)
        except FileNotFoundError:
            raise Lost(file.key) from None
        if _tag(there) != file.tag:
            os.unlink(path)
            raise Lost(file.key)

    def fetch_ranges(self, file, ranges, path):
        self.fetch(file, path)

    def replace(self, key, path, tag):
        """Moves a file to the key, whose tag must be this one (None: there is none)."""
        with self.locked():
            there = self.stat(key)
            if (there.tag if there else None) != tag:
                raise Lost(key)
            _sync(path)
            target = os.path.join(self.path, key)
            self._make(os.path.dirname(key))
            try:
                os.rename(path, target)
            except OSError as err:
                if err.errno == errno.EXDEV:
                    raise Failure("--temp has to be on the file system of --to") from err
                raise
            _sync(os.path.dirname(target))

    def _make(self, directory):
        path = os.path.join(self.path, directory)
        if not os.path.isdir(path):
            if directory:
                self._make(os.path.dirname(directory))
            with contextlib.suppress(FileExistsError):
                os.makedirs(path, 0o750)
            _sync(os.path.dirname(path))

    @contextlib.contextmanager
    def locked(self):
        os.makedirs(os.path.join(self.path, OWN), 0o750, exist_ok=True)
        with open(os.path.join(self.path, OWN, "lock"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def overwrite(self, key, data):
        """Stores what is not worth a check: the last writer wins."""
        self._make(os.path.dirname(key))
        path = os.path.join(self.path, key)
        new = f"{path}.{secrets.token_hex(8)}"
        with open(new, "wb") as f:
            f.write(data)
        os.rename(new, path)

    def delete(self, key):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, key))

    def check(self, alone):
        """A folder needs no probe: a lock makes the replacement conditional."""

    def scratch(self):
        return os.path.join(self.path, OWN, "tmp")


class S3:
    def __init__(self, url):
        self.url = url
        m = re.fullmatch(r"s3://([^/]+)(?:/(.*))?", url)
        if not m:
            raise Failure(f"{url!r} is not s3://bucket/prefix")
        self.bucket, prefix = m[1], m[2] or ""
        self.prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"
        import boto3  # here, since it takes a third of a second
        import botocore.config
        import botocore.exceptions
        self.errors = botocore.exceptions
        # Checksums beyond those that S3 requires are not accepted by every storage; each
        # upload has its MD5 instead.
        self.client = boto3.client("s3", config=botocore.config.Config(
            s3={"addressing_style": "path"}, max_pool_connections=64, retries={"mode": "standard", "max_attempts": 6},
            request_checksum_calculation="when_required", response_checksum_validation="when_required"))
        self.clock = None  # of the storage, when it was listed first
        self.conditional = None  # whether If-Match works; None: not known

    def list(self, prefix="", after=""):
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix, StartAfter=self.prefix + after if after else "")
        for page in pages:
            if self.clock is None:
                self.clock = seconds(page["ResponseMetadata"]["HTTPHeaders"])
            for o in page.get("Contents", []):
                key = o["Key"][len(self.prefix):]
                yield key, File(key, o["Size"], o["ETag"], o["LastModified"].timestamp()) if "ETag" in o else None

    def stat(self, key):
        try:
            o = self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)
        except self.errors.ClientError as err:
            if _status(err) == 404:
                return None
            raise
        return File(key, o["ContentLength"], o["ETag"], o["LastModified"].timestamp())

    def _get(self, key, tag, **more):
        if tag:
            more["IfMatch"] = tag
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, **more)["Body"]
        except self.errors.ClientError as err:
            if _status(err) == 412:
                raise Lost(key) from err
            if _status(err) == 404:
                raise FileNotFoundError(errno.ENOENT, "no such object", key) from err
            raise

    def read(self, key, start=0, end=None, tag=None, limit=None):
        more = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}
        with contextlib.closing(self._get(key, tag, **more)) as body:
            return body.read(limit)

    def fetch(self, file, path):
        with open(path, "wb") as out:
            shutil.copyfileobj(self._get(file.key, file.tag), out, 1 << 20)
        if os.path.getsize(path) != file.size:
            raise OSError(errno.EIO, "the download ended early", file.key)

    def fetch_ranges(self, file, ranges, path):
        """Makes these ranges available in a sparse file; the rest of it is zeros."""
        with open(path, "wb") as out:
            out.truncate(file.size)
            for start, end in ranges:
                out.seek(start)
                out.write(self.read(file.key, start, end, file.tag))

    def replace(self, key, path, tag):
        if os.path.getsize(path) > 5 << 30:
            raise Failure(f"{key} would be larger than 5 GiB, which is the limit of one PUT: leave out --day")
        condition = {} if not self.conditional else {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        with open(path, "rb") as f:
            md5 = base64.b64encode(hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).digest()).decode()
            f.seek(0)
            self._put(key, f, condition, md5)

    def _put(self, key, body, condition, md5=None):
        if md5:
            condition = condition | {"ContentMD5": md5}
        try:
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=body, **condition)
        except self.errors.ClientError as err:
            if _status(err) in (404, 409, 412) and condition:
                raise Lost(key) from err
            raise

    def overwrite(self, key, data):
        self._put(key, data, {})

    def delete(self, key):
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def check(self, alone):
        """Finds out whether a PUT with a wrong If-Match, or with If-None-Match, is rejected."""
        if self.conditional is not None:
            return
        probe = OWN + "/probe"
        self.overwrite(probe, b"{}\n")

        def rejected(condition):
            try:
                self._put(probe, b"{}\n", condition)
            except Lost:
                return True
            except self.errors.ClientError as err:
                if _status(err) == 501:
                    return False  # not implemented
                raise
            return False

        works = rejected({"IfMatch": '"00000000000000000000000000000000"'}) and rejected({"IfNoneMatch": "*"})
        if not works and not alone:
            raise Failure(f"the storage of {self.url} ignores If-Match: two programs at once would undo each other's work "
                          "(make sure that only one runs, and add --alone)")
        self.conditional = works

    def scratch(self):
        import tempfile
        return os.path.join(tempfile.gettempdir(), f"collectord-compact-{os.getuid()}")


def seconds(headers):
    """Returns the time of an answer by the clock of the storage, in seconds since 1970."""
    return email.utils.parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else time.time()


def _status(err):
    return err.response.get("ResponseMetadata", {}).get("HTTPStatusCode")


def _tag(s):
    return f"{s.st_ino:x}-{s.st_size:x}-{s.st_mtime_ns:x}"


def _sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
