"""Reads shipped objects as analysts do.

    read.py duckdb      runs the SQL on standard input and prints CSV
    read.py clickhouse  the same
    read.py zstandard FILE  prints the lines of an object
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

    with open(path, "rb") as file:
        for part in zstandard.ZstdDecompressor().read_to_iter(file):
            sys.stdout.buffer.write(part)


if __name__ == "__main__":
    {"duckdb": duckdb, "clickhouse": clickhouse, "zstandard": zstandard}[sys.argv[1]](*sys.argv[2:])
