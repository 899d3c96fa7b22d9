"""What a channel can do of a waveform, and by what means: its own list or timer, else writes at their times.

`fit` is asked before anything is sent: a waveform either fits, or is refused in words, or is widened and says so.
What is stated here is what the supply is *told*, and when. How fast a rail follows is the load's affair (a linear
supply only lets go of it): only a witness at the board knows what was achieved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from rig.errors import UsageProblem
from rig.supply.waveform import Step, Waveform, time_words

if TYPE_CHECKING:
    from rig.supply.channel import Limits

ROUNDED = 0.1  # a step that rounding to the grid changes by more of itself is not what was asked for
_TINY = 1e-9


@dataclass(frozen=True)
class Means:
    """One way to play a waveform. Seconds and volts.

    A step lasts `least_s` to `most_s` on a grid of `grid_s`, and comes out within [asked - `early_s`, asked +
    `late_s`]; `most_steps` at once. "list": the instrument plays them by itself. "timed-writes": the supply service
    sends each edge at its time.
    """

    how: Literal["list", "timed-writes"]
    least_s: float
    grid_s: float
    early_s: float
    late_s: float
    volts_tolerance: float
    source: str
    most_s: float = 86400.0
    most_steps: int = 10_000

    @property
    def words(self) -> str:
        return "the supply's own list" if self.how == "list" else "writes at their times"

    def at(self, speed: float) -> Means:
        """On a bench that lives `speed` times faster, in the board's seconds: the simulated instrument's own clock
        goes as fast as the board's, the service that sends edges does not."""
        if self.how == "list" or speed == 1.0:
            return self
        return replace(
            self, least_s=self.least_s * speed, grid_s=self.grid_s * speed, early_s=self.early_s * speed,
            late_s=self.late_s * speed, source=f"{self.source}; times {speed:g}, the speed of the simulated board",
        )  # fmt: skip


@dataclass(frozen=True)
class Commanded:
    """What will be sent: the waveform after rounding (and widening), by which means, as one sentence.

    `speed`: the board's seconds in one of ours, 1 on a real bench.
    """

    waveform: Waveform
    means: Means
    widened: bool
    sentence: str
    speed: float = 1.0

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "waveform": self.waveform.plain()}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Commanded:
        """What `plain` gave."""
        return cls(**{**plain, "waveform": Waveform.of(plain["waveform"]), "means": Means(**plain["means"])})


def fit(waveform: Waveform, limits: Limits, widen: bool, *, speed: float = 1.0) -> Commanded:
    """`waveform` as the channel with these `limits` can play it, by the first of its means that can.

    Where none can, `widen` makes its steps as long as they must be. Raises UsageProblem, which says what would do,
    for one that does not fit even so, and for volts and amps beyond the channel's.
    """
    _check_levels(waveform, limits)
    name = limits.name or "this supply"
    if not limits.means:
        raise UsageProblem(f"{name} plays no waveforms.")
    problems: list[str] = []
    found: list[Commanded] = []
    for means in limits.means:
        try:
            found.append(_fitted(waveform, means.at(speed), limits, speed))
        except UsageProblem as problem:
            problems.append(str(problem))
    exact = next((commanded for commanded in found if not commanded.widened), None)
    if exact is not None:
        return exact
    if not found:
        raise UsageProblem(problems[-1])
    widest = min(found, key=lambda commanded: commanded.waveform.seconds)
    if not widen:
        raise UsageProblem(_refusal(waveform, widest, name))
    return widest


def _check_levels(waveform: Waveform, limits: Limits) -> None:
    gives = f"{waveform.words}: {limits.name or 'this supply'} gives at most"
    for step in waveform.steps:
        if step.volts is not None and step.volts > limits.volts_max:
            raise UsageProblem(f"{gives} {limits.volts_max:g} V.")
        if step.amps is not None and step.amps > limits.amps_max:
            raise UsageProblem(f"{gives} {limits.amps_max:g} A.")


def _fitted(waveform: Waveform, means: Means, limits: Limits, speed: float) -> Commanded:
    name = limits.name or "this supply"
    if len(waveform.steps) > means.most_steps:
        raise UsageProblem(
            f"{waveform.words}: {name} takes {means.most_steps} steps at once by {means.words}, not "
            f"{len(waveform.steps)}: ask for fewer points."
        )
    fits = all(_takes(step.seconds, means) for step in waveform.steps)
    steps = tuple(_stepped(step, means, limits, up=not fits) for step in waveform.steps)
    longest = max(step.seconds for step in steps)
    if longest > means.most_s + _TINY:
        raise UsageProblem(
            f"{waveform.words}: a step of {name} lasts at most {time_words(means.most_s)} by {means.words}, not "
            f"{time_words(longest)}."
        )
    seconds = math.fsum(step.seconds for step in steps)
    words = waveform.words
    if not fits:
        words += f", widened from {time_words(waveform.seconds)} to {time_words(seconds)} in all"
    elif not math.isclose(seconds, waveform.seconds, rel_tol=1e-6):
        words += f", rounded to {time_words(seconds)} in all"
    sent = Waveform(waveform.kind, steps, words)
    return Commanded(sent, means, not fits, _sentence(sent, means), speed)


def _takes(seconds: float, means: Means) -> bool:
    if seconds < means.least_s - _TINY:
        return False
    return abs(_rounded(seconds, means, up=False) - seconds) <= ROUNDED * seconds + _TINY


def _rounded(seconds: float, means: Means, *, up: bool) -> float:
    count = max(seconds, means.least_s) / means.grid_s
    whole = math.ceil(count - 1e-6) if up else max(round(count), math.ceil(means.least_s / means.grid_s - 1e-6))
    return round(whole * means.grid_s, 9)


def _stepped(step: Step, means: Means, limits: Limits, *, up: bool) -> Step:
    volts = None if step.volts is None else min(_on_grid(step.volts, limits.volts_step), limits.volts_max)
    amps = None if step.amps is None else max(_on_grid(step.amps, limits.amps_step), limits.amps_step)
    return Step(_rounded(step.seconds, means, up=up), volts, amps)


def _on_grid(value: float, step: float) -> float:
    return round(round(value / step) * step, 9)


def _sentence(waveform: Waveform, means: Means) -> str:
    sure = max(0.0, waveform.steps[0].seconds - means.early_s), waveform.steps[0].seconds + means.late_s
    low, high = time_words(sure[0]), time_words(sure[1])
    span = f"within {low} to {high}" if low != high else f"of {low}"
    step = "one" if len(waveform.steps) == 1 else "first"
    return f"{waveform.words}; by {means.words}, its {step} step {span} as told."


def _refusal(waveform: Waveform, could: Commanded, name: str) -> str:
    means = could.means
    bad = min(waveform.steps, key=lambda step: (_takes(step.seconds, means), step.seconds))
    what = f"a {waveform.kind} of {time_words(waveform.seconds)}"
    if len(waveform.steps) > 1:
        what += f" with a step of {time_words(bad.seconds)}"
    if bad.seconds < means.least_s:
        why = f"whose steps last {time_words(means.least_s)} or more"
        instead = f"ask for at least {time_words(means.least_s)}" + (" a step" if len(waveform.steps) > 1 else "")
    else:
        why = f"whose steps last a multiple of {time_words(means.grid_s)}"
        instead = f"ask for {time_words(_rounded(bad.seconds, means, up=True))}"
    return f"{what} cannot be asked of {name}, {why} (by {means.words}): {instead}, or --widen."
