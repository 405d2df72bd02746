#!/usr/bin/env python3
"""Compacts collectord's objects into one Parquet file for each hour or day.

docs/compaction.md describes it. The exit status is 0 if everything is in, 2 if something is
wrong with an object, which is left out, and 1 if the work could not be completed.
"""

import argparse
import json
import os
import re
import sys

from places import Failure, open_place
from run import Run
from temporary import scratch


def duration(text):
    """Returns the seconds of 90s, 30m, 24h or 7d."""
    m = re.fullmatch(r"(\d+)(s|m|h|d)", text)
    if not m:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 30m, 24h or 7d")
    return int(m[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[m[2]]


def partition(text):
    if not re.fullmatch(r"dt=\d{4}-\d\d-\d\d(/hour=\d\d)?", text.rstrip("/"), re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not like dt=2026-11-23/hour=08 or dt=2026-11-23")
    return text.rstrip("/")


def options(args):
    p = argparse.ArgumentParser(prog="compact.py", description="Compacts collectord's objects into one Parquet file for each hour or day.")
    p.add_argument("--from", dest="sources", metavar="SRC", action="append", required=True, help="a folder, or s3://bucket/prefix; may be repeated")
    p.add_argument("--to", dest="target", metavar="DST", required=True, help="a folder, or s3://bucket/prefix")
    p.add_argument("--day", action="store_true", help="one file for each day instead of each hour")
    p.add_argument("--partition", type=partition, help="only this hour or day: dt=2026-11-23/hour=08")
    p.add_argument("--since", type=duration, metavar="AGE", help="list only partitions of the last AGE, such as 3d (default: all)")
    p.add_argument("--look-back", type=duration, default="24h", metavar="AGE", help="how far back an id derived from an Idempotency-Key is looked for (24h)")
    p.add_argument("--expire", action="store_true", help="delete objects that are in, the oldest first")
    p.add_argument("--keep", type=duration, default="1h", metavar="AGE", help="never delete a younger object (1h)")
    p.add_argument("--gone", metavar="LOG", action="append", default=[], help="a log id whose host will not come back; may be repeated")
    p.add_argument("--memory", default="1GB", metavar="SIZE", help="limit of DuckDB's memory (1GB)")
    p.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="threads (one for each processor)")
    p.add_argument("--level", type=int, default=6, metavar="N", help="zstd level of the Parquet files (6)")
    p.add_argument("--temp", metavar="DIR", help="where temporary files are")
    p.add_argument("--alone", action="store_true", help="on a storage without If-Match: no other compaction runs at the same time")
    p.add_argument("--json", action="store_true", help="print one JSON object a line")
    o = p.parse_args(args)
    if o.threads < 1 or not 1 <= o.level <= 22 or not re.fullmatch(r"\d+(\.\d+)?\s?[KMGT]i?B", o.memory):
        p.error("--threads is at least 1, --level from 1 to 22, and --memory like 500MB or 2GB")
    if o.expire and o.keep < 300:
        p.error("--keep is at least 5m: it must not be below shipper.keep of any host")
    if o.expire and o.since:
        p.error("--expire needs to see the oldest objects: leave out --since")
    return o


def main(args):
    o = options(args)
    try:
        sources, target = [open_place(s) for s in o.sources], open_place(o.target)
        with scratch(o.temp or target.scratch()) as directory:
            return Run(o, sources, target, directory).run()
    except Failure as err:
        print(f"compact: {err}", file=sys.stderr)
    except KeyboardInterrupt:
        print("compact: interrupted", file=sys.stderr)
    except Exception as err:  # of the storage, the disk or DuckDB; none of these shows a usage
        print(f"compact: {type(err).__name__}: {json.dumps(str(err)[:500])}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
