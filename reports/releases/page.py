"""A study's report as one HTML page that needs nothing but itself."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.releases import words
from reports.releases.gathered import Gathered
from reports.releases.grid import MEANINGS, SYMBOLS, Grid, Row, Square, title_of
from reports.releases.picture import Ratio, ratios_svg
from reports.releases.safe import shown
from reports.text import moment
from rig.releases.trial import Trial

_TEMPLATES = Path(__file__).parent.parent / "templates"
_GROUPS = {"look": "Looking", "read": "Reading", "write": "Writing", "trouble": "Trouble", "time": "Time"}


def page(told: Gathered) -> str:
    """The page's text; whatever came out of a tool is escaped in it."""
    return _environment().get_template("releases.html").render(page_data(told))


def page_data(told: Gathered) -> dict[str, Any]:
    """All that the page says."""
    seen = {square.outcome for square in told.grid.squares}
    traces = told.traces()
    return {
        "title": f"{shown(told.record.study.name)}: flasher releases",
        "headline": words.headline(told), "tone": words.tone(told), "remarks": words.remarks(told),
        "tiles": words.tiles(told),
        "regressions": [
            (words.regression_title(told, each), words.regression(told, each)) for each in told.verdict.regressions
        ],
        "suspected": words.suspected(told), "suspected_told": words.SUSPECTED,
        "lines": words.release_lines(told),
        "releases": told.grid.releases, "base": shown(told.record.study.base),
        "groups": _groups(told.grid, {each.trial.n for each in traces}), "notes": told.grid.notes,
        "key": [(SYMBOLS[each], MEANINGS[each]) for each in SYMBOLS if each in seen],
        "against": told.against, "took": words.took,
        "ratios_svg": Markup(ratios_svg(_ratios(told))), "comparisons": words.comparison_rows(told),
        "traces": [
            {"n": each.trial.n, "title": _trial_title(told, each.trial), "why": shown(each.trial.why),
             "tail": shown("\n".join(each.trial.tail)), "lines": "\n".join(each.lines),
             "file": shown(each.trial.trace)}
            for each in traces
        ],
        "facts": words.facts(told), "versions": words.versions(told), "generated": moment(datetime.now(UTC)),
    }  # fmt: skip


def _trial_title(told: Gathered, trial: Trial) -> str:
    return f"{shown(trial.release)}, {words.task_title(told, trial)}: {trial.outcome}"


def _groups(grid: Grid, traced: set[int]) -> list[dict[str, Any]]:
    """Rows below their group's name, in the order they come."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in grid.rows:
        found.setdefault(row.group, []).append(_row(row, traced))
    return [{"name": _GROUPS.get(name, shown(name)), "rows": rows} for name, rows in found.items()]


def _row(row: Row, traced: set[int]) -> dict[str, Any]:
    return {"title": row.title, "what": row.what, "squares": [_square(each, traced) for each in row.squares]}


def _square(square: Square, traced: set[int]) -> dict[str, Any]:
    first = next((trial.n for trial in square.bad if trial.n in traced), None)
    told = ", ".join(f"{count} {outcome}" for outcome, count in square.counts.items()) or "no trial"
    return {"text": square.text, "state": square.state, "notes": square.notes, "trace": first, "told": told}


def _ratios(told: Gathered) -> list[Ratio]:
    return [
        Ratio(
            f"{shown(one.release)}, {title_of(told.record, one.task)}", one.ratio, one.low, one.high, one.slower,
            shown(one.explanation or ""),
        )
        for one in told.verdict.comparisons
        if one.ratio is not None and one.low is not None and one.high is not None
    ]  # fmt: skip


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
