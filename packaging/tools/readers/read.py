"""Reads shipped objects as analysts do.

    read.py duckdb      runs the SQL on standard input and prints CSV
    read.py clickhouse  the same
    read.py zstandard FILE  prints the lines of an object, which must be one frame and nothing else
"""

import csv
import sys


def duckdb():
    import duckdb

    result = duckdb.sql(sys.stdin.read())
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows(result.fetchall())


def clickhouse():
    import chdb

    print(chdb.query(sys.stdin.read(), "CSVWithNames"), end="")


def zstandard(path):
    import zstandard

    frame = zstandard.ZstdDecompressor().decompressobj()
    with open(path, "rb") as file:
        sys.stdout.buffer.write(frame.decompress(file.read()))
    if not frame.eof or frame.unused_data:
        sys.exit(f"{path}: more, or less, than one frame")


if __name__ == "__main__":
    {"duckdb": duckdb, "clickhouse": clickhouse, "zstandard": zstandard}[sys.argv[1]](*sys.argv[2:])
