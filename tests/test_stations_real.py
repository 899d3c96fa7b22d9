"""One batch over two stations, each a process with a simulated bench of its own, into one real PostgreSQL that stops
and starts, over a network that is cut."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres import Postgres, Relay, server
from sim_process import SimProcess, rig, start_rig
from waiting import wait_until

from rig.records import claims, events
from rig.records.database import contents, default_url, opened
from rig.records.journal import read_journal
from rig.records.run import RunFolder, list_runs
from rig.records.verify import verify_run

BATCH = """
[batch]
name = "w48"
product = "ds-121"
shared = true

[serials]
source = "pattern"
pattern = "SN{{:03d}}"
count = {count}
"""


class Table:
    """A station's folder, its simulated bench, and its command."""

    def __init__(self, folder: Path, name: str, seed: int, url: str, *, boards: int, rules: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.sim = SimProcess(self.folder, "--boards", str(boards), "--speed", "50", "--seed", str(seed))
        bench = self.sim.bench_file
        records = f'[records]\nurl = "{url}"\nstation = "{name}"\nartifacts = "../share"\n{rules}\n'
        bench.write_text(f"{bench.read_text()}\n{records}")
        (self.folder / "kept.toml").write_text(bench.read_text())  # the bench file goes with the simulated bench
        self.process: subprocess.Popen[str] | None = None

    def convert(self, count: int) -> None:
        (self.folder / "batch.toml").write_text(BATCH.format(count=count))
        words = ("convert", "--bench", "b.toml", "--batch", "batch.toml", "--no-report")
        self.process = start_rig(*words, cwd=self.folder)

    @property
    def run(self) -> RunFolder:
        return list_runs(self.folder / "runs")[0]

    def of(self, kind: type) -> list[events.Event]:
        if not list_runs(self.folder / "runs"):
            return []
        return [event for event in read_journal(self.run.journal)[0] if isinstance(event, kind)]

    def good(self) -> list[str]:
        return [
            each.unit
            for each in self.of(events.UnitEnded)
            if isinstance(each, events.UnitEnded) and each.outcome.good
        ]

    def end(self, seconds: float) -> str:
        assert self.process is not None
        said, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, said
        return said

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.communicate(timeout=60)
            self.process.kill()
        self.sim.stop()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with server() as made:
        yield made


def shared_batch(
    postgres: Postgres, folder: Path, *, count: int, boards: int, rules: str,
    disturb: Callable[[list[Table], Relay], None],
) -> list[Table]:  # fmt: skip
    """Two stations through one list of `count` units; what must hold of it holds."""
    name = postgres.database()
    (folder / "share").mkdir()
    tables: list[Table] = []
    with Relay(postgres.port) as relay:
        try:
            for number, port in enumerate((None, relay.port), start=1):
                url = postgres.url(name, port)
                tables.append(Table(folder, f"st-{number}", 50 * number, url, boards=boards, rules=rules))
            for table in tables:
                table.convert(count)
            disturb(tables, relay)
            relay.mend()
            for table in tables:
                table.end(600)
            for table in tables:
                caught_up = rig("records", "catch-up", "--bench", "kept.toml", cwd=table.folder)
                assert caught_up.returncode == 0, caught_up.stderr
        finally:
            for table in tables:
                table.close()
    units = [f"SN{number:03d}" for number in range(1, count + 1)]
    begun = Counter(unit for table in tables for unit in {each.unit for each in table.of(events.UnitStarted)})
    assert begun == Counter(units)  # none lost, none twice
    assert sorted(unit for table in tables for unit in table.good()) == units
    url = postgres.url(name)
    for table in tables:
        found = verify_run(table.run, url=url)
        assert (found.problems, found.in_database) == ([], found.lines)
        fresh = default_url(folder)
        assert rig("records", "catch-up", "--url", fresh, cwd=table.folder).returncode == 0
        kept = [each for each in table.of(events.ArtifactKept) if isinstance(each, events.ArtifactKept)]
        assert kept
        assert all((folder / "share" / "artifacts" / each.sha256[:2] / each.sha256).is_file() for each in kept)
    with opened(url) as one, opened(default_url(folder)) as other:
        assert contents(one) == contents(other)
        assert claims.conflicts(one) == []
    assert len(list((folder / "share" / "backups").glob("*/first"))) == count
    return tables


@pytest.mark.soak
def test_four_boards_while_the_server_stops(postgres: Postgres, tmp_path: Path) -> None:
    def disturb(tables: list[Table], relay: Relay) -> None:
        wait_until(lambda: all(table.of(events.UnitStarted) for table in tables), 60, "both stations at work")
        postgres.stop(signal.SIGINT)
        postgres.start()

    shared_batch(postgres, tmp_path, count=4, boards=1, rules='offline = "refuse"\nahead = 1', disturb=disturb)


@pytest.mark.soak
def test_a_batch_of_32_while_server_and_network_are_away(postgres: Postgres, tmp_path: Path) -> None:
    paces: dict[str, list[float]] = {"there": [], "away": []}

    def pace(tables: list[Table], which: str, until: Callable[[], bool], what: str) -> None:
        before, began = sum(len(table.good()) for table in tables), time.monotonic()
        wait_until(until, 300, what)
        took = time.monotonic() - began
        paces[which].append((sum(len(table.good()) for table in tables) - before) / took)

    def disturb(tables: list[Table], relay: Relay) -> None:
        one, two = tables

        def done() -> int:
            return len(one.good()) + len(two.good())

        pace(tables, "there", lambda: done() >= 4, "the first units")
        for number in (signal.SIGINT, signal.SIGQUIT):  # stopped, then crashed
            postgres.stop(number)
            at = done()
            pace(tables, "away", lambda at=at: done() >= at + 4, "units without the server")
            postgres.start()
            at = done()
            pace(tables, "there", lambda at=at: done() >= at + 3, "units with it again")
        relay.cut()
        at = len(two.good())
        pace(tables, "away", lambda: len(two.good()) >= at + 2, "units without the network")

    tables = shared_batch(
        postgres, tmp_path, count=32, boards=2, rules='offline = "refuse"\nahead = 3', disturb=disturb
    )
    for table in tables:
        assert len(table.good()) >= 8
        told = [each.text for each in table.of(events.Noted) if isinstance(each, events.Noted)]
        assert any("until it is back, no unit is begun that was not asked for" in text for text in told)
    print("units a second with and without the database:", paces, [len(table.good()) for table in tables])  # noqa: T201
