"""What several stations cost the database they share, and what that costs them: record-only units, no boards.

    python -m benchmarks.records [--stations 4] [--units 1000] [--pace 4] [--url postgresql+psycopg://…]

Each station is a process that claims its units, writes a run's journal as the line does (every event fsynced), and
has the line's own follower take it into the database. Without `--url` a PostgreSQL of its own is started on loopback
(Debian's programs). Three rounds:

flat out    all stations as fast as they can: rows a second, seconds of a transaction and of its commit
paced       `--pace` units a second each, with the database; what a unit's events took to write is the line's wait
alone       the same without any database: what `paced` is compared with

Run with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rig.records import database, events, follower
from rig.records.claims import Claimant, take
from rig.records.database import opened
from rig.records.journal import Journal
from rig.records.run import RunFolder

ROOT = Path(__file__).resolve().parents[1]
STEPS = ("image", "supply-off", "identify", "backup", "plan", "flash", "settled", "boot", "steady")


def unit(journal: Journal, name: str) -> int:
    """One unit's events, as a conversion has them; how many."""
    who = {"unit": name, "slot": "A", "attempt": 1}
    told: list[events.Event] = [events.UnitStarted(**who, operator="Kim")]
    for step in STEPS:
        told.append(events.PhaseStarted(**who, phase=step, limit_s=60))
        for number in range(2):
            told.append(
                events.Measured(**who, phase=step, name=f"{step}_{number}", value=0.07, unit_of="A", maximum=0.25)
            )
        told.append(events.PhaseEnded(**who, phase=step, outcome=events.Outcome.PASS, duration_s=1.0))
    backup = {"path": "b", "sha256": "5a" * 32, "size": 2 << 20}
    told.append(events.BackupKept(**who, identity=f"uid-{name}", **backup))
    told += [events.ArtifactKept(**who, name=each, path=each, sha256="c3" * 32) for each in ("boot-log", "unit-page")]
    ended = {"outcome": events.Outcome.PASS, "duration_s": 9.0, "mac": name, "identity": f"uid-{name}"}
    told.append(events.UnitEnded(**who, **ended, supply_off_confirmed=True))
    for event in told:
        journal.append(event)
    return len(told)


def station(name: str, url: str | None, runs: Path, units: int, pace: float | None) -> dict[str, Any]:
    """One station's share; what it measured, in seconds."""
    transactions: list[float] = []
    commits: list[float] = []
    _timed(transactions, commits)
    run = RunFolder.create(runs)
    who = Claimant(run.id, name, "ds-121", "convert")
    names = [f"{name}-{number:04d}" for number in range(units)]
    written: list[float] = []
    late: list[float] = []
    claimed: list[float] = []
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(run.journal))
        journal.append(
            events.RunStarted(
                run=run.id, command="benchmark", station=name, bench="none", simulated=True, product="ds-121",
                job={"units": names},
            )
        )  # fmt: skip
        reader = claims = None

        def claim(units: Sequence[str]) -> None:
            start = time.monotonic()
            with opened(str(url), write=True) as connection:
                take(connection, who, units)
            claimed.append(time.monotonic() - start)

        if url is not None:
            claims = stack.enter_context(ThreadPoolExecutor(1))
            claims.submit(claim, names[:4]).result()
            reader = stack.enter_context(follower.Follower(url, run, station=name))
        began = time.monotonic()
        count = 0
        for number, each in enumerate(names):
            due = began + number / pace if pace else 0.0
            while (left := due - time.monotonic()) > 0:
                time.sleep(left)
            start = time.monotonic()
            late.append(max(0.0, start - due) if pace else 0.0)
            if claims is not None and number % 4 == 0:  # as the line does: ahead, in a thread of its own
                claims.submit(claim, names[number + 4 : number + 8])
            count += unit(journal, each)
            written.append(time.monotonic() - start)
            if reader is not None:
                reader.poke()
        worked = time.monotonic() - began
        journal.append(events.RunEnded(run=run.id, exit_code=0, duration_s=worked))
        if reader is not None:
            reader.close(300)
            assert reader.problem is None, reader.problem
        caught_up = time.monotonic() - began
    return {"station": name, "lines": count + 2, "worked_s": worked, "caught_up_s": caught_up, "written_s": written,
            "late_s": late, "claimed_s": claimed, "transactions_s": transactions, "commits_s": commits}  # fmt: skip


def _timed(transactions: list[float], commits: list[float]) -> None:
    """The follower's transactions, from before it connects, and their commits."""
    real = database.opened
    import sqlalchemy as sa
    from sqlalchemy.engine import Connection

    commit = Connection._commit_impl

    def timed_commit(self: Any) -> None:
        began = time.monotonic()
        commit(self)
        commits.append(time.monotonic() - began)

    Connection._commit_impl = timed_commit  # type: ignore[method-assign]

    @contextlib.contextmanager
    def timed(*words: Any, **named: Any) -> Iterator[sa.Connection]:
        began = time.monotonic()
        with real(*words, **named) as connection:
            yield connection
        transactions.append(time.monotonic() - began)

    follower.opened = timed  # type: ignore[attr-defined]


def whole_round(what: str, stations: int, units: int, url: str | None, pace: float | None) -> dict[str, Any]:
    """All stations at once."""
    with tempfile.TemporaryDirectory(prefix="rig-records-") as folder:
        processes = []
        for number in range(stations):
            words = [sys.executable, "-m", "benchmarks.records", "--one", f"st-{number}", "--units", str(units)]
            words += ["--runs", str(Path(folder) / str(number))]
            words += ["--url", url] if url else []
            words += ["--pace", str(pace)] if pace else ["--pace", "0"]
            processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        found = [json.loads(process.communicate()[0]) for process in processes]
    told: dict[str, Any] = {"round": what, "stations": stations, "units": units, "pace": pace}
    longest = max(each["caught_up_s"] for each in found)
    told["units_a_second"] = sum(units / each["worked_s"] for each in found)
    for name in ("written_s", "late_s", "claimed_s", "transactions_s", "commits_s"):
        values = [value for each in found for value in each[name]]
        if values:
            told[name] = {"n": len(values), "p50": _of(values, 0.5), "p95": _of(values, 0.95), "max": max(values)}
    if url is not None:
        told["rows_a_second"] = _rows(url) / longest
        told["seconds_behind_at_the_end"] = max(each["caught_up_s"] - each["worked_s"] for each in found)
    return told


def _rows(url: str) -> int:
    """What all tables hold."""
    import sqlalchemy as sa

    with opened(url) as connection:
        counts = [
            connection.execute(sa.select(sa.func.count()).select_from(database._table(name))).scalar_one()
            for name in (*database.TABLES, "claims")
        ]
    return sum(counts)


def _of(values: Sequence[float], share: float) -> float:
    return (
        statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]
        if len(values) > 1
        else values[0]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, default=4)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--pace", type=float, default=4.0)
    parser.add_argument("--url")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        told = station(options.one, options.url, options.runs, options.units, options.pace or None)
        print(json.dumps(told))  # noqa: T201
        return
    with contextlib.ExitStack() as stack:
        fresh = iter([options.url, options.url])
        if options.url is None:
            sys.path.insert(0, str(ROOT / "tests"))
            from postgres import server

            made = stack.enter_context(server())
            fresh = iter([made.url(made.database()) for _ in range(2)])
        rounds = (
            ("flat out", next(fresh), None), ("paced", next(fresh), options.pace), ("alone", None, options.pace),
        )  # fmt: skip
        for what, url, pace in rounds:
            told = whole_round(what, options.stations, options.units, url, pace)
            print(json.dumps(told, default=lambda value: round(value, 4)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
