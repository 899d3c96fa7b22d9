"""Every outcome class, brought about at a simulated board by its supply or by a fault, and judged by the rig.

The bench is reached through its bench.toml alone; the boards' constants make sure that what is a matter of chance
elsewhere comes about. What is planted and what is judged make the confusion table, which is printed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from power_bench import PowerBench

from rig.power.outcome import COUNTED
from rig.power.subject import Subject
from rig.power.trial import Activity, Cell, Phase
from rig.supply.waveform import Waveform, dip, interruption, starve

pytest.importorskip("unicorn")
SPEED = 20
QUICK_SPEED = 50
SURE = "[core]\nmishaps_per_second = 1000.0\nhang_share = 0.0\n"  # below 2.4 V for long; B only derails
HANGS = "[slot.A.core]\nhang_share = 1.0\n"
_LOSES = "[slot.{}.core]\nstray_share = 1.0\nstray_start = {:#x}\nstray_end = {:#x}\n"
LOSE_CALIBRATION = _LOSES.format("C", 0x1D0000, 0x1D1000)
LOSE_BOOTLOADER = _LOSES.format("D", 0x0, 0x1000)


@dataclass(frozen=True)
class Scene:
    """What is done to the board of a slot, and what comes of it."""

    planted: str
    slot: str
    cell: Cell
    fault: dict[str, Any] = field(default_factory=dict)


def waved(activity: Activity, phase: Phase, wave: Waveform, **more: Any) -> Cell:
    return Cell("confusion", activity, phase, wave.plain(), **more)


def held(activity: Activity, **supply: float) -> Cell:
    return Cell("confusion", activity, **supply)


QUICK = [  # what needs a board of its own; test_power_perform.py has more of every day
    Scene("silent-corruption", "A", held("flash", volts=2.55)),
    Scene("hung", "A", waved("running", "running", dip(2.1, 0.2))),
]
SCENES = [
    *QUICK,
    Scene("unaffected", "A", waved("running", "running", dip(2.9, 0.1))),
    Scene("boot-loop", "A", held("boot", amps=0.15)),
    Scene("unaffected", "A", held("boot", volts=3.0)),
    Scene("unaffected", "B", held("flash", volts=2.9)),
    Scene("late", "A", waved("boot", "rom", interruption(16.0))),
    Scene("late", "B", held("flash"), {"name": "late", "options": {"ms": 60}}),
    Scene("detected", "A", held("flash", volts=2.1)),  # the ROM works, the die does not
    Scene("detected", "B", held("flash"), {"name": "flip", "options": {"rate": 1e-4}}),
    Scene("recovered", "A", waved("running", "running", interruption(0.2))),
    Scene("recovered", "A", waved("boot", "boot", dip(1.0, 0.1))),
    Scene("recovered", "B", waved("running", "running", dip(2.2, 0.02))),
    Scene("boot-loop", "B", held("boot", amps=0.2)),
    Scene("recovered", "B", waved("running", "running", starve(0.05, 0.5))),
    Scene("hung", "A", waved("boot", "running", dip(2.2, 0.3))),
    Scene("silent-corruption", "B", held("flash", volts=2.6)),
    Scene("lost-data", "C", waved("running", "running", dip(2.1, 0.2))),
    Scene("lost-data", "C", waved("boot", "running", dip(2.2, 0.2))),
    Scene("full-image", "D", waved("running", "running", dip(2.1, 0.2))),
    Scene("full-image", "D", waved("running", "running", dip(2.2, 0.2))),
    Scene("dead", "A", waved("running", "running", dip(2.6, 0.2)), {"name": "dead", "options": {"below": 2.75}}),
    Scene("dead", "B", waved("boot", "running", dip(2.6, 0.2)), {"name": "dead", "options": {"below": 2.75}}),
]


def played(
    table: PowerBench, subject: Subject, slot: str, scenes: Iterable[Scene], referred: Iterable[str] = ()
) -> list[tuple[str, str, str]]:
    """(planted, judged, why) of each of the slot's scenes. `referred`: activities that need no reference."""
    found = []
    referred = set(referred)
    for n, scene in enumerate(each for each in scenes if each.slot == slot):
        if scene.cell.activity not in referred:  # what is usual
            reference = subject.trial(Cell("confusion", scene.cell.activity), 1000 + n, reference=True)
            assert reference.outcome == "unaffected", reference.why
            referred.add(scene.cell.activity)
        if scene.fault:
            table.hand(slot, "fault", **scene.fault)
        trial = subject.trial(scene.cell, n)
        if scene.fault and scene.planted != "dead":
            table.hand(slot, "heal", name=scene.fault["name"])
        assert not (trial.commanded or {}).get("missed"), trial.commanded
        found.append((scene.planted, trial.outcome, trial.why))
    return found


def table_of(pairs: Sequence[tuple[str, str, str]]) -> str:
    """Rows are what was planted, columns what was judged."""
    counts = Counter((planted, judged) for planted, judged, _ in pairs)
    shown = [*COUNTED, "blocked"]
    short = {each: each[:10] for each in shown}
    lines = [" " * 18 + "".join(f"{short[each]:>11}" for each in shown)]
    lines += [f"{row:18}" + "".join(f"{counts[row, each] or '.':>11}" for each in shown) for row in COUNTED]
    return "\n".join(lines)


def test_silent_corruption_and_hanging_are_told_apart(tmp_path: Path) -> None:
    with (
        PowerBench(tmp_path, SURE + HANGS, boards=1, speed=QUICK_SPEED, seed=8) as table,
        table.subject("A", cycles=1) as one,
    ):
        pairs = played(table, one, "A", QUICK, referred=("flash", "running"))
        before = one.identity
        one.put_right()
        assert not table.hand("A", "status")["on"]
    assert [(planted, judged) for planted, judged, _ in pairs] == [(each.planted,) * 2 for each in QUICK], pairs
    assert before


@pytest.mark.soak
def test_every_class_is_told_from_every_other(tmp_path: Path) -> None:
    pairs: list[tuple[str, str, str]] = []
    own = SURE + HANGS + LOSE_CALIBRATION + LOSE_BOOTLOADER
    with PowerBench(tmp_path, own, boards=4, speed=SPEED, seed=8) as table:
        for slot in "ABCD":
            with table.subject(slot) as subject:
                pairs += played(table, subject, slot, SCENES)
                if slot in "CD":  # the others are dead by now
                    subject.put_right()
    sys.stdout.write(f"\n{table_of(pairs)}\n")
    assert {planted for planted, _, _ in pairs} == set(COUNTED)
    assert [pair for pair in pairs if pair[0] != pair[1]] == []
