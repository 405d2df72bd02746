"""Prints the rows of an Iceberg table as JSON lines, read without Java.

    read.py CATALOG.db ENDPOINT          the one table of a JDBC catalog in SQLite
    read.py CATALOG.db ENDPOINT count    only how many rows and ids it has
"""

import json
import os
import sqlite3
import sys

import pyarrow.compute
from pyiceberg.table import StaticTable

catalog, endpoint = sys.argv[1:3]
found = sqlite3.connect(catalog, timeout=60).execute("SELECT metadata_location FROM iceberg_tables").fetchall()
for (location,) in found:
    table = StaticTable.from_metadata(location, {
        "s3.endpoint": endpoint, "s3.region": "us-east-1",
        "s3.access-key-id": os.environ["AWS_ACCESS_KEY_ID"], "s3.secret-access-key": os.environ["AWS_SECRET_ACCESS_KEY"]})
    if table.current_snapshot() is None:
        continue
    if sys.argv[3:] == ["count"]:
        ids = table.scan(selected_fields=("id",)).to_arrow()["id"]
        print(f"{len(ids)} rows, {pyarrow.compute.count_distinct(ids)} ids")
        break
    for batch in table.scan().to_arrow().to_batches():
        for row in batch.to_pylist():
            row["received_at"] = row["received_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            print(json.dumps(row))
