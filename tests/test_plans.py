"""Plans and suites on a simulated bench, all of them at once: verify, burn-in, a user's own suite, contact."""

from __future__ import annotations

import hashlib
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rig.bench.bench import read_bench
from rig.bench.product import load_product
from rig.flashers.matching import OWN
from rig.image.planning.board import Board
from rig.line.target import Order, Target, open_target
from rig.records import events
from rig.records.events import Outcome
from rig.records.journal import read_journal
from rig.records.run import RunFolder, latest
from tests.sim_process import ROOT, SimProcess, environment
from tests.waiting import until, wait_until

pytest.importorskip("unicorn")
CHANGES = {"erase", "erase-4k", "write-4k", "write-256", "write-sr"}

OWN_SUITE = """
import pytest

from rig.errors import UnitFailed
from rig.line import steps


def test_left_out():
    pytest.skip("not on this board")


@pytest.mark.step("written")
def test_a_sector_is_written(place, write):
    steps.discharge(place)
    with pytest.raises(UnitFailed, match="calibration"):
        write([(0x1D0000, bytes(0x1000))])
    assert not place.board.guard.refusals
    write([(0x1C0000, b"mine" * 0x400)])
    assert not place.board.guard.writes_allowed


@pytest.mark.parametrize("number", [1, 2])
def test_boots(place, record, number):
    steps.boot(place)
    live = record.folder / "boot.live.log"
    assert place.boot_log.lines[0].text in live.read_text().splitlines(), "it is not shown as it comes"
    assert live.stat().st_mode & 0o777 == 0o600, "others may read it"


def test_wrong(record):
    assert record.measure("answer", 41) == 42, "six by nine"


def test_never():
    raise AssertionError("an earlier step failed")
"""

ROGUE = """
import pytest

from rig.errors import BenchBlocked
from rig.line import steps


@pytest.mark.step("opened")
def test_the_guard_is_sealed(place):
    steps.discharge(place)
    steps.identify(place)
    with pytest.raises(BenchBlocked, match="sealed"):
        place.board.guard.allow_writes([(0, 0x200000)])


@pytest.mark.step("erased", last=True)
def test_erase(place):
    place.rom.erase(place.link, 0x12000, 0x1000)
"""


def demo(bench: SimProcess) -> Target:
    """The image of the bench, as a conversion would write it to a board of which nothing is known."""
    target = open_target(Order("verify", read_bench(bench.bench_file).image), load_product("ds-121"))
    target.aim(Board(chip="BK7231N", flash_size=0x200000, held=b"\xff" * 0x200000))
    return target


@dataclass
class Over:
    """A plan that ran: what it said, what is on record, the flash before and after."""

    code: int
    said: str
    run: RunFolder
    found: list[events.Event]
    before: bytes
    after: bytes

    @property
    def started(self) -> events.UnitStarted:
        (one,) = [event for event in self.found if isinstance(event, events.UnitStarted)]
        return one

    @property
    def ended(self) -> events.UnitEnded:
        (one,) = [event for event in self.found if isinstance(event, events.UnitEnded)]
        return one

    @property
    def phases(self) -> dict[str, Outcome | None]:
        return {event.phase: event.outcome for event in self.found if isinstance(event, events.PhaseEnded)}

    @property
    def measured(self) -> dict[str, object]:
        return {event.name: event.value for event in self.found if isinstance(event, events.Measured)}

    @property
    def folder(self) -> Path:
        return self.run.unit_dir(self.ended.unit, 1)

    @property
    def commands(self) -> set[str]:
        return set(re.findall(r'"name": ?"([^"]+)"', (self.folder / "wire.jsonl").read_text()))

    def changed(self) -> bool:
        """Whether the firmware's part of the flash is another one now."""
        return self.before[:OWN] != self.after[:OWN]


class Table:
    """A bench whose boards are at work at the same time, a plan each."""

    def __init__(self, bench: SimProcess, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.processes: dict[str, tuple[subprocess.Popen[str], bytes]] = {}

    def start(self, slot: str, suite: Path, task: str, *words: str) -> None:
        """The simulated supplies and boards come first, else they answer late."""
        folder = self.folder / slot
        folder.mkdir(exist_ok=True)
        command = [
            "nice",
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
        ]
        command += ["-p", "fixtures.plugins", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), str(suite)]
        command += ["--bench", str(self.bench.bench_file), "--slot", slot, "--unit", f"U{slot}", "--task", task]
        before = self.bench.dump(folder, slot)
        process = subprocess.Popen(
            [*command, *words],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes[slot] = process, before

    def over(self, slot: str) -> Over:
        process, before = self.processes[slot]
        said, _ = process.communicate(timeout=300)
        run = latest(self.folder / slot / "runs")
        found, _ = read_journal(run.journal)
        return Over(process.returncode, said, run, found, before, self.bench.dump(self.folder / slot, slot))

    def wait_for(self, slot: str, text: str) -> None:
        def there() -> bool:
            return any(text in path.read_text() for path in (self.folder / slot).glob("runs/*/journal.jsonl"))

        wait_until(there, 120, f"{text!r} in the journal of {slot}")

    def poke_between_boots(self, slot: str, offset: int, data: bytes) -> None:
        """While the board is off, and the plan stands still: a firmware that runs would end otherwise."""
        process, _ = self.processes[slot]
        told = Path(f"/proc/{process.pid}/stat")

        def poked() -> bool:
            if self.bench.status(slot)["on"]:
                return False
            process.send_signal(signal.SIGSTOP)
            try:
                until(lambda: told.read_text().rpartition(")")[2].split()[0] in "TZ")
                if self.bench.status(slot)["on"]:
                    return False
                self.bench.poke(offset, data, slot)
            finally:
                process.send_signal(signal.SIGCONT)
            return True

        wait_until(poked, 120, f"slot {slot} going off between two boots")


REBOOTS = 60  # more than it gets to, however late its bootloader goes
FAULTS = ("D:noise:port=log", "E:noise:port=flash", "F:rx1-driver:kind=tuyamcu,wins=0.0,period=0.5")


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Over]]:
    folder = tmp_path_factory.mktemp("plans")
    for name, text in (("own", OWN_SUITE), ("rogue", ROGUE)):
        (folder / name).mkdir()
        (folder / name / f"test_{name}.py").write_text(text)
    options = [word for fault in FAULTS for word in ("--fault", fault)]
    with SimProcess(folder, "--boards", "8", "--speed", "20", *options) as bench:
        for slot in "AC":
            for offset, content in demo(bench).pieces:
                bench.poke(offset, content, slot)
        table = Table(bench, folder)
        plans = ROOT / "tests_hil"
        try:
            table.start("C", plans / "test_burn_in.py", "burn-in", "--reboots", str(REBOOTS))
            table.start("A", plans / "test_verify.py", "verify", "--role", "golden", "--operator", "Ann")
            table.start("B", plans / "test_verify.py", "verify")
            table.wait_for("C", '"phase":"boot-1","outcome":"pass"')
            table.poke_between_boots("C", 0, b"\xff" * 0x11000)  # its bootloader
            table.start("D", plans / "test_conversion.py", "convert")
            table.start("E", plans / "test_conversion.py", "convert")
            table.start("F", ROOT / "docs" / "example-suite", "suite", "--suite", "alive")
            done = {slot: table.over(slot) for slot in "ABC"}
            limits = '{"answer": {"maximum": 50, "marginal_maximum": 40}}'
            table.start("G", folder / "own", "suite", "--limits", limits)
            table.start("H", folder / "rogue", "verify")
            table.start("B", plans / "test_burn_in.py", "burn-in", "--reboots", "2")  # as it came from its maker
            done |= {slot: table.over(slot) for slot in "DEFGH"}
            yield done | {"B again": table.over("B")}
        finally:
            for process, _ in table.processes.values():
                if process.poll() is None:
                    process.kill()
                    process.communicate()


# -- verify ------------------------------------------------------------------------------------------------


def test_verify_passes_a_board_that_holds_what_it_should_and_writes_nothing(over: dict[str, Over]) -> None:
    seen = over["A"]
    assert seen.code == 0, seen.said
    assert seen.ended.outcome is Outcome.PASS
    assert list(seen.phases) == ["image", "supply-off", "identify", "read", "verify", "boot", "steady"]
    assert seen.measured["verified_size"] == 1220464, "all of the image"
    assert seen.measured["read_size"] == 0x200000 - OWN, "what it should hold is told by CRC"
    assert seen.measured["boot_proof"] == "booted"
    assert not seen.commands & CHANGES
    assert not seen.changed()
    assert not any(isinstance(event, events.WriteBegun | events.BackupKept) for event in seen.found)


def test_who_ran_it_and_what_for_is_on_record(over: dict[str, Over]) -> None:
    started = over["A"].started
    assert (started.task, started.role, started.operator, started.suite) == ("verify", "golden", "Ann", None)
    assert over["B"].started.role == "unit"
    assert over["F"].started.suite == "alive"
    limits = {event.phase: event.limit_s for event in over["A"].found if isinstance(event, events.PhaseStarted)}
    assert limits["read"] == 60.0  # 1200 s of the board's time, at 20 times
    assert limits["verify"] == 20.0


def test_verify_fails_a_board_that_holds_something_else_and_writes_nothing(over: dict[str, Over]) -> None:
    seen = over["B"]
    assert seen.code == 1
    assert (seen.ended.outcome, seen.ended.code) == (Outcome.FAIL, "verify-failed")
    assert re.search(
        r"differs from rig-demo_QIO\.bin at 0x[0-9a-f]+ \(\d+ sectors? in all\)", seen.ended.sentence or ""
    )
    assert seen.phases["boot"] is None
    assert not seen.commands & CHANGES
    assert seen.before == seen.after


def test_an_erase_in_a_plan_that_only_looks_is_stopped_on_the_wire(over: dict[str, Over]) -> None:
    seen = over["H"]
    assert seen.phases == {"opened": Outcome.PASS, "erased": Outcome.BLOCKED}, seen.said
    assert (seen.ended.outcome, seen.ended.code) == (Outcome.BLOCKED, "guard-stopped")
    assert seen.before == seen.after


# -- burn-in -----------------------------------------------------------------------------------------------


def test_the_boot_that_fails_is_named_and_the_rest_is_left_out(over: dict[str, Over]) -> None:
    seen = over["C"]
    boots = [seen.phases[f"boot-{number}"] for number in range(1, REBOOTS + 1)]
    good = boots.index(Outcome.FAIL)  # so many before it was broken: one, or more where the machine was slow to do it
    assert good >= 1
    assert boots == [Outcome.PASS] * good + [Outcome.FAIL] + [None] * (REBOOTS - good - 1)
    assert boots[-1] is None
    assert seen.phases["burn-in"] is None
    assert (seen.ended.outcome, seen.ended.code) == (Outcome.FAIL, "log-silent")
    assert (seen.ended.sentence or "").startswith(f"boot {good + 1}: ")
    assert {"boot_time_1", "steady_current_1"} <= seen.measured.keys()
    assert not seen.commands & CHANGES


def test_a_board_that_nothing_could_bring_back_is_never_booted(over: dict[str, Over]) -> None:
    """Without a backup on record, and not holding the image."""
    seen = over["B again"]
    assert (seen.ended.outcome, seen.ended.code) == (Outcome.BLOCKED, "no-backup"), seen.said
    assert "has no backup on record, and it does not hold rig-demo_QIO.bin" in (seen.ended.sentence or "")
    assert seen.phases == {
        "supply-off": Outcome.PASS, "identify": Outcome.PASS, "cleared": Outcome.BLOCKED, "boot-1": None,
        "boot-2": None, "burn-in": None,
    }  # fmt: skip
    assert (seen.folder / "boot.log").read_text() == "", "its firmware ran"
    assert seen.before == seen.after
    assert over["C"].measured["cleared_by"] == "image"


# -- contact -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slot", "line"), [("D", "log"), ("E", "flash")])
def test_a_noisy_line_blocks_before_anything_is_asked_of_the_board(
    slot: str, line: str, over: dict[str, Over]
) -> None:
    seen = over[slot]
    assert (seen.ended.outcome, seen.ended.code) == (Outcome.BLOCKED, "contact"), seen.said
    assert f"bytes came on the {line} line" in (seen.ended.sentence or "")
    assert seen.phases["identify"] is Outcome.BLOCKED
    assert seen.phases["backup"] is None
    assert not any(isinstance(event, events.BackupKept) for event in seen.found)
    assert seen.before == seen.after


def test_a_tuyamcu_that_talks_on_rx1_is_no_bad_contact(over: dict[str, Over]) -> None:
    """The simulated one, whose frames the adaptor does not hear; a real one was never seen."""
    seen = over["F"]
    assert seen.phases["contact"] is Outcome.PASS, seen.said
    assert seen.measured["flash_line_strays"] == 0


# -- a suite of one's own ----------------------------------------------------------------------------------


def test_the_example_suite_runs_from_any_folder(over: dict[str, Over]) -> None:
    seen = over["F"]
    assert seen.code == 0, seen.said
    assert seen.ended.outcome is Outcome.PASS
    assert list(seen.phases) == ["contact", "boot", "signs-of-life", "current"]
    assert not seen.commands & CHANGES


def test_every_test_of_a_suite_is_a_step_and_a_failed_one_is_the_units(over: dict[str, Over]) -> None:
    seen = over["G"]
    assert seen.phases == {
        "left-out": None,
        "written": Outcome.PASS,
        "boots-1": Outcome.PASS,
        "boots-2": Outcome.PASS,
        "wrong": Outcome.FAIL,
        "never": None,
    }, seen.said
    assert (seen.ended.outcome, seen.ended.code) == (Outcome.FAIL, "suite-failed")
    assert "six by nine" in (seen.ended.sentence or "")
    assert "assert record.measure" in seen.said, "where it failed is shown"


def test_a_suite_writes_only_with_a_backup_and_leaves_the_rest_alone(over: dict[str, Over]) -> None:
    seen = over["G"]
    kinds = [event.kind for event in seen.found]
    assert kinds.index("backup-kept") < kinds.index("write-begun") < kinds.index("write-ended")
    assert seen.after[0x1C0000:0x1C1000] == b"mine" * 0x400
    assert seen.before[0x1D0000:0x1D1000] == seen.after[0x1D0000:0x1D1000]


def test_limits_given_with_the_run_stand_in_place_of_the_products(over: dict[str, Over]) -> None:
    (answer,) = [each for each in over["G"].found if isinstance(each, events.Measured) and each.name == "answer"]
    assert (answer.maximum, answer.marginal_maximum, answer.outcome) == (50, 40, Outcome.MARGINAL)


def test_the_log_is_kept_once_and_for_its_owner_only(over: dict[str, Over]) -> None:
    folder = over["G"].folder
    assert not (folder / "boot.live.log").exists()  # all of it, the secrets too, is in boot.log by now
    assert stat.S_IMODE((folder / "boot.log").stat().st_mode) == 0o600
    assert len((folder / "boot.log").read_text().splitlines()) > 3


def test_the_power_samples_are_on_record_by_their_sha256(over: dict[str, Over]) -> None:
    kept = {each.name: each for each in over["G"].found if isinstance(each, events.ArtifactKept)}
    assert hashlib.sha256((over["G"].folder / "power.csv").read_bytes()).hexdigest() == kept["power-samples"].sha256


def test_every_output_is_off_at_the_end(over: dict[str, Over]) -> None:
    assert all(seen.ended.supply_off_confirmed for seen in over.values())
