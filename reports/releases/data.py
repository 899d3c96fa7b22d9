"""A study's verdict as JSON for programs: what CI decides by."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from reports.releases import words
from reports.releases.gathered import Gathered
from reports.releases.safe import shown

SCHEMA = 1


def as_json(told: Gathered) -> str:
    """One object; all text in it scrubbed, what is no number is null."""
    return json.dumps(_clean(verdict_data(told)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def verdict_data(told: Gathered) -> dict[str, Any]:
    """`state`: pass, fail (a regression), idle (nothing can be said, or not whole)."""
    record = told.record
    return {
        "schema": SCHEMA,
        "study": record.study.name,
        "run": record.id,
        "begun": record.utc,
        "simulated": told.simulated,
        "state": words.tone(told),
        "sentence": words.headline(told),
        "complete": not told.missing,
        "missing": told.missing,
        "planned": len(record.schedule),
        "outcomes": dict(told.counts),
        "installed": [asdict(each) for each in record.installed],
        **told.verdict.as_dict(),
        "matrix": [
            {
                "release": square.release, **asdict(square.task), "state": square.state, "outcome": square.outcome,
                "counts": dict(square.counts), "explained": square.known, "reasons": square.notes,
                "trials": [trial.n for trial in square.bad],
            }
            for square in told.grid.squares
        ],
        "reasons": [{"number": note.number, "text": note.text, "known": note.known} for note in told.grid.notes],
        "unexplained": len(told.grid.unexplained),
        "against": None if told.against is None else asdict(told.against),
        "remarks": words.remarks(told),
    }  # fmt: skip


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {shown(key): _clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    if isinstance(value, str):
        return shown(value)
    return None if isinstance(value, float) and not -1e300 < value < 1e300 else value
