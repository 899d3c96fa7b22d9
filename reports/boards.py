"""Which attempts are of one board, which of them are one trial, and which came after rework."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

Row = dict[str, Any]


def name_boards(attempts: list[Row], runs: dict[str, Row]) -> None:
    """What counts as one board: its unit within a run, and across real benches' runs its identity.

    A failed board brought back tomorrow is a retest, not a second board. Nobody is named by an identity that is
    all zeros or ones, that two units of one run share (a maker's default), or that changed within a unit;
    simulated boards are made anew in every run.
    """
    identities: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in attempts:
        if row["identity"]:
            identities[row["run"], row["unit"]].add(row["identity"])
    shared = Counter((run, identity) for (run, _), known in identities.items() for identity in known)
    ambiguous = {identity for (_, identity), count in shared.items() if count > 1}
    for row in attempts:
        known = identities[row["run"], row["unit"]]
        identity = next(iter(known)) if len(known) == 1 else ""
        digits = set(identity.lower()) - set(":-")
        names_nobody = digits <= {"0"} or digits <= {"f"} or identity in ambiguous
        if runs[row["run"]]["simulated"] or names_nobody:
            row["board"] = f"{row['run']}/{row['unit']}"
        else:
            row["board"] = identity


def carry_rework_over(attempts: list[Row], reworked: Iterable[tuple[str, str, datetime]]) -> None:
    """Rework (run, unit, when) that was put on record with no attempt after it in its run: the board's next attempt,
    in a later run, is one of a reworked board."""
    boards = {(row["run"], row["unit"]): row["board"] for row in attempts}
    for run, unit, when in reworked:
        board = boards.get((run, unit))
        later = [row for row in attempts if row["board"] == board and row["started"] > when]
        if board is not None and later:
            later[0]["reworked"] = True


def number_trials(attempts: list[Row]) -> None:
    """A trial is one way through all that a run does to a unit: recovered, then converted, is one and not two. A task
    that comes again is a retry, and begins the next."""
    done: dict[tuple[str, str], set[str]] = {}
    trial: dict[tuple[str, str], int] = {}
    count = 0
    for row in attempts:
        key = (row["run"], row["unit"])
        if key not in done or row["task"] in done[key]:
            done[key], trial[key] = set(), count
            count += 1
        done[key].add(row["task"])
        row["trial"] = trial[key]
