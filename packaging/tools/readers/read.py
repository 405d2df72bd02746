"""Reads shipped objects as analysts do.

    read.py ENGINE [NAME=VALUE...]   runs the query on standard input, a JSON object:
        "statement"  SQL, or Python that sets `usages` and `counted`, as in docs/queries.md
        "values"     SQL or Python expression for the ids and usages in the engine's types
    read.py zstandard FILE...        prints the version of zstandard and the lines of the objects

ENGINE is duckdb, clickhouse, spark, pandas, polars or pyarrow; NAME=VALUE is a setting of Spark.
It prints JSON, one value per line: the version, the counted rows, and [id, usage] for each usage.
"""

import glob
import json
import sys
import sysconfig
import tempfile


def duckdb(statement, values):
    import duckdb

    connection = duckdb.connect(config={"extension_directory": tempfile.mkdtemp()})
    for extension in glob.glob(sysconfig.get_path("purelib") + "/duckdb_extension_*/**/*.duckdb_extension", recursive=True):
        connection.execute(f"INSTALL '{extension}'")
    return duckdb.__version__, connection.sql(statement).fetchall(), connection.sql(values).fetchall()


def clickhouse(statement, values):
    import chdb

    def rows(sql):
        return [json.loads(line) for line in chdb.query(sql, "JSONCompactEachRow").data().splitlines()]

    return rows("SELECT version()")[0][0], rows(statement), rows(values)


def spark(statement, values, *settings):
    from pyspark import SparkConf, SparkContext

    conf = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false")
    for setting in settings:
        conf.set(*setting.split("=", 1))
    context = SparkContext(conf=conf)
    context.setLogLevel("ERROR")
    names = run(statement)
    return context.version, names["counted"].collect(), eval(values, names).collect()


def pandas(statement, values):
    import pandas

    names = run(statement)
    counted = names["counted"].astype(object)
    return pandas.__version__, counted.where(counted.notna(), None).values.tolist(), eval(values, names)


def polars(statement, values):
    import polars

    names = run(statement)
    return polars.__version__, names["counted"].rows(), eval(values, names).rows()


def pyarrow(statement, values):
    import pyarrow

    names = run(statement)
    return pyarrow.__version__, [list(row.values()) for row in names["counted"].to_pylist()], eval(values, names)


def run(statement):
    names = {}
    exec(statement, names)
    return names


def zstandard(*paths):
    import zstandard

    sys.stdout.write(zstandard.__version__ + "\n")
    sys.stdout.flush()
    for path in paths:
        frame = zstandard.ZstdDecompressor().decompressobj()
        with open(path, "rb") as file:
            sys.stdout.buffer.write(frame.decompress(file.read()))
        if not frame.eof or frame.unused_data:
            sys.exit(f"{path}: more, or less, than one frame")


def main(engine, *more):
    if engine == "zstandard":
        return zstandard(*more)
    asked = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, sys.stderr  # the answer on stdout contains nothing that statements print
    version, counted, usages = globals()[engine](asked["statement"], asked["values"], *more)
    print(json.dumps(version), json.dumps([[*row] for row in counted], default=str), sep="\n", file=out)
    for usage in usages:
        print(json.dumps([*usage], default=str), file=out)


if __name__ == "__main__":
    main(*sys.argv[1:])
