"""Maintains an Iceberg table with the strictest settings: joins files, expires all
snapshots that no branch needs, and removes all files that no snapshot needs.

    spark-submit … maintain.py lake.db.usages
"""

import sys
import time

from pyspark.sql import SparkSession

spark = SparkSession.builder.getOrCreate()
iceberg = spark._jvm.org.apache.iceberg.spark
table = iceberg.Spark3Util.loadIcebergTable(spark._jsparkSession, sys.argv[1])
actions = iceberg.actions.SparkActions.get()
joined = actions.rewriteDataFiles(table).option("min-input-files", "2").execute()
now = int(time.time() * 1000)
expired = actions.expireSnapshots(table).expireOlderThan(now).retainLast(1).execute()
orphans = actions.deleteOrphanFiles(table).olderThan(now).execute()
print(f"{joined.rewrittenDataFilesCount()} files joined, {expired.deletedDataFilesCount()} data files of expired snapshots "
      f"and {len(list(orphans.orphanFileLocations()))} orphan files removed")
