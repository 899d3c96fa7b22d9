"""Commanded and achieved beside each other: what the supply was told to do, and what a witness on the rail saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from reports.power import names
from reports.power.gathered import Gathered
from reports.releases.safe import shown
from reports.text import number
from rig.power.trial import Trial

NOT_MEASURED = "not measured"
_LEVELS = ("3.0", "2.7", "2.4", "2.0")  # volts below which a witness tells the width
_CLEAR_V = 0.1  # so far above the commanded depth a level is, for the width below it to be the dip's


@dataclass(frozen=True)
class Spread:
    """Of some values: median, least, most, how many."""

    middle: float
    least: float
    most: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        return cls(median(values), min(values), max(values), len(values)) if values else None


@dataclass(frozen=True)
class Row:
    """Waves of one kind and duration from one supply. `how`: the means, `limits`: how far from what was asked
    these let it come out, as the means say; `widened`: trials in which the supply cannot do what was asked; `missed`:
    those whose phase never came, so that nothing fired.

    `seen`: of how many of `n` a witness saw. `depth`: lowest volts achieved less those commanded; `width`: seconds
    achieved; `delay`: from firing to the rail's fall; None: not measured.
    """

    commanded: str
    seconds: float
    supply: str
    how: str
    limits: str
    n: int
    widened: int
    missed: int
    seen: int
    depth: Spread | None
    width: Spread | None
    delay: Spread | None
    instrument: str


def rows(told: Gathered) -> list[Row]:
    """In the order in which they were first played; held supplies are not here, as nothing was played."""
    found: dict[tuple[str, float, str], list[Trial]] = {}
    for run in told.runs:
        for trial in run.trials:
            if trial.commanded is not None and trial.counted:
                wave = _wave(trial)
                key = (_text(wave.get("kind")) or "wave", round(_seconds(wave), 6), run.supply(trial.slot))
                found.setdefault(key, []).append(trial)
    return [_row(kind, seconds, supply, trials) for (kind, seconds, supply), trials in found.items()]


def measured(told: Gathered) -> tuple[int, int]:
    """(trials in which something was played, those of them that a witness saw)."""
    played = [trial for trial in told.trials if trial.commanded is not None and trial.counted and not trial.missed]
    return len(played), sum(trial.achieved is not None for trial in played)


def _row(kind: str, seconds: float, supply: str, trials: Sequence[Trial]) -> Row:
    commanded = [trial.commanded for trial in trials if trial.commanded is not None]
    means: dict[str, Any] = next((each["means"] for each in commanded if isinstance(each.get("means"), dict)), {})
    saw = [(trial, trial.achieved) for trial in trials if trial.achieved is not None]
    depth = [
        low - asked
        for trial, each in saw
        if (asked := _least(_wave(trial))) is not None and (low := _number(each.get("v_min"))) is not None
    ]
    delay = [value for _, each in saw if (value := _number(each.get("delay_s"))) is not None]
    return Row(
        _said(kind, seconds, trials), seconds, supply, shown(means.get("how", "")), _limits(means), len(trials),
        sum(bool(each.get("widened")) for each in commanded), sum(trial.missed is not None for trial in trials),
        len(saw), Spread.of(depth), Spread.of([width for trial, each in saw if (width := _width(trial, each))]),
        Spread.of(delay), shown(next((_text(each.get("instrument")) for _, each in saw), "")),
    )  # fmt: skip


def _said(kind: str, seconds: float, trials: Sequence[Trial]) -> str:
    """A dip for 100 ms, 18 depths from 0.5 to 3.2 V."""
    head = f"{shown(kind)}, {names.amount('seconds', seconds)}"
    for axis, place, what in (("volts", "volts", "depth"), ("amps", "amps", "limit")):
        values = sorted({value for trial in trials if (value := _least(_wave(trial), place)) is not None})
        if len(values) == 1:
            return f"{head}, {what} {names.amount(axis, values[0])}"
        if values:
            low, high = names.amount(axis, values[0]), names.amount(axis, values[-1])
            return f"{head}, {len(values)} {what}s from {low} to {high}"
    return head


def _wave(trial: Trial) -> dict[str, Any]:
    wave = (trial.commanded or {}).get("waveform")
    return wave if isinstance(wave, dict) else {}


def _steps(wave: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in wave.get("steps") or [] if isinstance(each, dict)]


def _seconds(wave: dict[str, Any]) -> float:
    return sum(_number(each.get("seconds")) or 0.0 for each in _steps(wave))


def _least(wave: dict[str, Any], name: str = "volts") -> float | None:
    return min((value for each in _steps(wave) if (value := _number(each.get(name))) is not None), default=None)


def _limits(means: dict[str, Any]) -> str:
    early, late, volts = (_number(means.get(name)) for name in ("early_s", "late_s", "volts_tolerance"))
    if early is None or late is None:
        return ""
    told = f"width -{number(early * 1000)} to +{number(late * 1000)} ms"
    return told if volts is None else f"{told}, depth ±{number(volts * 1000)} mV"


def _width(trial: Trial, saw: dict[str, Any]) -> float | None:
    """Below the lowest level that is clearly above the commanded depth."""
    asked, widths = _least(_wave(trial)), saw.get("widths")
    if asked is None or not isinstance(widths, dict):
        return None
    above = [level for level in _LEVELS if float(level) >= asked + _CLEAR_V and _number(widths.get(level))]
    return _number(widths.get(above[-1])) if above else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
