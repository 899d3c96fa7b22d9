"""Boards with a known threshold: how a board answers at a level, drawn with its own seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rig.power.levels import Levels
from rig.power.search import Search

COARSE = Levels.linear(1.8, 3.3, 0.02)  # 76 levels
FINE = Levels.linear(1.5, 3.3, 0.01)  # 181 levels, a bench supply's own grid


@dataclass(frozen=True)
class Model:
    """P(bad) = lapse / 2 + (1 - lapse) / (1 + exp((x - v50) / scale)); `scale` in steps of `levels`."""

    levels: Levels
    v50: float
    scale: float
    lapse: float
    seed: int

    def chance(self, level: float) -> float:
        return self.lapse / 2 + (1 - self.lapse) * self.sound(level)

    def sound(self, level: float) -> float:
        """Without lapses."""
        return 1 / (1 + math.exp(min(500.0, (level - self.v50) / (self.scale * self.levels.step))))

    @property
    def v01(self) -> float:
        """Where one in a hundred is bad, lapses apart."""
        return self.v50 + self.scale * self.levels.step * math.log(99)

    def steps_off(self, found: float, truth: float | None = None) -> float:
        return abs(found - (self.v50 if truth is None else truth)) / self.levels.step

    def board(self) -> Board:
        return Board(self)


class Board:
    """One that answers by a model."""

    def __init__(self, model: Model) -> None:
        self.model, self._rng = model, np.random.default_rng(model.seed)

    def bad(self, level: float) -> bool:
        return bool(self._rng.random() < self.model.chance(level))


def models(count: int, seed: int, levels: Levels = COARSE) -> Iterator[Model]:
    """Softness 0.3 to 2 steps, lapses 0 to 3 %, thresholds well inside of the levels, each as likely as any other."""
    rng = np.random.default_rng(seed)
    inside = 0.08 * (levels.high - levels.low)
    for number in range(count):
        yield Model(
            levels, rng.uniform(levels.low + inside, levels.high - inside), rng.uniform(0.3, 2), rng.uniform(0, 0.03),
            seed * 1_000_000 + number,
        )  # fmt: skip


def searched(model: Model, **options: float | int) -> Search:
    """A whole search on one."""
    search = Search(model.levels, seed=model.seed % 1000, **options)  # type: ignore[arg-type]
    board = model.board()
    while (level := search.next()) is not None:
        search.tell(level, board.bad(level))
    return search
