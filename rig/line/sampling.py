"""Which of the units that passed gets a burn-in besides."""

from __future__ import annotations

from rig.line.rules import Sampling


def due(rule: Sampling, passed_so_far: int) -> bool:
    """Whether the unit that has just passed, the `passed_so_far`-th of its batch (itself included), is a sample.

    The first, and every `every`-th after it: with 10, the units 1, 11, 21. The first is among them so that a short
    batch is sampled too. ValueError for less than one unit: a bug of the caller's."""
    if passed_so_far < 1:
        raise ValueError(f"no unit has passed: {passed_so_far}")
    return rule.every > 0 and (passed_so_far - 1) % rule.every == 0
