"""Whole boards whose threshold nobody tells the rig: the study's search finds it.

What a board really does is computed apart from the rig, from the model's law and its own constants: a core's mishaps
come at a rate in proportion to how far its rail stands below what it computes right at, so that a dip of known depth
and width goes wrong with a chance of its own. Half of the dips to V50 do.
"""

from __future__ import annotations

import math
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from power_bench import PowerBench
from test_board import Table

from rig.power.begin import new_record
from rig.power.record import read_record
from rig.power.result import results
from rig.power.runner import Run
from rig.power.study import load_study
from rig.power.trial import Trial, read_trials
from rig.records.run import RunFolder
from rig.sim.constants import load_constants

pytest.importorskip("unicorn")
SPEED = 20
STEP, WIDTH = 0.02, 0.1  # volts, seconds of the board
STUDY = f"""
name = "hidden"
title = "Hidden"
words = "Dips of {WIDTH} s while the firmware runs."
speed = {SPEED}
later = 1
reference_every = 15

[[parts]]
name = "dip"
words = "How deep."
activity = "running"
phases = ["running"]
wave = {{ kind = "dip", seconds = {WIDTH} }}
search = {{ axis = "volts", low = 1.9, high = 2.9, step = {STEP}, max_trials = 60 }}
"""


@dataclass(frozen=True)
class Hidden:
    """A board's own numbers: volts it computes right at, mishaps a second just above reset, ohms of its leads."""

    works: float
    rate: float
    ohms: float

    def toml(self, slot: str) -> str:
        return (
            f"[slot.{slot}.core]\nworks_volts = {self.works}\nmishaps_per_second = {self.rate}\n"
            f"[slot.{slot}.rail]\ncable_ohms = {self.ohms}\n"
        )

    def chance(self, volts: float) -> float:
        """That a dip to `volts` goes wrong."""
        own = {"core": {"works_volts": self.works, "mishaps_per_second": 1e-9}, "rail": {"cable_ohms": self.ohms}}
        with closing(Table(constants=own)) as table:
            table.supply(True).run(2.5)
            assert "boot complete" in table.log
            dips = [[0.0, True, volts, 0.5], [WIDTH, True, 3.3, 0.5]]
            table.ask(op="supply-plan", points=dips)
            begin, _ = table.now, table.run(3 * WIDTH)
            rail = table.board.rail
            reset = load_constants().rail.reset_falling_volts
            span = rail.model(begin), rail.model(table.now)
            if rail.trace.lowest(*span) <= reset:
                return 1.0
            missing = span[1] - span[0] - rail.trace.effort(*span, reset, self.works)
        return 1.0 - math.exp(-self.rate * missing)

    @property
    def v50(self) -> float:
        """By halving."""
        low, high = 1.85, 2.9
        while high - low > STEP / 20:
            middle = (low + high) / 2
            low, high = (middle, high) if self.chance(middle) > 0.5 else (low, middle)
        return (low + high) / 2


BOARDS = [
    Hidden(2.40, 200.0, 0.1),
    Hidden(2.25, 400.0, 0.3),
    Hidden(2.55, 120.0, 0.05),
    Hidden(2.32, 300.0, 0.2),
    Hidden(2.70, 150.0, 0.1),
]


class Nobody:
    """Who watches."""

    def planned(self, done: int, left: int) -> None: ...

    def ended(self, trial: Trial) -> None: ...

    def say(self, sentence: str) -> None: ...


def found(table: PowerBench, slots: list[str], folder: Path) -> dict[str, tuple[float, int, bool]]:
    """(V50, trials, whether it is inside of what was tried) as the study at the whole bench says, by slot."""
    path = folder / "hidden.toml"
    path.write_text(STUDY)
    study = load_study(str(path)).only(slots=slots)
    bench, run = table.bench, RunFolder.create(table.runs)
    new_record(study, bench, "x", table.image, run.id).write(run.path)
    with Run(run.path, read_record(run.path), table.image, Nobody()) as going:
        going.go(bench)
        assert going.problems == []
    fits = {}
    for board in results(read_record(run.path), read_trials(run.path)):
        assert board.out is None
        (part,) = board.found
        assert part.fit is not None
        fits[board.slot] = part.fit.v50.value, part.n, part.fit.outside is None
    for slot in slots:
        assert not table.hand(slot, "status")["on"]
    return fits


def test_the_law_of_a_board_has_a_threshold() -> None:
    board = BOARDS[0]
    assert board.chance(board.works + 0.05) == pytest.approx(0.0, abs=1e-3)
    assert board.chance(board.v50) == pytest.approx(0.5, abs=0.05)
    assert board.chance(1.7) == 1.0


@pytest.mark.soak
def test_the_search_finds_what_each_of_five_boards_hides(tmp_path: Path) -> None:
    slots = list("ABCDE")
    own = "".join(board.toml(slot) for board, slot in zip(BOARDS, slots, strict=True))
    with PowerBench(tmp_path, own, boards=5, speed=SPEED, seed=8) as table:
        fits = found(table, slots, tmp_path)
    lines, wrong = [], []
    for slot, board in zip(slots, BOARDS, strict=True):
        v50, trials, inside = fits[slot]
        truth = board.v50
        lines.append(
            f"{slot}: truth {truth:.4f} V, found {v50:.4f} V in {trials} trials, {(v50 - truth) / STEP:+.2f} steps"
        )
        if not inside or abs(v50 - truth) > 2 * STEP:
            wrong.append(lines[-1])
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert wrong == []


@pytest.mark.soak
def test_the_search_finds_what_one_board_hides(tmp_path: Path) -> None:
    with PowerBench(tmp_path, BOARDS[0].toml("A"), boards=1, speed=50, seed=8) as table:
        v50, trials, inside = found(table, ["A"], tmp_path)["A"]
    assert inside
    assert abs(v50 - BOARDS[0].v50) <= 2 * STEP, (v50, BOARDS[0].v50, trials)
