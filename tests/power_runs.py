"""Runs of supply studies without a bench: the studies' own plans, asked and told by boards that are a formula."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rig.power.plan import Plan
from rig.power.record import Place, Played, Record
from rig.power.study import Study, load_study
from rig.power.trial import Cell, Trial
from rig.uart.trace import Command, save_json

UTC = "2026-11-23T09:00:00+00:00"
LOG = "V:BK7231N_1.0.5\nOpenBK7231N, version 1.18.300\n[FUNC]calibration_main\nlogin:psk=correct-horse-battery\n"
Says = Callable[[Cell, random.Random], str]


@dataclass
class Board:
    """One that needs `amps` and `volts` of a held supply, and stands dips down to `dip` volts; logistic of `scale`.

    `kind`: what becomes of it below. `dips`: by phase, else `dip`.
    """

    name: str = "uid-aa01"
    amps: float = 0.305
    volts: float = 2.75
    dip: float = 2.2
    dips: dict[str, float] = field(default_factory=dict)
    scale: float = 0.6  # of each one's own step
    kind: str = "boot-loop"

    def __call__(self, cell: Cell, rng: random.Random) -> str:
        wave = cell.waveform
        if wave is None:
            bad = _below(cell.amps, self.amps, 0.01 * self.scale, rng)
            return self.kind if bad or _below(cell.volts, self.volts, 0.025 * self.scale, rng) else "unaffected"
        step = wave["steps"][0]
        if step["volts"] is None:
            return self.kind if _below(step["amps"], self.amps, 0.01 * self.scale, rng) else "unaffected"
        need = self.dips.get(cell.phase or "", self.dip) + 0.4 * math.log10(step["seconds"] / 0.1)
        if not _below(step["volts"], need, 0.05 * self.scale, rng):
            return "unaffected"
        return "recovered" if step["volts"] < 1.8 else "hung"


def _below(value: float, need: float, scale: float, rng: random.Random) -> bool:
    return rng.random() < 1 / (1 + math.exp(max(-500.0, min(500.0, (value - need) / scale))))


def place(slot: str = "A", **changed: Any) -> Place:
    told = {
        "slot": slot, "product": "ds-121", "volts": 3.3, "amps": 0.5, "maximum_volts": 3.6,
        "supply": {"maker": "Keysight", "model": "E36312A", "serial": "MY1", "dialect": "keysight-e36300"},
    }  # fmt: skip
    return Place(**(told | changed))


def record(study: Study, places: list[Place], **changed: Any) -> Record:
    made = Record(
        id="20261123-090000-ab12", utc=UTC, study=study, places=places,
        sources=[Played("cp2102-pin", "3.3 V pin of a CP2102 adaptor", 3.3, 0.1, "SparkFun's hook-up guide"),
                 Played("ams1117-5v", "AMS1117-3.3 on a 5 V that sags", 3.3, 0.8, "data sheet, recalled"),
                 Played("ft232rl-pin", "3V3OUT of an FT232RL adaptor", 3.3, 0.05, "data sheet, recalled"),
                 Played("ch340-v3", "V3 of a CH340 adaptor", 3.3, 0.03, "recalled")],
        bench={"spec": "sim:1", "name": "simulated", "simulated": True, "speed": study.speed},
        image={"name": "OpenBK7231N_QIO.bin", "sha256": "ab" * 32, "firmware": "OpenBeken", "version": "1.18.300"},
        rig={"version": "0.1.0", "python": "3.11"},
    )  # fmt: skip
    return replace(made, **changed)


def made(
    folder: Path, study: Study | str, boards: dict[str, Board] | None = None, *, seed: int = 1, witness: bool = False,
    most: int | None = None, says: Says | None = None, **changed: Any,
) -> Path:  # fmt: skip
    """A study's folder as a run leaves it: each slot's board asked to the end, or `most` trials of it."""
    asked = load_study(study) if isinstance(study, str) else study
    boards = boards or {"A": Board()}
    told = record(asked, [place(slot) for slot in boards], **changed)
    folder.mkdir(parents=True)
    told.write(folder)
    rng, trials = random.Random(seed), []
    for slot, board in boards.items():
        plan, mine = Plan.of(told, slot), 0
        while (one := plan.next()) is not None and (most is None or mine < most):
            outcome = "unaffected" if one.reference else (says or board)(one.cell, rng)
            trial = trial_of(len(trials) + 1, one.cell, slot, board.name, outcome, one.reference, witness, rng)
            plan.tell(trial)
            trials.append(trial)
            mine += 1
    keep(folder, trials)
    return folder


def trial_of(
    n: int, cell: Cell, slot: str, board: str, outcome: str, reference: bool, witness: bool, rng: random.Random
) -> Trial:
    wave = cell.waveform
    commanded = achieved = None
    if wave is not None:
        seconds = wave["steps"][0]["seconds"]
        commanded = {
            "sentence": wave["words"], "waveform": wave, "widened": False, "fired_ns": 1, "missed": None,
            "means": {"how": "list", "least_s": 0.01, "grid_s": 0.001, "early_s": 0.001, "late_s": 0.002,
                      "volts_tolerance": 0.01, "source": "manual"},
        }  # fmt: skip
        if witness and wave["steps"][0]["volts"] is not None:
            achieved = {
                "v_min": wave["steps"][0]["volts"] + 0.02 + 0.01 * rng.random(),
                "widths": {"3.0": seconds * 1.05, "2.7": seconds * 1.02}, "area_vs": 0.1, "delay_s": 0.004,
                "instrument": "DSOX1102G", "sample_s": 1e-5,
            }  # fmt: skip
    return Trial(
        n=n, cell=cell, slot=slot, board=board, reference=reference, outcome=outcome,  # type: ignore[arg-type]
        why="as ever" if outcome == "unaffected" else f"it was {outcome}", commanded=commanded, achieved=achieved,
        seconds=1.0, usual_s=1.0, erased={"0x1c0000": 2} if cell.activity == "flash" else {}, utc=UTC, mono=n,
        speed=50.0, log=f"logs/{n:05}.txt" if outcome != "unaffected" else None,
        trace=f"traces/{n:05}.jsonl" if outcome == "hung" else None,
    )  # fmt: skip


def keep(folder: Path, trials: list[Trial]) -> None:
    """Trials, and the log and wire of the first of each class."""
    (folder / "trials.jsonl").write_text("".join(f"{each.to_json()}\n" for each in trials), encoding="utf-8")
    (folder / "logs").mkdir(exist_ok=True)
    for kind in dict.fromkeys(trial.outcome for trial in trials):
        first = next(trial for trial in trials if trial.outcome == kind)
        if first.log is not None:
            (folder / first.log).write_text(f"{LOG}it was {kind}\n" + "still here\n" * 60, encoding="utf-8")
        if first.trace is not None:
            commands = [
                Command("erase", 0x1C0000 + at * 0x1000, ns, ns + 100, ns + 200, ns + 300, 13, 16, baud=921600,
                        answered=at != 5)
                for at in range(6) if (ns := 5_000_000_000 + at * 50_000_000)
            ]  # fmt: skip
            (folder / "traces").mkdir(exist_ok=True)
            save_json(folder / first.trace, commands)
