"""JUnit XML, as CI servers read it: a file and a testsuite a run, a testcase a step of a unit's attempt.

`classname` is the unit, `name` the step ("(attempt 2)" behind it from the second on). A step that failed is a
`failure` with its code as type and the attempt's sentence; blocked or aborted is an `error`: it says nothing of the
board. A step that was not reached is `skipped`. An attempt whose end no step tells (crashed, running) is a testcase
of its own. Marginal steps pass and are named in `system-out`. Golden units are in none.

Valid by Jenkins' junit-10.xsd; attributes and order of elements are those that the stricter Ant schema asks for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TextIO
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from reports.exports.attempts import One, each_attempt
from reports.exports.staging import files, staged
from reports.tables import OUTCOMES, Records, each_row
from reports.text import shown
from rig.codes import CODES
from rig.records import chain
from rig.records.run import safe_name

_NO_XML = re.compile("[\ufffe\uffff]")  # the rest that XML forbids `shown` took out
_KINDS = {"fail": "failure", "unverified": "failure", "blocked": "error", "aborted": "error", "running": "skipped"}
_FACTS = ("run", "product", "batch", "station", "bench", "operator", "image", "image_sha256", "limits_version",
          "simulated", "speed", "head")  # fmt: skip
_NEEDED = ("unit", "attempt", "outcome", "code", "sentence", "duration_s")


@dataclass(frozen=True)
class Case:
    """A testcase. `kind`: failure, error, skipped, or "" for a good one."""

    classname: str
    name: str
    seconds: float
    kind: str = ""
    code: str = ""
    sentence: str = ""
    marginal: bool = False


def write_junit(records: Records, target: Path) -> list[Path]:
    """Write `<run>.xml` for each run into `target` and return the files. Memory does not grow with the units.
    Raises UsageProblem, see `staged`."""
    counts = _Counts.of(records)
    names = records.attempts["run"]
    orders = {str(run): np.sort(rows) for run, rows in names.groupby(names, observed=True).indices.items()}
    none = np.empty(0, dtype=np.int64)
    runs = list(each_row(records.runs))
    attempts = each_attempt(records, np.concatenate([none, *(orders.get(run.run, none) for run in runs)]), _NEEDED)
    with staged(target, lambda path: path.suffix == ".xml" and len(path.parts) == 1) as folder:
        for run in runs:
            mine = orders.get(run.run, none)
            cases = (case for one in islice(attempts, len(mine)) for case in _cases_of(one))
            with (folder / f"{safe_name(run.run)}.xml").open("w", encoding="utf-8", newline="\n") as file:
                _suite(file, run, counts.of_attempts(mine), cases)
    return files(target)


class _Counts:
    """How many testcases of each kind every attempt is: known before the first is written."""

    def __init__(self, tests: NDArray[Any], kinds: dict[str, NDArray[Any]]) -> None:
        self._tests = tests
        self._kinds = kinds

    @classmethod
    def of(cls, records: Records) -> _Counts:
        n = len(records.attempts)
        owner = records.steps["order"].to_numpy()
        step = _kinds(records.steps["outcome"], absent="skipped")
        own = _kinds(records.attempts["outcome"], absent="")
        steps = np.bincount(owner, minlength=n)
        told = np.zeros(n, dtype=bool)
        told[owner[step == own[owner]]] = True
        alone = (steps == 0) | ((own != "") & ~told)
        found = {
            kind: np.bincount(owner[step == kind], minlength=n) + (alone & (own == kind))
            for kind in ("failure", "error", "skipped")
        }
        return cls(steps + alone, found)

    def of_attempts(self, orders: NDArray[Any]) -> dict[str, int]:
        told = {kind: int(counts[orders].sum()) for kind, counts in self._kinds.items()}
        return {"tests": int(self._tests[orders].sum()), "failures": told["failure"], "errors": told["error"],
                "skipped": told["skipped"]}  # fmt: skip


def _kinds(outcome: Any, absent: str) -> NDArray[Any]:
    names = np.array([*(_KINDS.get(each, "") for each in OUTCOMES), absent])
    return np.asarray(names[outcome.cat.set_categories(list(OUTCOMES)).cat.codes.to_numpy()])


def _suite(file: TextIO, run: Any, counts: dict[str, int], cases: Iterable[Case]) -> None:
    name, station = _text(run.run), _text(run.station or "localhost")
    total = " ".join(f'{key}="{count}"' for key, count in counts.items())
    file.write('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n')
    file.write(
        f'<testsuite id="0" package={_quoted(run.product or "rig")} name={quoteattr(name)} '
        f'timestamp="{_moment(run.started)}" hostname={quoteattr(station)} {total} '
        f'time="{_seconds(run.duration_s)}">\n<properties>\n'
    )
    for fact in _FACTS:
        if (value := getattr(run, fact)) is not None and value != chain.START:
            file.write(f'<property name="{fact}" value={_quoted(value)}/>\n')
    file.write("</properties>\n")
    marginal: list[str] = []
    for case in cases:
        file.write(_case(case))
        if case.marginal:
            marginal.append(f"marginal: {case.classname} {case.name}\n")
    file.write("<system-out>")
    file.writelines(escape(line) for line in marginal)
    file.write("</system-out>\n<system-err></system-err>\n</testsuite>\n</testsuites>\n")


def _case(case: Case) -> str:
    named = f"classname={_attribute(case.classname)} name={_attribute(case.name)}"
    head = f'<testcase {named} time="{_seconds(case.seconds)}"'
    if not case.kind:
        return f"{head}/>\n"
    if case.kind == "skipped":
        return f"{head}><skipped message={quoteattr(case.sentence)}/></testcase>\n"
    known = CODES.get(case.code)
    body = f"{case.sentence}\nWhat to do: {known.action}" if known else case.sentence
    said = f"message={quoteattr(case.sentence)} type={quoteattr(case.code)}"
    return f"{head}><{case.kind} {said}>{escape(body)}</{case.kind}></testcase>\n"


def _cases_of(one: One) -> Iterator[Case]:
    row, told = one.row, False
    own = _KINDS.get(row.outcome, "")
    unit, seen = _text(row.unit), Counter[str]()
    again = f"attempt {row.attempt}"
    for step in one.steps:
        seen[step.step] += 1
        name = _text(step.step) + (f" #{seen[step.step]}" if seen[step.step] > 1 else "")
        kind = "skipped" if step.outcome is None else _KINDS.get(step.outcome, "")
        told |= kind == own
        yield Case(
            unit, f"{name} ({again})" if row.attempt > 1 else name, step.duration_s, kind,
            _text(step.code or step.outcome or ""), _why(step.code, step.outcome, row),
            marginal=step.outcome == "marginal",
        )  # fmt: skip
    if not one.steps or (own and not told):
        yield Case(
            unit, again, row.duration_s, own, _text(row.code or row.outcome), _why(row.code, row.outcome, row),
            marginal=row.outcome == "marginal",
        )  # fmt: skip


def _why(code: str | None, outcome: str | None, row: Any) -> str:
    """What is said of a step or attempt that did not go well: the attempt's own sentence where it ended by that."""
    if outcome is None:
        return "not reached"
    if outcome == "running":
        return "still running"
    if row.sentence and (code == row.code or code is None):
        return _text(row.sentence)
    known = CODES.get(code or "")
    return known.cause if known else outcome


@lru_cache(maxsize=4096)  # a unit and its steps come again and again
def _text(value: object) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", shown(str(value)))


_attribute = lru_cache(maxsize=4096)(quoteattr)


def _quoted(value: object) -> str:
    return quoteattr(_text(value))


def _seconds(value: float | None) -> str:
    """Milliseconds are all that the schemas take."""
    return f"{value:.3f}" if value is not None and value >= 0 else "0"


def _moment(started: datetime | None) -> str:
    """Without a zone, as the schema has it: UTC. A run without a beginning has none: the epoch stands for it."""
    return (started or datetime.fromtimestamp(0, UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
