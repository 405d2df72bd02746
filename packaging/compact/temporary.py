"""Temporary files. They contain usages, so none may outlive the run for long."""

import contextlib
import fcntl
import os
import secrets
import shutil

from places import Failure

_PREFIX = "collectord-compact-"


@contextlib.contextmanager
def scratch(base):
    """A directory for one process below base. It contains usages, so what a killed process
    left there is deleted first, and nothing else: base can be anybody's directory."""
    os.makedirs(base, 0o700, exist_ok=True)
    if os.stat(base).st_uid != os.getuid():
        raise Failure(f"{base!r} belongs to another user: set --temp")
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if name.startswith(_PREFIX):
            with contextlib.suppress(OSError), _held(path):
                shutil.rmtree(path)
    while True:
        own = os.path.join(base, _PREFIX + secrets.token_hex(8))
        os.mkdir(own, 0o700)
        try:
            hold = _held(own)
            hold.__enter__()
        except OSError:  # another process took it for a leftover
            continue
        if os.path.isdir(own):
            break
        hold.__exit__(None, None, None)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        hold.__exit__(None, None, None)


@contextlib.contextmanager
def _held(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
