"""Whether trials look like one threshold at all: a number with a narrow interval can be fitted to anything.

A board that hangs at 2.2 V but is cleanly reset at 1.5 V fails in a window; one that is sick fails now and then at
any level. Both would be given a threshold that means nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rig.power.posterior import LAPSE_WEIGHTS, LAPSES, Floats, Posterior

Told = tuple[float, bool]  # the level of a trial, and whether it was bad

_ODDS = math.log(150.0)  # of the other model; "decisive" begins at 100 in Jeffreys, Theory of Probability (1961)
_SHARES = np.array([0.15, 0.25, 0.35, 0.5])  # that may go the wrong way everywhere


def doubt(posterior: Posterior, trials: Sequence[Told], downwards: bool) -> str | None:
    """One sentence on why a threshold fitted to these trials is not to be trusted, None where it may be.

    Two other models are held against the one that was fitted, by the odds for what was seen (Bayes factors)."""
    tried = _Tried.of(trials)
    return _window(tried, posterior.evidence) or _sick(tried, posterior.evidence, downwards)


@dataclass(frozen=True)
class _Tried:
    """Levels, rising, and how many trials at each were bad and good."""

    values: list[float]
    bad: Floats
    good: Floats

    @classmethod
    def of(cls, trials: Sequence[Told]) -> _Tried:
        counts = Counter(trials)
        values = sorted({level for level, _ in counts})
        return cls(
            values,
            np.array([counts[level, True] for level in values], dtype=np.float64),
            np.array([counts[level, False] for level in values], dtype=np.float64),
        )


def _window(tried: _Tried, evidence: float) -> str | None:
    """One way between two levels and the other way on both sides of them, lapses apart."""
    values, n = tried.values, float(tried.bad.sum() + tried.good.sum())
    first, last = np.triu_indices(len(values))
    inner = (first > 0) & (last < len(values) - 1)
    if not inner.any():
        return None
    first, last = first[inner], last[inner]
    more_bad = np.concatenate([[0.0], np.cumsum(tried.bad - tried.good)])
    as_bad = tried.good.sum() + more_bad[last + 1] - more_bad[first]  # agree with "bad inside, good outside"
    for agree, inside, beyond in ((as_bad, "bad", "good"), (n - as_bad, "good", "bad")):
        logs = agree[:, None] * np.log1p(-LAPSES / 2) + (n - agree)[:, None] * np.log(LAPSES / 2)
        if _log_mean(logs, np.log(LAPSE_WEIGHTS)) - evidence >= _ODDS:
            best = int(agree.argmax())
            return (
                f"It is {inside} from {values[first[best]]:g} to {values[last[best]]:g} and {beyond} both below and "
                f"above: this is not one threshold; search its two edges apart."
            )
    return None


def _sick(tried: _Tried, evidence: float, downwards: bool) -> str | None:
    """On one side of a level as it should be, lapses apart; on the other a share goes the wrong way everywhere."""
    low = {way: np.concatenate([[0.0], np.cumsum(each)]) for way, each in (("bad", tried.bad), ("good", tried.good))}
    high = {way: each[-1] - each for way, each in low.items()}  # trials below each cut, and above it
    for due, wrong in (("good", "bad"), ("bad", "good")):  # what the sick side should be, and what it is at times
        sick_is_low = (due == "bad") == downwards
        sick, well = (low, high) if sick_is_low else (high, low)
        shared = sick[wrong][:, None] * np.log(_SHARES) + sick[due][:, None] * np.log1p(-_SHARES)
        lapsed = well[due][:, None] * np.log(LAPSES / 2) + well[wrong][:, None] * np.log1p(-LAPSES / 2)
        logs = shared[:, :, None] + lapsed[:, None, :]
        if _log_mean(logs, np.log(LAPSE_WEIGHTS) - math.log(len(_SHARES))) - evidence >= _ODDS:
            cut = int(logs.max(axis=(1, 2)).argmax())
            among = tried.values[:cut] if sick_is_low else tried.values[cut:]
            odd, n = sick[wrong][cut], sick[wrong][cut] + sick[due][cut]
            return (
                f"{odd:.0f} of {n:.0f} trials from {among[0]:g} to {among[-1]:g} were {wrong}, whatever the level: "
                f"something else than this threshold decides there."
            )
    return None


def _log_mean(logs: Floats, weights: Floats) -> float:
    """Of models that are each as likely as any other, weighted along the last axis: the logarithm of the mean."""
    logs = logs + weights
    most = float(logs.max())
    return most + math.log(float(np.exp(logs - most).sum()) / len(logs))
