"""The first screen: verdict, yields with n and interval, pace, what failed first, and the findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from reports import metrics
from reports.findings import Finding
from reports.metrics import NONE_COUNTED, Rate, percent
from reports.page.context import Context
from reports.page.sets import Linked
from reports.tables import each_row
from reports.text import moment, number, seconds, shown
from reports.words import distinct
from rig.codes import CODES
from rig.records import chain

MOST_FINDINGS = 8
_RUNS_NAMED = 12
_BAR = ("pass", "retest", "fail", "unverified", "idle", "running")


def bar(context: Context) -> list[tuple[str, int]]:
    """What became of the boards: (kind, count), each board in one."""
    found = context.found
    counts = (
        found.passed_first, found.passed_retest, found.failed, found.unverified, found.not_counted, found.running,
    )  # fmt: skip
    return list(zip(_BAR, counts, strict=True))


def tiles(context: Context) -> list[dict[str, Any]]:
    """The figures of the first screen: name, value with its link, and what it is of."""
    found = context.found
    boards = context.boards
    counted = boards[boards["counted"] > 0]
    first_bad = counted["board"][~counted["first_good"].astype(bool)]
    final_bad = counted["board"][~counted["final_good"].astype(bool)]
    return [
        _rate_tile("First-pass yield", found.first_pass,
                   context.of_boards(first_bad, percent(found.first_pass.value), "Not good the first time")),
        _rate_tile("Final yield", found.final,
                   context.of_boards(final_bad, percent(found.final.value), "Not good in the end")),
        _pace(context),
        _failed_first(context),
        _not_counted(context),
        _cycle(context),
    ]  # fmt: skip


def _rate_tile(name: str, rate: Rate, told: Linked) -> dict[str, Any]:
    if rate.interval is None:
        return {"name": name, "value": Linked("–"), "more": NONE_COUNTED}
    low, high = rate.interval
    more = f"{rate.good} of {rate.n}; 95 % interval {percent(low)} to {percent(high)}"
    return {"name": name, "value": told, "more": more}


def _pace(context: Context) -> dict[str, Any]:
    hourly = metrics.units_per_hour(context.records)
    if hourly is None:
        return {"name": "Good boards an hour", "value": Linked("–"), "more": "no time on record"}
    told = Linked(number(round(hourly, 1)))
    return {"name": "Good boards an hour", "value": told, "more": f"{context.found.final.good} good"}


def _failed_first(context: Context) -> dict[str, Any]:
    rows = list(each_row(metrics.pareto(context.records).head(1)))
    if not rows:
        told = "no counted attempt failed" if context.found.final.n else NONE_COUNTED
        return {"name": "Failed first", "value": Linked("none" if context.found.final.n else "–"), "more": told}
    row = rows[0]
    code = CODES.get(row.code)
    title = f"First failure {row.code}"
    link = context.sets.link(shown(row.code), title, context.bad.index[_is(context, row.code)].to_numpy())
    more = f"{row.count} of {len(context.bad)} first failures. {code.cause if code else ''}"
    return {"name": "Failed first", "value": link, "more": more.strip()}


def _is(context: Context, code: str) -> Any:
    from reports.page.context import coded

    return (coded(context.bad["code"]) == code).to_numpy(dtype=bool)


def _not_counted(context: Context) -> dict[str, Any]:
    blocked, aborted = context.found.blocked_attempts, context.found.aborted_attempts
    mask = context.attempts["outcome"].isin(("blocked", "aborted")) & ~context.attempts["study"]
    told = context.where(mask, blocked + aborted, "Blocked or aborted attempts")
    return {"name": "Not counted", "value": told, "more": f"attempts: {blocked} blocked, {aborted} aborted"}


def _cycle(context: Context) -> dict[str, Any]:
    cycle = metrics.cycle_times(context.records)
    if not cycle["n"] or not math.isfinite(cycle["p50"]):
        return {"name": "Cycle time", "value": Linked("–"), "more": NONE_COUNTED}
    more = f"p50; p95 {seconds(cycle['p95'])} s, n = {int(cycle['n'])}"
    return {"name": "Cycle time", "value": Linked(f"{seconds(cycle['p50'])} s"), "more": more}


def findings(context: Context, found: Sequence[Finding]) -> list[dict[str, Any]]:
    """What stands out: the sentence, what to do, and the units behind it."""
    told = []
    for place, each in enumerate(found[:MOST_FINDINGS], start=1):
        units = context.sets.link("the units", f"Finding {place}: {each.sentence}", each.orders)
        told.append({
            "sentence": shown(each.sentence), "action": shown(each.action), "units": units, "n": number(each.n),
            "q": _small(each.q), "effect": shown(each.effect), "what": shown(each.what),
        })  # fmt: skip
    return told


def _small(q: float) -> str:
    return "q < 0.0001" if q < 0.0001 else f"q = {q:.2g}"


def facts(context: Context) -> list[tuple[str, str]]:
    """What was run, where, with what: (label, text), only what is known."""
    runs = context.records.runs
    names = [("station", "Station"), ("bench", "Bench"), ("command", "Command"),
             ("image", "Image"), ("image_sha256", "Image sha256"), ("limits_version", "Limits version")]  # fmt: skip
    started = [each for each in runs["started"] if each is not None]
    ended = [each for each in runs["ended"] if each is not None]
    facts = [("Run" if len(runs) == 1 else "Runs", _some([shown(run) for run in runs["run"]]))]
    facts.append(("Started", moment(min(started, default=None))))
    facts.append(("Ended", moment(max(ended)) if len(ended) == len(runs) and ended else "no end on record"))
    facts += [(label, _some(distinct(runs[name]))) for name, label in names]
    operators = [*distinct(runs["operator"]), *distinct(context.attempts["operator"].drop_duplicates())]
    facts.insert(5, ("Operator", _some(list(dict.fromkeys(operators)))))
    facts.append(("Instruments", "; ".join(_instruments(runs["instruments"]))))
    tools = sorted({f"{tool} {version}" for each in runs["tools"] for tool, version in (each or {}).items()})
    facts.append(("Tools", shown(", ".join(tools))))
    if len(runs) <= _RUNS_NAMED:
        facts += [
            ("Chain head" if len(runs) == 1 else f"Chain head of {shown(run.run)}", run.head)
            for run in each_row(runs)
            if run.head and run.head != chain.START
        ]
    return [(label, told) for label, told in facts if told]


def _instruments(column: Any) -> list[str]:
    told = set()
    for instruments in column:
        for each in instruments or []:
            of = each if isinstance(each, dict) else vars(each)
            until = of.get("cal_due") or "unknown"
            told.add(shown(f"{of['name']}: {of.get('identity') or 'unknown'}, calibrated until {until}"))
    return sorted(told)


def _some(texts: list[str]) -> str:
    if len(texts) <= _RUNS_NAMED:
        return ", ".join(texts)
    return f"{', '.join(texts[:3])} and {len(texts) - 4} more, to {texts[-1]}"
