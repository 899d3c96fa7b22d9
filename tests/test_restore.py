"""Whose backup `rig restore` takes, and what it refuses before anything is switched on.

Restoring itself, on the boards that were recovered first: test_recover.py.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rig.errors import BenchBlocked, UnitFailed, UsageProblem
from rig.line.target import excused, wrong_board
from rig.records.backups import Backup, BackupStore
from rig.records.events import BackupKept, Outcome, RunStarted, UnitEnded, UnitStarted
from rig.records.journal import Journal
from rig.records.kept import KeptBackup, find_kept
from rig.records.run import RunFolder
from rig.sim import firmware
from tests.sim_process import rig_inside
from tests.test_convert import one_sentence

DUMP = firmware.factory_dump(5)


class Made:
    """A run that is over, with these units' boards; a board without content was never backed up.

    Each is an attempt of its own, unless `attempts` tells."""

    def __init__(
        self, runs: Path, *boards: tuple[str, str, bytes | None], attempts: tuple[int, ...] | None = None
    ) -> None:
        self.folder = RunFolder.create(runs)
        store = BackupStore(runs / "backups")
        with Journal(self.folder.journal) as journal:
            journal.append(
                RunStarted(
                    run=self.folder.id,
                    command="rig convert",
                    station="s",
                    bench="b",
                    simulated=True,
                    product="ds-121",
                )
            )
            numbers = attempts or range(1, len(boards) + 1)
            for attempt, (unit, identity, content) in zip(numbers, boards, strict=True):
                who: dict[str, Any] = {"unit": unit, "slot": "A", "attempt": attempt}
                journal.append(UnitStarted(**who))
                if content is not None:
                    kept = store.keep(identity, content)
                    path = f"../backups/{kept.path.parent.name}/{kept.path.name}"
                    told = {"identity": identity, "path": path, "sha256": kept.sha256, "size": kept.size}
                    journal.append(BackupKept(**who, **told))
                journal.append(UnitEnded(**who, outcome=Outcome.PASS, duration_s=1.0, mac="02:00:00:00:00:05"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_a_backup_is_found_by_run_and_unit_however_the_run_is_named(runs: Path, monkeypatch: Any) -> None:
    made = Made(runs, ("SN1", "uid-01", DUMP), ("SN2", "uid-02", None))
    monkeypatch.chdir(runs.parent)
    for named in (f"{made.folder.id}/SN1", f"runs/{made.folder.id}/SN1", f"{made.folder.path.resolve()}/SN1"):
        kept = find_kept(named, Path("runs"))
        assert (kept.identity, kept.unit, kept.mac) == ("uid-01", "SN1", "02:00:00:00:00:05")
        assert kept.backup.content() == DUMP


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("SN1", "name a run and a unit"),
        ("{run}/", "name a run and a unit"),
        ("{run}/SN3", "no unit 'SN3'; did you mean 'SN"),
        ("{run}/SN2", "no backup of unit SN2"),
        ("{run}x/SN1", "{run}"),
        ("{run}/TWO", "uid-03, uid-04"),
    ],
)
def test_what_names_no_one_backup(spec: str, says: str, runs: Path) -> None:
    boards = (("SN1", "uid-01", DUMP), ("SN2", "uid-02", None), ("TWO", "uid-03", DUMP), ("TWO", "uid-04", DUMP))
    run = Made(runs, *boards).folder.id
    with pytest.raises(UsageProblem) as refused:
        find_kept(spec.format(run=run), runs)
    assert says.format(run=run) in str(refused.value)


def test_refused_before_anything_is_switched_on(runs: Path) -> None:
    """The bench file is never even looked for, or the board never touched: exit 2 in one sentence."""
    made = Made(runs, ("SN1", "uid-01", DUMP))
    source = f"{made.folder.id}/SN1"
    for words, says in (
        (("--from", f"{made.folder.id}/SN9"), "no unit 'SN9'"),
        (("--from", source, "--from", source), "twice"),
    ):
        done = rig_inside("restore", *words, cwd=runs.parent)
        assert done.returncode == 2
        assert says in one_sentence(done.stderr)
    damaged = find_kept(source, runs).backup.path
    damaged.write_bytes(damaged.read_bytes()[:-100])
    bench = runs.parent / "bench.toml"
    bench.write_text(BENCH)
    done = rig_inside("restore", "--bench", bench, "--from", source, cwd=runs.parent)
    assert done.returncode == 2
    assert "cannot be read" in one_sentence(done.stderr)


BENCH = """
[bench]
name = "table"
[supply.psu]
resource = "TCPIP::127.0.0.1::9::SOCKET"
[slot.A]
supply = "psu"
channel = 1
flash_port = "/dev/ttyUSB77"
log_port = "/dev/ttyUSB78"
product = "ds-121"
"""


def target(data: bytes | None, identity: str = "uid-01") -> Any:
    """What a restore of a board called `identity` is after; with None a conversion."""
    if data is None:
        return SimpleNamespace(order=SimpleNamespace(own=None), data=b"")
    own = KeptBackup(RunFolder(Path("runs/R")), "SN1", Backup(identity, Path("x"), "0", len(data)))
    return SimpleNamespace(order=SimpleNamespace(own=own), data=data)


def test_only_the_board_itself_gets_its_backup() -> None:
    assert wrong_board(target(DUMP), "uid-01") is None
    assert wrong_board(target(None), "uid-02") is None
    for other in ("uid-02", None):
        said = wrong_board(target(DUMP), other)
        assert said is not None
        assert "uid-01" in said
        assert "rig recover" in said


def test_only_a_backup_that_would_not_boot_excuses_a_board_and_never_turns_it_good() -> None:
    erased = b"\xff" * 0x11000 + DUMP[0x11000:]
    for data, excuse in ((DUMP, False), (erased, True), (None, False)):
        with pytest.raises(UnitFailed) as failed, excused(target(data)):
            raise UnitFailed("log-silent", "nothing came")
        assert failed.value.code == "log-silent"
        assert ("its backup" in str(failed.value)) is excuse
    with pytest.raises(BenchBlocked, match=r"^it sagged$"), excused(target(erased)):
        raise BenchBlocked("weak-supply", "it sagged")
    with excused(target(erased)):
        pass
