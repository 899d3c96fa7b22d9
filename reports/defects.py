"""Defects per million opportunities.

An opportunity is a step that was carried out in a counted attempt. It is a defect if the step failed or was left
unverified, or if a number taken in it was outside its limits: one defect however many numbers were.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports.metrics import Rate
from reports.once import once
from reports.tables import Records

_DONE = ("pass", "marginal", "fail", "unverified")


@once
def defects(records: Records) -> Rate:
    """Defects (`good` of the rate) of opportunities (`n`); both 0 where no step of a counted attempt was done."""
    orders = np.asarray(records.steps["order"], dtype=np.int64)
    counted = np.asarray(records.attempts["counted"], dtype=bool)
    done = counted[orders] & np.asarray(records.steps["outcome"].isin(_DONE), dtype=bool)
    failed = done & np.asarray(records.steps["outcome"].isin(("fail", "unverified")), dtype=bool)
    outside = _outside(records, counted)
    if len(outside):
        steps = pd.MultiIndex.from_arrays([orders[done], records.steps["step"].astype(object)[done]])
        failed = failed.copy()
        failed[np.flatnonzero(done)] |= np.asarray(steps.isin(outside), dtype=bool)
    return Rate(int(failed.sum()), int(done.sum()))


def _outside(records: Records, counted: np.ndarray) -> list[tuple[int, str]]:
    """Steps with a number outside its limits: (order, step)."""
    found: set[tuple[int, str]] = set()
    for name in records.numbers.names():
        table = records.numbers.of(name)
        orders = np.asarray(table["order"], dtype=np.int64)[np.asarray(table["outcome"] == "fail", dtype=bool)]
        found |= {(order, name.step) for order in orders[counted[orders]].tolist()}
    return sorted(found)
