"""A report's pages as plain data and as HTML: the batch page out of its sections, a page for each unit it shows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports import findings, metrics, outliers, plots
from reports.apart import apart
from reports.page import extras, groups, measured, summary, unit, units, yields
from reports.page.context import Context
from reports.tables import Records
from reports.text import moment
from reports.words import simulated, title, tone, verdict, warnings

TEMPLATES = Path(__file__).parent.parent / "templates"
_AT_ONCE = 500  # units' pages made together
_SVG = ("svg", "chart", "groups", "power", "bar_svg")  # what is markup already
_CONTENTS = (
    ("findings", "Findings", None), ("run", "Run", None), ("yield", "Yield", None), ("failures", "Failures", None),
    ("blocked", "Blocked", "blocks"), ("groups", "By slot and more", "groups"),
    ("measurements", "Measurements", None), ("what-if", "What if", "what_ifs"), ("strange", "Strangest", "strange"),
    ("gage", "Gage", "studies"), ("steps", "Steps", None), ("timing", "Timing", "flash_times"),
    ("units", "Units", None),
    ("golden", "Golden", "golden"), ("notes", "Notes", "notes"), ("glossary", "Glossary", None),
)  # fmt: skip


class Pages:
    """The pages of one report. `files`: a sentence on where all rows are, beside the page."""

    def __init__(
        self, records: Records, out_dir: Path, *, what_ifs: Sequence[str] = (), files: str = "", index: str = ""
    ) -> None:  # fmt: skip
        self.context = Context(records, out_dir, what_ifs)
        self._files, self._index = files, index
        self._made = moment(datetime.now(UTC))
        self._orders: list[int] = []
        self._names: dict[int, str] = {}

    def batch(self) -> str:
        """The batch page."""
        return render("batch.html", self.data())

    def data(self) -> dict[str, Any]:
        """Everything the batch page says."""
        context = self.context
        studies, unsafe = extras.studies(context)
        slow: list[Callable[[], Any]] = [
            partial(outliers.strangest, context.records),
            partial(measured.measured, context, unsafe),
        ]  # about half of all work
        with apart(context.records, slow) as (strangest, measurements):
            page = self._sections(studies)
            metrics.measured(context.records)  # summary.json asks for it: now there is nothing else to do but wait
            strange = extras.strangest(context, strangest())
            numbers = measured.linked(context, measurements())
        page |= {
            "measured": numbers, "not_drawn": measured.not_drawn(numbers), "refusals": measured.refusals(numbers),
            "strange": {"rows": strange, "told": outliers.TRACES},
        }  # fmt: skip
        found = findings.search(context.records).found
        worth = [order for each in found for order in each.orders[:20]] + [each["order"] for each in strange]
        page |= self._units(worth)
        page["contents"] = [(id, name) for id, name, key in _CONTENTS if key is None or _there(page[key])]
        return page | {"generated": self._made, "files_told": self._files, "index": self._index, **_script()}

    def _sections(self, studies: list[dict[str, Any]]) -> dict[str, Any]:
        """All but the measurements and the units."""
        context = self.context
        studied, left = metrics.studied(context.records), metrics.not_begun(context.records)
        search = findings.search(context.records)
        return {
            "title": title(context.records), "verdict": verdict(context.found, studied, left), "studied": studied,
            "tone": tone(context.found, left),
            "simulated": simulated(context.records), "warnings": warnings(context.records),
            "bar": summary.bar(context), "bar_svg": plots.bar_svg(summary.bar(context)), "found": context.found,
            "findings": summary.findings(context, search.found), "compared": search.tests,
            "findings_left_out": len(search.found) - summary.MOST_FINDINGS,
            "tiles": summary.tiles(context), "facts": summary.facts(context),
            "yield_rows": yields.yield_rows(context), "runs": yields.runs(context),
            "stability": groups.stability(context),
            "failures": yields.failures(context), "blocks": yields.blocks(context), "groups": groups.groups(context),
            "what_ifs": extras.what_ifs(context),
            "studies": studies, "study_refusals": extras.study_refusals(studies), "steps": yields.steps(context),
            "flash_times": extras.flash_times(context), "slowing": extras.slowing(context), "parts": extras.PARTS,
            "golden": units.golden(context), "notes": units.notes(context.records.notes),
        }  # fmt: skip

    def _units(self, worth: Sequence[int]) -> dict[str, Any]:
        context = self.context
        self._orders = units.chosen(context, worth)
        self._names = unit.page_names(context, self._orders)
        rows = units.rows(context, self._orders, self._names)
        told = {
            "rows": rows, "total": len(context.attempts), "left_out": len(context.attempts) - len(rows),
            "outcomes": list(dict.fromkeys(row["outcome"] for row in rows)),
            "slots": sorted({row["slot"] for row in rows}),
        }  # fmt: skip
        several = len(context.records.runs) > 1
        return {"units": told, "lists": units.lists(context, self._orders), "several_runs": several}

    def units(self) -> Iterator[tuple[str, str]]:
        """Path in the report and text of each unit's page; those whose rows the batch page shows. After `data`."""
        codes = list(self._names)
        about = {"title": title(self.context.records), "generated": self._made}
        for begin in range(0, len(codes), _AT_ONCE):
            for board, page in unit.boards(self.context, codes[begin : begin + _AT_ONCE]).items():
                yield self._names[board], render("unit_report.html", page | about)


def render(template: str, page: dict[str, Any]) -> str:
    """A template filled; pictures go in as they are, all else escaped."""
    return _environment().get_template(template).render(_marked(page))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def _marked(told: Any) -> Any:
    """The same data, with what is drawn marked as markup."""
    if isinstance(told, dict):
        return {
            key: Markup(each) if key in _SVG and isinstance(each, str) else _marked(each)
            for key, each in told.items()
        }
    return [_marked(each) for each in told] if isinstance(told, list) else told


def _there(section: Any) -> bool:
    return bool(section["rows"]) if isinstance(section, dict) else bool(section)


def _script() -> dict[str, Any]:
    """The page's one script, and its digest: no other runs there."""
    text = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"script": Markup(text), "script_hash": f"sha256-{digest}"}
