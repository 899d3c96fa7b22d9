"""rig power: trials at a simulated board, performed, looked at, judged, and the board right afterwards."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rig.bench.bench import Bench, read_bench
from rig.bench.slot import OpenSlot, use_slot
from rig.errors import BenchBlocked, UnitFailed, UsageProblem
from rig.flashers.base import Link
from rig.flashers.native import NativeFlasher
from rig.image import flashmap
from rig.power import perform as performing
from rig.power.inject import Nothing
from rig.power.outcome import OUTCOMES
from rig.power.perform import Ground
from rig.power.spare import erases_of
from rig.power.subject import Subject
from rig.power.trial import AFTERWARDS, Cell, Trial
from rig.records.trials import TRIALS
from rig.releases.board import FOLDER, Board
from rig.sim.bench import SimBench
from rig.sim.firmware import demo_image
from rig.sim.hands import hand
from rig.sim.spec import SimOptions
from rig.supply.waveform import Waveform, dip
from rig.uart.touched import touched_sectors
from rig.uart.trace import Command

SECTOR = 0x1000
COUNTER = (0x1EE000, 0x1EF000)  # where our factory firmware counts its boots
BAD = OUTCOMES[2:-1]


@dataclass
class Table:
    """A simulated bench, its one slot taken into use, and a board under study."""

    sim: SimBench
    bench: Bench
    used: OpenSlot
    runs: Path
    subject: Subject
    numbers: Iterator[int]
    came: bytes
    first: dict[str, Trial] = field(default_factory=dict)  # by activity, undisturbed

    @property
    def run(self) -> Path:
        return self.runs / "run"

    @property
    def image(self) -> Path:
        assert self.bench.image is not None
        return self.bench.image

    def ask(self, op: str, **more: Any) -> dict[str, Any]:
        answer = hand(self.sim.folder / "control", "A", op, **more)
        assert "error" not in answer, answer
        return answer

    def flash(self) -> bytes:
        path = self.runs / "dump.bin"
        self.ask("dump", path=str(path))
        return path.read_bytes()

    def poke(self, at: int, data: bytes) -> None:
        self.ask("poke", offset=at, data=base64.b64encode(data).decode())

    def trial(self, activity: str, phase: str | None = None, wave: Waveform | None = None, **more: Any) -> Trial:
        """As the runner does it: on record once it is made."""
        reference = more.pop("reference", False)
        plain = None if wave is None else wave.plain()
        cell = Cell("test", activity, phase, plain, **more)  # type: ignore[arg-type]
        trial = self.subject.trial(cell, next(self.numbers), reference=reference)
        with (self.run / TRIALS).open("a", encoding="utf-8") as file:
            file.write(trial.to_json() + "\n")
        return trial


def subject_of(bench: Bench, used: OpenSlot, runs: Path, image: Path | None = None) -> Subject:
    image = image or bench.image
    assert image is not None
    return Subject(used, runs, runs / "run", used.slot.product, image, speed=bench.speed)


def same_but_counter(one: bytes, other: bytes) -> bool:
    low, high = COUNTER
    return one[:low] == other[:low] and one[high:] == other[high:]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    runs = tmp_path_factory.mktemp("runs")
    (runs / "run" / FOLDER).mkdir(parents=True)
    with SimBench(SimOptions(boards=1, speed=50, seed=8, witness=True)) as sim:
        assert sim.bench_file is not None
        bench = read_bench(sim.bench_file)
        with use_slot(bench.slot("A"), holder="test") as used, subject_of(bench, used, runs) as subject:
            made = Table(sim, bench, used, runs, subject, itertools.count(1), b"")
            made.came = made.flash()
            subject.begin()
            yield made


@pytest.mark.parametrize("activity", ["link", "flash", "boot", "running", "convert"])
def test_an_undisturbed_board_is_unaffected(table: Table, activity: str) -> None:
    first = table.first[activity] = table.trial(activity, reference=True)
    assert (first.outcome, first.usual_s, first.commanded, first.achieved) == ("unaffected", None, None, None), (
        first.why
    )
    assert (first.board, first.slot, first.speed) == (table.subject.identity, "A", 50)
    assert first.board.startswith(("uid-", "mac-"))
    assert first.versions["firmware"] == "rig-demo 1.0.0"
    assert first.cycles == 2
    assert Trial.from_dict(json.loads(first.to_json())) == first


def test_a_write_goes_to_spare_sectors_and_its_wear_is_counted(table: Table) -> None:
    first = table.first["flash"]
    one, other = table.trial("flash"), table.trial("flash")
    assert one.good, one.why
    assert one.usual_s == other.usual_s == first.seconds
    area = flashmap.region("ota")
    assert len(one.erased) == len(other.erased) == 8
    assert not set(one.erased) & set(other.erased)
    assert all(area.start <= int(at, 16) < area.end for at in [*one.erased, *other.erased])
    lines = (table.run / str(first.trace)).read_text().splitlines()
    touched = touched_sectors([Command(**({"address": None} | json.loads(line))) for line in lines], len(table.came))
    assert sorted(f"0x{at:06x}" for at in touched) == sorted(first.erased)


def test_a_board_that_gets_too_little_to_boot_loops(table: Table) -> None:
    boot = table.trial("boot", amps=0.15)
    assert (boot.outcome, set(boot.causes)) == ("boot-loop", {"power-on"}), boot.why
    assert boot.log is not None
    looped, afterwards = (table.run / boot.log).read_text().split(AFTERWARDS)
    assert looped.count("power-on") > afterwards.count("power-on") > 0
    assert boot.trace is None  # a boot has nothing on the wire, but for the looks afterwards
    assert table.trial("boot").good


@pytest.mark.soak
def test_each_activity_at_far_too_few_volts(table: Table) -> None:
    link = table.trial("link", volts=1.5)
    assert link.outcome in ("detected", "recovered"), link.why
    assert "no answer to link checks" in link.why
    flash = table.trial("flash", volts=2.1)
    assert flash.outcome == "detected", flash.why
    assert table.trial("boot", volts=1.7).outcome in BAD
    assert table.trial("running", volts=1.2).outcome in BAD
    convert = table.trial("convert", volts=2.4)
    assert convert.outcome in BAD, convert.why
    for activity in ("flash", "boot"):
        assert table.trial(activity).good


def test_a_dip_at_a_phase_is_commanded_fired_and_witnessed(table: Table) -> None:
    trial = table.trial("boot", "boot", dip(1.0, 0.3), x={"volts": 1.0})
    assert trial.outcome == "recovered", trial.why
    assert trial.resets >= 1
    assert trial.commanded is not None
    assert trial.commanded["missed"] is None
    assert trial.commanded["waveform"]["steps"][0] == {"seconds": 0.3, "volts": 1.0, "amps": None}
    assert trial.commanded["fired_ns"] > trial.commanded["seen_ns"] > trial.mono
    assert trial.commanded["delay_s"] > 0
    gentle = table.trial("running", "running", dip(3.0, 0.3))
    assert gentle.outcome == "unaffected", gentle.why
    for each in (trial, gentle):
        assert each.achieved is not None or each.commanded["not_measured"], each


def test_a_dip_whose_phase_never_comes_says_so(table: Table) -> None:
    trial = table.trial("flash", "erase", dip(1.0, 0.3), nth=100)
    assert trial.commanded is not None
    assert "100th erase never passed" in trial.commanded["missed"]
    assert trial.commanded["fired_ns"] is None
    assert trial.achieved is None


def test_a_wave_that_is_long_makes_no_board_late(table: Table) -> None:
    assert table.trial("running", reference=True).good
    gentle = table.trial("running", "running", dip(3.2, 100))
    assert gentle.outcome == "unaffected", gentle.why


@pytest.mark.parametrize("pending", [True, False])
def test_the_rigs_own_look_after_a_write_sets_off_no_wave(pending: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CRC by which it looks whether the board is still there is none of the write's."""
    asked: list[int] = []

    class Linked(NativeFlasher):
        baud = 115200

        def crc(self, link: Link, offset: int, length: int) -> int:
            asked.append(offset)
            return 0

    class Waiting(Nothing):
        @property
        def pending(self) -> bool:
            return pending

    monkeypatch.setattr(performing, "NativeFlasher", Linked)
    log = SimpleNamespace(lines_since=lambda since_ns: [])
    ground = Ground(SimpleNamespace(link=None), log, (), 1.0, 1.0)  # type: ignore[arg-type]
    done = performing._in_rom(ground, Waiting(), lambda *told: None)
    assert (done.finished, asked) == (True, [] if pending else [0])


def test_an_interrupted_write_is_told_and_the_board_is_right_after(table: Table) -> None:
    trial = table.trial("flash", "erase", dip(1.0, 0.5), nth=3)
    assert trial.outcome in ("detected", "recovered", "hung"), trial.why
    assert table.trial("flash").good


def test_what_this_supply_cannot_do_is_refused_before_anything_is_done(table: Table) -> None:
    before = len(table.used.tap.commands)
    with pytest.raises(UsageProblem, match="cannot be asked"):
        table.trial("boot", "boot", dip(1.0, 1e-6))
    assert len(table.used.tap.commands) == before
    with pytest.raises(UsageProblem, match="belong together"):
        table.trial("boot", None, dip(1.0, 0.5))


def test_damage_is_found_named_and_mended(table: Table) -> None:
    """Behind the board's back, as a write that went astray would leave it."""
    good = table.flash()
    app = flashmap.APP + len(demo_image()) - flashmap.APP - 2 * SECTOR
    table.poke(app, bytes(4))
    astray = table.trial("link")
    assert astray.outcome == "silent-corruption", astray.why
    assert astray.where[0][0] // SECTOR == app // SECTOR
    assert table.trial("link").good  # mended, and known to be

    table.poke(flashmap.CALIBRATION["BK7231N"], b"\xff" * SECTOR)
    lost = table.trial("link")
    assert (lost.outcome, "calibration" in lost.why) == ("lost-data", True), lost.why
    assert table.trial("link").good

    table.poke(0, bytes(0x200))
    gone = table.trial("link")
    assert (gone.outcome, gone.where[0][0]) == ("full-image", 0), gone.why
    now, area = table.flash(), flashmap.region("ota")  # where trials wrote before, and where a full image is blank
    assert same_but_counter(now[: area.start] + good[area.start : area.end] + now[area.end :], good)


def test_what_reads_right_now_and_wrong_later_is_silent_corruption(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits that changed after the first look: a boot lies between it and the second."""
    boots, at = table.subject._boots, flashmap.APP + 5 * SECTOR

    def boots_and_flips() -> bool:
        monkeypatch.undo()
        came_up = boots()
        table.poke(at, bytes(1))
        return came_up

    monkeypatch.setattr(table.subject, "_boots", boots_and_flips)
    trial = table.trial("link")
    assert (trial.outcome, "right, and is wrong after 2 power-cycles" in trial.why) == ("silent-corruption", True), (
        trial
    )
    assert trial.where[0][0] // SECTOR == at // SECTOR


def test_a_lost_port_is_the_benchs_fault(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise BenchBlocked("port-lost", "the flash port went away")

    monkeypatch.setattr(table.used.link, "check", lost)
    trial = table.trial("boot")
    assert (trial.outcome, trial.why) == ("blocked", "the flash port went away")
    assert table.subject.broken
    monkeypatch.undo()
    assert table.trial("boot").good


def test_it_ends_as_it_came_also_when_it_was_killed(table: Table) -> None:
    record = table.run / FOLDER / "A.json"
    assert json.loads(record.read_text())["right"] is False
    table.trial("flash")
    assert not same_but_counter(table.flash(), table.came)
    table.subject.close()  # as if it was killed: nothing put right
    with subject_of(table.bench, table.used, table.runs) as again:
        again.begin()
        assert again.worn == table.subject.worn
        assert again._holding is not None
        doubtful = flashmap.region("ota").end - SECTOR  # as if a dip had met it: it may only seem to be as it came
        assert table.flash()[doubtful : doubtful + SECTOR] == table.came[doubtful : doubtful + SECTOR]
        again._holding.weak.add(doubtful)
        first = len(table.used.tap.commands)
        said = again.put_right()
    assert erases_of(table.used.tap.commands[first:], len(table.came))[doubtful] == 1
    assert "rig-factory" in said
    assert "booted" in said
    assert same_but_counter(table.flash(), table.came)
    assert json.loads(record.read_text())["right"] is True
    assert not table.used.power.on_ns


def test_a_board_without_a_backup_is_not_put_right(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as zeros only, which is no backup: it would be what the board is to end with."""
    table.subject.close()
    before = table.flash()
    monkeypatch.setattr(Board, "_read", lambda self, known, size: bytes(size))
    first = len(table.used.tap.commands)
    with Subject(table.used, table.runs, table.runs / "none", table.used.slot.product, table.image) as subject:
        with pytest.raises(UnitFailed, match="no backup"):
            subject.begin()
        assert subject.put_right() == "nothing was written"
    assert not erases_of(table.used.tap.commands[first:], len(before))
    assert table.flash() == before


def test_slots_and_images_that_do_not_do(table: Table, tmp_path: Path) -> None:
    slot = table.used.slot
    bare = replace(table.used, slot=replace(slot, table=slot.table.model_copy(update={"log_port": None})))
    with pytest.raises(UsageProblem, match="has no log_port"):
        subject_of(table.bench, bare, table.runs)
    app = tmp_path / "app.bin"
    app.write_bytes(demo_image()[flashmap.APP :])
    with subject_of(table.bench, table.used, table.runs, app) as subject:
        with pytest.raises(UsageProblem, match="takes bootloader and app"):
            subject.begin()
        subject.put_right()
    assert same_but_counter(table.flash(), table.came)
