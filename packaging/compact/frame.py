"""Pure checks of one object: exactly one zstd frame with its checksum, and lines of collectord."""

import json
import re

WINDOW = 8 << 20  # the largest window that a reader of collectord accepts
MAX_LINE = (16 << 20) + (64 << 10)
MAX_OBJECT = 1 << 29  # bytes, compressed; a segment has at most 256 MiB before compression
MAX_LINES = 2 << 30  # bytes of the lines of an object: small records become larger lines

_LINE = re.compile(
    rb'\{"id":"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}","received_at":"(\d{4}-\d\d-\d\dT\d\d):[0-5]\d:[0-5]\d\.\d{6}Z",'
    rb'"via":"(?:http|udp)","client":(?:null|"(?:[^"\\]|\\.)*"),"usage":\{.*\}\}')


class Damage(Exception):
    """The content of an object is not what its name says."""


def check_frame(raw):
    """Raises Damage unless the bytes are exactly one zstd frame with a checksum. It reads
    only the headers of the frame and its blocks; the decoder verifies the checksum."""
    size = len(raw)

    def need(at):
        if at > size:
            raise Damage("its end is cut off")

    need(5)
    if raw[:4] != b"\x28\xb5\x2f\xfd":
        raise Damage("it is not a zstd frame")
    flags = raw[4]
    single = flags >> 5 & 1
    if not flags & 4:
        raise Damage("its frame has no checksum")
    at = 5 + (not single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
    last = False
    while not last:
        need(at + 3)
        block = int.from_bytes(raw[at:at + 3], "little")
        last, kind = block & 1, block >> 1 & 3
        if kind == 3:
            raise Damage("a block of its frame is invalid")
        at += 3 + (1 if kind == 1 else block >> 3)
    need(at + 4)
    if at + 4 != size:
        raise Damage("something follows its frame")


def copy_lines(reader, out, records, chunk=1 << 20):
    """Copies decompressed lines and returns (bytes, length of the longest line, or a bound
    of it). Raises Damage as soon as there are more lines than records, or a longer line
    or more bytes than collectord writes, so that an object can't fill the disk."""
    size = lines = line = longest = 0
    end = b""
    while some := reader.read(chunk):
        breaks = some.count(b"\n")
        size, lines = size + len(some), lines + breaks
        if size > chunk:  # a smaller object bounds its lines by its size
            first, _, rest = some.partition(b"\n")
            line += len(first)
            longest = max(longest, line)
            if breaks:
                parts = rest.split(b"\n")
                line = len(parts[-1])
                longest = max(longest, *map(len, parts))
        else:
            line = longest = size
        if lines > records:
            raise Damage(f"it has more lines than its name says, {records}")
        if longest > max(MAX_LINE, chunk):
            raise Damage("it has a line that is longer than any of collectord")
        if size > MAX_LINES:
            raise Damage("its lines are longer than those of any object of collectord")
        out.write(some)
        end = some[-1:]
    if end != b"\n":
        raise Damage("its last line is cut off")
    if lines != records:
        raise Damage(f"it has {lines} lines, and its name says {records}")
    return size, longest


def check_lines(lines, hour):
    """Raises Damage for the first line that collectord would not write in that hour
    (2026-11-23T08)."""
    for number, line in enumerate(lines, 1):
        m = _LINE.fullmatch(line.rstrip(b"\n"))
        if not m:
            raise Damage(f"line {number} is not a record of collectord")
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            raise Damage(f"line {number} is not valid JSON") from None
        if m[1].decode() != hour:
            raise Damage(f"line {number} was received in another hour")
