"""Numbers as statistics can take them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FAR = 1e100  # beyond it a square overflows, below its inverse it vanishes; no meter reads either
ALIKE = 1e-12  # of the larger: what sums and means of the same readings differ by, and no meter resolves


def settled(values: Floats) -> Floats:
    """The values, where need be a copy: infinite ones and those beyond FAR as NaN (missing), as a journal has them
    too; those that are all alike but for rounding as one of them, so that they have no spread; those that are all as
    good as nothing as 0."""
    top = _top(values)
    if top > FAR:
        values = np.where(np.abs(values) > FAR, np.nan, values)
        top = _top(values)
    if 0 < top < 1 / FAR:
        return np.where(np.isnan(values), np.nan, 0.0)
    least, most = float(np.fmin.reduce(values, initial=np.inf)), float(np.fmax.reduce(values, initial=-np.inf))
    if least < most and alike(least, most):
        return np.where(np.isnan(values), np.nan, least)
    return values


def alike(least: float, most: float) -> bool:
    """Whether two numbers differ by no more than rounding."""
    return most - least <= ALIKE * max(abs(least), abs(most))


def _top(values: Floats) -> float:
    return max(float(np.fmax.reduce(values, initial=0.0)), -float(np.fmin.reduce(values, initial=0.0)))
