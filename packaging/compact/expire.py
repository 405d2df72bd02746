"""The deletion of objects that are in a Parquet file, the oldest of each log first."""

import ledger


def expire(run):
    """Deletes objects and returns how many. Of each log it keeps the newest object, so that
    the log is still seen, and deletes only objects whose last seq is below that of each
    object that stays, in whatever source: a log then begins later, and has no gap. How old an
    object is follows from the clock of its storage."""
    safe, logs = set(), {}
    for partition, objects in run.raw.items():
        table = run.tables.get(partition)
        if table and run.selected(partition):
            file = run.target.stat(table.file.key)
            if file and file.tag != table.file.tag:
                run.refresh(partition)
                table = run.tables.get(partition)
            if file and table:
                safe |= {o.key for o in ledger.covers(table.ledger, objects)}
        for object, (source, file) in objects.items():
            logs.setdefault(object.log, []).append((object.last, object.key, object, source, file))
    deleted = 0

    def delete(objects):
        done = 0
        objects.sort()
        for last, key, object, source, file in objects:
            if last == objects[-1][0] or key not in safe or object.beside:
                break
            file = file or source.stat(key)
            if file and file.modified > source.clock - run.options.keep:
                break
            source.delete(key)
            done += 1
        return done

    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for n in pool.map(delete, logs.values()):
            deleted += n
    return deleted
