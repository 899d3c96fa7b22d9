"""Which attempts are of one board, which of them are one trial, and which came after rework.

All over whole columns; an attempt is told by its row, rows being in order of time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Codes = NDArray[np.int64]


def unit_codes(run: pd.Series[Any], unit: pd.Series[Any]) -> Codes:
    """A number for each run's unit: what comes in once and may have several attempts."""
    which, who = run.cat.codes.to_numpy().astype(np.int64), pd.factorize(unit)[0].astype(np.int64)
    return np.asarray(pd.factorize(which * (who.max(initial=0) + 1) + who)[0], dtype=np.int64)


def identities(
    units: Codes, run: Codes, identity: pd.Series[Any], simulated: NDArray[np.bool_]
) -> tuple[Codes, NDArray[Any]]:
    """What tells an attempt's board across runs: the place of its identity among the names that come second; -1 where
    nothing does, and the board is its run's unit.

    A failed board brought back tomorrow is a retest, not a second board. Nobody is named by an identity that is
    all zeros or ones, that two units of one run share (a maker's default), or that changed within a unit;
    simulated boards are made anew in every run.
    """
    codes, names = pd.factorize(identity.where(identity != "", None))
    known = pd.DataFrame({"unit": units, "run": run, "identity": codes})[codes >= 0].drop_duplicates()
    one = known[~known["unit"].duplicated(keep=False)]
    shared = known["identity"][known.duplicated(["run", "identity"], keep=False)]
    digits = pd.Series(names, dtype="str").str.lower().str.replace("[:-]", "", regex=True)
    nobody = np.append(np.zeros(len(names), dtype=bool), True)
    for digit in ("0", "f"):
        nobody[:-1] |= digits.str.strip(digit).eq("").to_numpy(dtype=bool)
    nobody[shared.unique()] = True
    by_unit = np.full(units.max(initial=-1) + 1, -1, dtype=np.int64)
    by_unit[one["unit"]] = one["identity"]
    mine = by_unit[units]
    return np.where(nobody[mine] | simulated, -1, mine), np.asarray(names, dtype=object)


def rework_carried_over(
    board: Codes, run: pd.Series[Any], unit: pd.Series[Any], started: pd.Series[Any],
    reworked: Iterable[tuple[str, str, Any]],
) -> list[int]:  # fmt: skip
    """Rework (run, unit, when) that was put on record with no attempt after it in its run: the board's next attempt,
    in a later run, is one of a reworked board. The rows of those."""
    told = list(reworked)
    if not told:
        return []
    place = np.argsort(board, kind="stable")
    mine = board[place]
    key = pd.MultiIndex.from_arrays([run.astype("str"), unit])
    first = pd.Series(np.arange(len(board)), index=key)[~key.duplicated()]
    found: list[int] = []
    for of_run, who, when in told:
        if (of_run, who) not in first.index:
            continue
        of = board[int(first.loc[(of_run, who)])]
        rows = place[np.searchsorted(mine, of) : np.searchsorted(mine, of, "right")]
        later = rows[(started.iloc[rows] > when).to_numpy()]
        found += [int(each) for each in later[:1]]
    return found


def trial_numbers(units: Codes, task: Codes) -> Codes:
    """A trial is one way through all that a run does to a unit: recovered, then converted, is one and not two. A task
    that comes again is a retry, and begins the next."""
    n = len(units)
    nth = pd.Series(units).groupby(units, sort=False).cumcount().to_numpy()
    done = np.zeros(units.max(initial=-1) + 1, dtype=np.int64)  # a bit a task
    begun = np.zeros(len(done), dtype=np.int64)
    began = np.zeros(n, dtype=np.int64)  # the row where an attempt's trial begins
    rows = np.argsort(nth, kind="stable")
    edges = np.searchsorted(nth[rows], np.arange(nth.max(initial=-1) + 2))
    for low, high in itertools.pairwise(edges):  # the units' first attempts, their second ones, ...
        mine = rows[low:high]
        who, bit = units[mine], np.int64(1) << task[mine]
        anew = (done[who] & bit != 0) | (done[who] == 0)
        done[who] = np.where(anew, bit, done[who] | bit)
        begun[who] = np.where(anew, mine, begun[who])
        began[mine] = begun[who]
    return np.asarray(pd.factorize(began, sort=True)[0], dtype=np.int64)
