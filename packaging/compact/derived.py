"""Ids that were derived from an Idempotency-Key: each stays in its earliest partition."""

import hashlib
import json
import os

import closed
from places import OWN, Failure, Lost

CHECKED = OWN + "/checked.json"


class Derived:
    def __init__(self, run):
        self.run = run
        self.facts = None  # what check found out before, which may be lost but is never wrong
        self.changed = False

    def window(self, partition):
        """Returns the earlier partitions in which a derived id is looked for."""
        begin, _ = closed.hours_of(partition)
        reach = -(-self.run.options.look_back // 3600)
        return [p for p in sorted(self.run.tables) if p < partition and closed.hours_of(p)[1] >= begin - reach]

    def fetch_ids(self, table, path):
        """Makes the ids of a file available at path, for DuckDB to read that column only."""
        self.run.target.fetch_ranges(table.file, [*table.ids, (0, 4), (table.footer_start, table.file.size)], path)
        return path

    def fetch_earlier(self, partition, directory):
        tables = [self.run.tables[p] for p in self.window(partition)]
        return [self.fetch_ids(t, os.path.join(directory, f"earlier-{i}.parquet")) for i, t in enumerate(tables) if t.derived]

    def check(self, partition):
        """Removes derived ids that an earlier partition has, unless they were looked for
        among the same files before: the earlier partition can be the one that came later."""
        run = self.run
        for _ in range(100):
            table, window = run.tables.get(partition), self.window(partition)
            if not table or not table.derived or not any(run.tables[p].derived for p in window):
                return
            text = json.dumps([[p, run.tables[p].file.tag] for p in [*window, partition]])
            state = hashlib.sha256(text.encode()).hexdigest()[:32]
            if self.known().get(partition) == state:
                return
            try:
                with run.work() as (build, directory):
                    build.remove_lines()
                    earlier = self.fetch_earlier(partition, directory)
                    if build.has_derived(self.fetch_ids(table, os.path.join(directory, "own.parquet")), earlier):
                        run.build(partition, table, [], earlier)
                        continue
                self.known()[partition] = state
                self.changed = True
                return
            except Lost:
                for p in [*window, partition]:
                    run.refresh(p)
        raise Failure(f"{partition}: other processes replaced files 100 times")

    def known(self):
        if self.facts is None:
            try:
                self.facts = json.loads(self.run.target.read(CHECKED))
            except (FileNotFoundError, ValueError):
                self.facts = {}
        return self.facts

    def save(self):
        if self.changed:
            facts = {p: s for p, s in self.facts.items() if p in self.run.tables or not self.run.selected(p)}
            self.run.target.overwrite(CHECKED, json.dumps(facts).encode())
