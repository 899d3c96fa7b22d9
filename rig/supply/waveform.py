"""Waveforms: what an output shall do for a while, as data. What a supply can play of it is `rig.supply.means`'s.

A waveform starts when it is fired, with the output on; after its last step volts and current limit are again as they
were set before. Volts, amps and seconds throughout; on a simulated bench that runs faster, seconds of the board.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rig.errors import UsageProblem


@dataclass(frozen=True)
class Step:
    """One level held for `seconds`. None: as it is set."""

    seconds: float
    volts: float | None = None
    amps: float | None = None


@dataclass(frozen=True)
class Waveform:
    """Steps one after the other. `words` is for a person: "dip to 2.40 V for 20 ms".

    Raises UsageProblem for one that no output can do: nothing in it, a step without time, less than nothing.
    """

    kind: str
    steps: tuple[Step, ...]
    words: str

    def __post_init__(self) -> None:
        if not self.steps:
            raise UsageProblem(f"A {self.kind} needs at least one step.")
        for step in self.steps:
            if not (math.isfinite(step.seconds) and step.seconds > 0):
                raise UsageProblem(f"A step of a {self.kind} lasts more than 0 s, not {step.seconds} s.")
            if step.volts is not None and not (math.isfinite(step.volts) and step.volts >= 0):
                raise UsageProblem(f"A step of a {self.kind} is at 0 V or more, not {step.volts} V.")
            if step.amps is not None and not (math.isfinite(step.amps) and step.amps > 0):
                raise UsageProblem(f"A step of a {self.kind} has a current limit above 0 A, not {step.amps} A.")

    @property
    def seconds(self) -> float:
        """From its first step to the end of its last."""
        return math.fsum(step.seconds for step in self.steps)

    @property
    def volts_least(self) -> float | None:
        """The lowest volts it asks for; None if it leaves the volts alone."""
        return min((step.volts for step in self.steps if step.volts is not None), default=None)

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        steps = [{"seconds": step.seconds, "volts": step.volts, "amps": step.amps} for step in self.steps]
        return {"kind": self.kind, "steps": steps, "words": self.words}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Waveform:
        """What `plain` gave. Raises UsageProblem, KeyError or TypeError for what it never gave."""
        return cls(plain["kind"], tuple(Step(**step) for step in plain["steps"]), plain["words"])


def time_words(seconds: float) -> str:
    """`20 ms`, `1.5 s`, `300 us`: three digits at most below a thousand seconds."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 0.9995:
            return f"{seconds * factor:.3g} {unit}" if seconds < 1000 else f"{seconds:.0f} s"
    return f"{seconds * 1e6:.3g} us"


def dip(volts: float, seconds: float) -> Waveform:
    """Down to `volts`, and back after `seconds`; how steep, is the supply's and the load's affair."""
    return Waveform("dip", (Step(seconds, volts),), f"dip to {volts:.2f} V for {time_words(seconds)}")


def interruption(seconds: float) -> Waveform:
    """0 V for `seconds`; the output stays on, so that it holds the rail down if it can."""
    return Waveform("interruption", (Step(seconds, 0.0),), f"interruption of {time_words(seconds)}")


def sag(volts: float, fall_s: float, hold_s: float, rise_s: float, points: int, *, nominal: float = 3.3) -> Waveform:
    """From `nominal` down to `volts` within `fall_s`, there for `hold_s`, back within `rise_s`, each slope in
    `points` steps. IEC 61000-4-29 calls the like a voltage variation."""
    steps = [
        *_slope(nominal, volts, fall_s, points),
        Step(hold_s, volts),
        *_slope(volts, nominal, rise_s, points),
    ]
    words = (
        f"sag from {nominal:.2f} V to {volts:.2f} V within {time_words(fall_s)}, there for {time_words(hold_s)}, "
        f"back within {time_words(rise_s)}, slopes in {points} steps"
    )
    return Waveform("sag", tuple(steps), words)


def ramp(start: float, end: float, seconds: float, points: int) -> Waveform:
    """From `start` to `end` volts, both included, in `points` steps."""
    if points < 2:
        raise UsageProblem(f"A ramp has at least 2 points, not {points}.")
    each = seconds / points
    steps = tuple(Step(each, start + (end - start) * index / (points - 1)) for index in range(points))
    words = f"ramp from {start:.2f} V to {end:.2f} V within {time_words(seconds)} in {points} steps"
    return Waveform("ramp", steps, words)


def starve(amps: float, seconds: float) -> Waveform:
    """The current limit at `amps` for `seconds`: the volts become what the board leaves of them."""
    return Waveform("starve", (Step(seconds, None, amps),), f"limit of {amps:.3f} A for {time_words(seconds)}")


def soft_start(volts: float, seconds: float, points: int, *, rest_s: float = 0.5) -> Waveform:
    """A supply that comes up slowly: 0 V for `rest_s`, so that the rail is empty, then up to `volts` within `seconds`
    in `points` steps. Fired with the output on, like all."""
    steps = (Step(rest_s, 0.0), *_slope(0.0, volts, seconds, points))
    words = f"soft start from 0 V to {volts:.2f} V within {time_words(seconds)} in {points} steps"
    return Waveform("soft-start", steps, words)


def staircase(nominal: float, fraction: float = 0.05, hold_s: float = 5, rest_s: float = 10) -> list[Waveform]:
    """Reset behaviour at a voltage drop, one waveform a level: `fraction` of `nominal` deeper each time, down to 0 V,
    `hold_s` there, then `rest_s` at `nominal` for a functional test.

    Source of the shape: ISO 16750-2, 4.6.2, as makers of supplies describe it (5 % a level, 5 s, 10 s); levels
    borrowed from, no claim to comply.
    """
    if not (math.isfinite(fraction) and 0 < fraction <= 1):
        raise UsageProblem(f"The levels of a staircase are more than 0 and at most 1 apart, not {fraction}.")
    count = math.ceil(1 / fraction - 1e-9)
    found = []
    for level in range(1, count + 1):
        volts = round(max(0.0, nominal * (1 - level * fraction)), 9)
        share = f"{volts / nominal:.0%} of {nominal:.2f} V"
        words = f"reset staircase at {volts:.2f} V ({share}) for {time_words(hold_s)}"
        found.append(Waveform("staircase", (Step(hold_s, volts), Step(rest_s, nominal)), words))
    return found


BY_KIND: Mapping[str, Callable[..., Waveform]] = {
    "dip": dip, "interruption": interruption, "sag": sag, "ramp": ramp, "starve": starve, "soft-start": soft_start,
}  # fmt: skip
"""Those that are one waveform, for whoever reads a kind from a file."""


def _slope(start: float, end: float, seconds: float, points: int) -> Sequence[Step]:
    """Without its start: each step stands at what is to be reached by its end."""
    if points < 1:
        raise UsageProblem(f"A slope has at least 1 point, not {points}.")
    each = seconds / points
    return [Step(each, round(start + (end - start) * index / points, 9)) for index in range(1, points + 1)]
