"""Draining a backlog into DuckDB against DuckDB's own bulk load of the same files: ``python bench/drain.py``.

Each load runs in a process of its own, which reports its seconds (from opening the database to closing it) and its
peak memory. Floor and ours alternate.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import duckdb
from bench.harness import make_event, start

from snowledger_ddl import apply
from snowledger_queue import SegmentName, Spool, open_spool
from snowledger_uploader import UploaderConfig, run

SEGMENT_EVENTS = 44_000
"""About 16 MiB, where the writer rotates."""

DUPLICATES = 0.1
RATE_TARGET, FLOOR_TARGET, MEMORY_TARGET_MB, SLOWDOWN_TARGET = 250_000, 3.0, 512, 0.75

_COLUMNS = {
    "activity_id": "VARCHAR",
    "ts": "TIMESTAMP",
    "customer": "VARCHAR",
    "activity": "VARCHAR",
    "feature_json": "JSON",
    "_source_system": "VARCHAR",
    "_source_version": "VARCHAR",
    "_session_id": "VARCHAR",
    "_query_tag": "VARCHAR",
    "_schema_version": "INTEGER",
}


class Load(NamedTuple):
    """What one load took."""

    seconds: float
    peak_mb: float
    inserted: int


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=1_000_000, help="size of the backlog (default 1,000,000)")
    parser.add_argument("--rounds", type=int, default=3, help="loads of the floor and of ours (default 3)")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "SPOOL", "DATABASE"), help=argparse.SUPPRESS)


def make_backlog(folder: Path, count: int) -> None:
    """Fill a folder with sealed segments."""
    folder.mkdir()
    chance = random.Random(1)
    recent: list[bytes] = []
    for index in range(0, count, SEGMENT_EVENTS):
        lines = []
        for number in range(index, min(index + SEGMENT_EVENTS, count)):
            if recent and chance.random() < DUPLICATES:
                lines.append(chance.choice(recent))
            else:
                lines.append(make_event(number).line)
        recent = (recent + lines)[-3 * SEGMENT_EVENTS :]  # duplicates in the same batch and in earlier ones
        name = SegmentName(time.time_ns() // 1_000_000, "0" * 12, index // SEGMENT_EVENTS, None)
        (folder / name.sealed(len(lines))).write_bytes(b"".join(lines))


def preload(database: Path, rows: int) -> None:
    """Fill the warehouse with older events, a tenth of them with ids that do not sort by time (from keys)."""
    with duckdb.connect(str(database)) as connection:
        connection.execute("SET preserve_insertion_order = false; SET memory_limit = '4GB'")
        apply(connection, "duckdb")
        body = make_event(0).line[49:].decode().rstrip("\n")
        for first in range(0, rows, 1_000_000):
            connection.execute(
                """
                CREATE OR REPLACE TEMP TABLE older AS
                SELECT CASE WHEN number % 10 = 0 THEN md5(number::VARCHAR)
                       ELSE format('{:012x}7{}', 1700000000000 + number // 2, left(md5(number::VARCHAR), 19)) END AS id
                FROM range(?, ?) AS t(number)
                """,
                [first, min(first + 1_000_000, rows)],
            )
            connection.execute(
                """
                INSERT INTO activities.raw_events
                SELECT id, '{"activity_id":"' || id || '"' || ?, 'preload', now()::TIMESTAMP FROM older
                """,
                [body],
            )
            connection.execute("INSERT INTO activities._ingest_ids SELECT id::UUID, 'preload' FROM older")


def _child(kind: str, home: Path, database: Path) -> int:
    """Do one load in this process and print what it took."""
    started = time.perf_counter()
    inserted = _floor(home, database) if kind == "floor" else run(_config(home, database)).inserted
    seconds = time.perf_counter() - started
    print(json.dumps(Load(seconds, _peak_mb(), inserted)))
    return 0


def _peak_mb() -> float:
    """This process's peak memory; getrusage would count what its parent had when it was started."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _config(home: Path, database: Path) -> UploaderConfig:
    return UploaderConfig(home, database, "bench", once=True)


def _floor(home: Path, database: Path) -> int:
    """What a person would type: one INSERT … SELECT, no verification, no receipt, no memory limit."""
    with duckdb.connect(str(database)) as connection:
        connection.execute(f"CREATE TABLE bulk ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())})")
        found = connection.execute(
            "INSERT INTO bulk SELECT DISTINCT ON (activity_id) * FROM read_ndjson(?, columns = ?) AS fresh "
            "ANTI JOIN bulk AS known USING (activity_id)",
            [str(home / "queue" / "*.ndjson"), _COLUMNS],
        ).fetchone()
    return int(found[0]) if found else 0


def _load(kind: str, backlog: Path, spool: Spool, database: Path) -> Load:
    """Copy the backlog into the spool and load it in a child process."""
    for file in backlog.iterdir():
        shutil.copy(file, spool.queue)
    command = [sys.executable, "-m", "bench.drain", "--child", kind, str(spool.home), str(database)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for file in spool.queue.iterdir():
        file.unlink()
    return Load(*json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    report, options = start("Drain of a backlog into DuckDB", _options)
    if options.child:
        kind, home, database = options.child
        return _child(kind, Path(home), Path(database))
    count = options.events
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        make_backlog(folder / "backlog", count)
        spool = open_spool(folder / "spool")
        floors, ours, replays = [], [], []
        for number in range(options.rounds):
            floors.append(_load("floor", folder / "backlog", spool, folder / f"floor{number}.duckdb"))
            ours.append(_load("ours", folder / "backlog", spool, folder / f"ours{number}.duckdb"))
            replays.append(_load("ours", folder / "backlog", spool, folder / f"ours{number}.duckdb"))
            if floors[-1].inserted != ours[-1].inserted:
                raise RuntimeError(f"the floor loaded {floors[-1]}, ours {ours[-1]}")
        floor_s, ours_s = (median(load.seconds for load in loads) for loads in (floors, ours))
        peak = max(load.peak_mb for load in (*ours, *replays))
        report.row(f"floor: INSERT … SELECT of {count:,} events", count / floor_s, "events/s")
        report.row("  its peak memory", max(load.peak_mb for load in floors), "MB")
        rate = count / ours_s
        report.row("snowledger upload", rate, "events/s", f">= {RATE_TARGET:,}", met=rate >= RATE_TARGET)
        ratio = ours_s / floor_s
        report.row("  its time as a ratio to the floor", ratio, "", f"<= {FLOOR_TARGET}", met=ratio <= FLOOR_TARGET)
        report.row("  its peak memory", peak, "MB", f"< {MEMORY_TARGET_MB}", met=peak < MEMORY_TARGET_MB)
        replayed = median(load.seconds for load in replays)
        report.row("replay of the same files", count / replayed, "events/s")
        added = sum(load.inserted for load in replays)
        report.row("  rows added", added, "rows", "= 0", met=added == 0)
        rates = []
        for rows in (1_000_000, 10_000_000):
            preload(folder / "full.duckdb", rows)
            # Contexts are compared with the new warehouse once; that is no part of a load.
            run(_config(spool.home, folder / "full.duckdb"))
            load = _load("ours", folder / "backlog", spool, folder / "full.duckdb")
            (folder / "full.duckdb").unlink()
            rates.append(count / load.seconds)
            report.row(f"with {rows:,} rows in the warehouse", rates[-1], "events/s")
            report.row(
                "  its peak memory",
                load.peak_mb,
                "MB",
                f"< {MEMORY_TARGET_MB}",
                met=load.peak_mb < MEMORY_TARGET_MB,
            )
        kept = rates[1] / rates[0]
        report.row(
            "  rate with 10 M rows as a ratio to 1 M",
            kept,
            "",
            f">= {SLOWDOWN_TARGET}",
            met=kept >= SLOWDOWN_TARGET,
        )
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
