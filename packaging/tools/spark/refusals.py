"""Prints what the job says of a table that was rolled back without its ledger, and of one that
has lost its ledger. The table has to be thrown away then.

    spark-submit … --py-files ledger.py,spark_job.py refusals.py lake.db.usages
"""

import sys

from pyspark.sql import SparkSession

import spark_job

spark = SparkSession.builder.getOrCreate()
table = spark_job.Table(spark, sys.argv[1])
iceberg = table.table
newest = iceberg.currentSnapshot()
for name, change in [
    ("rolled back", lambda c: c.setCurrentSnapshot(newest.parentId())),
    ("repaired", lambda c: c.setCurrentSnapshot(newest.snapshotId())),
    ("no ledger", lambda c: c.removeBranch(spark_job.LEDGER)),
]:
    change(iceberg.manageSnapshots()).commit()
    try:
        spark_job.Table(spark, sys.argv[1]).begin()
        print(f"{name}: accepted")
    except SystemExit as e:
        print(f"{name}: {e}")
