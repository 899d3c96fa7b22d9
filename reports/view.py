"""What the batch page says, as plain data for its template. Nothing is computed here that metrics do not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from reports import metrics
from reports.load import RUNNING, Records, each_row
from reports.metrics import NONE_COUNTED, Rate, percent
from reports.text import limits, moment, number, seconds, shown, size, value
from reports.words import distinct, simulated, title, tone, verdict, warnings
from rig.codes import CODES
from rig.records import chain

_BAR = ("pass", "retest", "fail", "unverified", "idle", "running")


def page(records: Records, out_dir: Path) -> dict[str, Any]:
    """Everything the template needs. Links are relative to `out_dir`."""
    found = metrics.yields(records)
    bar = (found.passed_first, found.passed_retest, found.failed, found.unverified, found.not_counted, found.running)
    return {
        "title": title(records),
        "verdict": verdict(found),
        "tone": tone(found),
        "bar": list(zip(_BAR, bar, strict=True)),
        "simulated": simulated(records),
        "warnings": warnings(records),
        "tiles": _tiles(records, found),
        "facts": _facts(records),
        "yield_rows": _yield_rows(records, found),
        "runs": _runs(records) if len(records.runs) > 1 else [],
        "failures": _failures(records),
        "blocks": _blocks(records),
        "units": _units(records, out_dir),
        "steps": _steps(records),
        "golden": _golden(records, out_dir),
        "measured": _measured(records),
        "notes": _notes(records.notes),
        "found": found,
    }


def _tiles(records: Records, found: metrics.Yields) -> list[dict[str, str]]:
    cycle = metrics.cycle_times(records)
    hourly = metrics.units_per_hour(records)
    blocked, aborted = found.blocked_attempts, found.aborted_attempts
    return [
        _rate_tile("First-pass yield", found.first_pass),
        _rate_tile("Final yield", found.final),
        {"name": "Failed", "value": str(found.failed + found.unverified) if found.final.n else "–",
         "more": f"{found.unverified} of them unverified" if found.unverified else "boards, in the end"},
        {"name": "Not counted", "value": str(blocked + aborted),
         "more": f"attempts: {blocked} blocked, {aborted} aborted"},
        {"name": "Cycle time", "value": f"{seconds(cycle['p50'])} s" if cycle["n"] else "–",
         "more": f"p50; p95 {seconds(cycle['p95'])} s, n = {cycle['n']}" if cycle["n"] else NONE_COUNTED},
        {"name": "Good boards an hour", "value": f"{hourly:.1f}" if hourly is not None else "–",
         "more": f"{found.final.good} good" if hourly is not None else "no time on record"},
    ]  # fmt: skip


def _rate_tile(name: str, rate: Rate) -> dict[str, str]:
    if rate.interval is None:
        return {"name": name, "value": "–", "more": NONE_COUNTED}
    low, high = rate.interval
    more = f"{rate.good} of {rate.n}; 95 % interval {percent(low)} to {percent(high)}"
    return {"name": name, "value": percent(rate.value), "more": more}


def _facts(records: Records) -> list[tuple[str, str]]:
    runs = records.runs
    names = [("station", "Station"), ("bench", "Bench"), ("command", "Command"),
             ("image", "Image"), ("image_sha256", "Image sha256"), ("limits_version", "Limits version")]  # fmt: skip
    started = [each for each in runs["started"] if each is not None]
    ended = [each for each in runs["ended"] if each is not None]
    facts = [("Run" if len(runs) == 1 else "Runs", ", ".join(shown(run) for run in runs["run"]))]
    facts.append(("Started", moment(min(started, default=None))))
    facts.append(("Ended", moment(max(ended)) if len(ended) == len(runs) else "no end on record"))
    facts += [(label, ", ".join(distinct(runs[name]))) for name, label in names]
    operators = [*distinct(runs["operator"]), *distinct(records.attempts["operator"])]
    facts.insert(5, ("Operator", ", ".join(dict.fromkeys(operators))))
    told = {f"{each.name}: {each.identity or 'unknown'}, calibrated until {each.cal_due or 'unknown'}"
            for instruments in runs["instruments"] for each in instruments or []}  # fmt: skip
    facts.append(("Instruments", shown("; ".join(sorted(told)))))
    tools = sorted({f"{tool} {version}" for each in runs["tools"] for tool, version in (each or {}).items()})
    facts.append(("Tools", shown(", ".join(tools))))
    facts += [
        ("Chain head" if len(runs) == 1 else f"Chain head of {shown(run.run)}", run.head)
        for run in each_row(runs)
        if run.head != chain.START
    ]
    return [(label, told) for label, told in facts if told]


def _yield_rows(records: Records, found: metrics.Yields) -> list[dict[str, str]]:
    rates = [
        ("First-pass yield", found.first_pass), ("Final yield", found.final), ("Retested", found.retested),
        ("Good on a retest without rework", found.no_fault_found),
    ]  # fmt: skip
    rows = []
    for name, rate in rates:
        low, high = rate.interval or (None, None)
        is_yield = "yield" in name
        rows.append({
            "name": name, "count": str(rate.good), "n": str(rate.n),
            "rate": percent(rate.value) if rate.n else NONE_COUNTED,
            "interval": f"{percent(low)} to {percent(high)}" if rate.n else "–",
            "claim": "–" if not rate.n else f"at least {percent(rate.at_least)}" if is_yield
                     else f"at most {percent(rate.at_most)}",
        })  # fmt: skip
    rolled = metrics.rolled_yield(records)
    told = percent(rolled) if rolled is not None else NONE_COUNTED
    rows.append(
        dict.fromkeys(("count", "n", "interval", "claim"), "") | {"name": "Rolled throughput yield", "rate": told}
    )
    return rows


def _runs(records: Records) -> list[dict[str, str]]:
    rows = []
    for run in each_row(records.runs):
        found = metrics.yields(of_run(records, str(run.run)))
        rows.append({
            "run": shown(run.run), "started": moment(run.started), "product": shown(run.product or "–"),
            "bench": shown(run.bench or "–") + (f" (simulated, {number(run.speed)}×)" if run.simulated else ""),
            "first_pass": _short(found.first_pass), "final": _short(found.final),
            "not_counted": str(found.blocked_attempts + found.aborted_attempts),
        })  # fmt: skip
    return rows


def of_run(records: Records, run: str) -> Records:
    """The part of the records that one run wrote."""
    tables = {
        name: getattr(records, name)
        for name in ("runs", "attempts", "phases", "measurements", "artifacts", "notes", "golden")
    }
    return Records(**{name: table[table["run"] == run] for name, table in tables.items()})


def _failures(records: Records) -> list[dict[str, Any]]:
    bad = records.attempts[records.attempts["counted"] & ~records.attempts["good"]]
    first = bad.groupby("board", sort=False).head(1)
    return [_code_row(row) | {"units": _units_with(first, row.code)} for row in each_row(metrics.pareto(records))]


def _blocks(records: Records) -> list[dict[str, Any]]:
    blocked = records.attempts[records.attempts["outcome"] == "blocked"]
    return [_code_row(row) | {"units": _units_with(blocked, row.code)} for row in each_row(metrics.blocks(records))]


def _code_row(row: Any) -> dict[str, Any]:
    code = CODES.get(row.code)
    return {
        "code": shown(row.code),
        "count": row.count,
        "share": percent(row.share),
        "cumulative": percent(row.cumulative),
        "cause": code.cause if code else "This code is not in this rig's list.",
        "action": code.action if code else "",
    }


def _units_with(attempts: pd.DataFrame, code: str) -> list[tuple[str, str]]:
    """Units of a code, each with the anchor of its row."""
    return [(shown(row.unit), f"a{row.order}") for row in each_row(attempts) if (row.code or "(no code)") == code]


def _units(records: Records, out_dir: Path) -> list[dict[str, Any]]:
    off = {True: "off", False: "NOT CONFIRMED", None: "not asked"}
    retried = {board for board, rows in records.attempts.groupby("board") if len(rows) > 1}
    rows = []
    for row in each_row(records.attempts):
        rows.append({
            "anchor": f"a{row.order}", "unit": shown(row.unit), "slot": shown(row.slot), "attempt": row.attempt,
            "run": shown(row.run), "retried": row.board in retried, "outcome": row.outcome, "good": row.good,
            "code": shown(row.code or ""), "sentence": shown(row.sentence or ""),
            "time": seconds(row.cycle_s), "started": moment(row.started)[11:19], "page": _link(row.folder, out_dir),
            "supply": "" if row.outcome == RUNNING else off.get(row.supply_off_confirmed, "not asked"),
            "backup": shown(row.backup_sha256 or ""), "backup_told": _backup_told(row),
            "details": list(_details(row, records.measurements[records.measurements["order"] == row.order])),
        })  # fmt: skip
    return rows


def _backup_told(row: Any) -> str:
    return f"{size(int(row.backup_bytes))}, checked by {shown(row.backup_verified_by)}" if row.backup_sha256 else ""


def _golden(records: Records, out_dir: Path) -> list[dict[str, Any]]:
    return [
        {"unit": shown(row.unit), "slot": shown(row.slot), "started": moment(row.started), "outcome": row.outcome,
         "code": shown(row.code or ""), "sentence": shown(row.sentence or ""), "page": _link(row.folder, out_dir)}
        for row in each_row(records.golden)
    ]  # fmt: skip


def _details(row: Any, measurements: pd.DataFrame) -> Iterable[tuple[str, str]]:
    if row.task != "convert" or row.stages > 1:
        yield "task", shown(row.task)
        if row.image:
            yield "image", shown(row.image)
    if row.firmware:
        yield "firmware", shown(row.firmware)
    if row.overrides:
        yield "overridden", shown(row.overrides)
    if row.mac:
        yield "MAC", shown(row.mac)
    if row.identity and row.identity != row.mac:
        yield "identity", shown(row.identity)
    if row.write_verified is not None:
        yield "written", "and verified" if row.write_verified else "NOT VERIFIED"
    if row.flasher and row.flasher != "native":
        yield "flasher", shown(row.flasher)
    if row.operator:
        yield "operator", shown(row.operator)
    if row.reworked:
        yield "rework", "before this attempt"
    for each in each_row(measurements[measurements["outcome"] != "pass"]):
        kept_to = limits(each.minimum, each.maximum, shown(each.unit_of))
        told = f"{value(each.value)} {shown(each.unit_of)}".strip()
        yield shown(each.name), f"{told} ({each.outcome}{f'; limits {kept_to}' if kept_to else ''})"


def _steps(records: Records) -> list[dict[str, Any]]:
    rates = metrics.step_yields(records)
    times = {row.phase: row for row in each_row(metrics.step_times(records))}
    rows = []
    for phase in [*times, *(phase for phase in rates if phase not in times)]:
        row = times.get(phase)
        rows.append({
            "phase": shown(phase), "n": row.n if row else 0, "yield": _short(rates.get(phase, Rate(0, 0))),
            **{name: seconds(getattr(row, name, None)) for name in ("fastest", "p50", "p95", "slowest")},
        })  # fmt: skip
    return rows


def _measured(records: Records) -> list[dict[str, Any]]:
    return [
        {"phase": shown(row.phase), "name": shown(row.name), "unit_of": shown(row.unit_of), "n": row.n,
         "lowest": number(row.lowest), "median": number(row.median), "highest": number(row.highest),
         "limits": limits(row.minimum, row.maximum) or "none", "marginal": row.marginal, "outside": row.outside,
         "missing": row.missing}
        for row in each_row(metrics.measured(records))
    ]  # fmt: skip


def _notes(notes: pd.DataFrame) -> list[dict[str, str]]:
    rows = [
        {"time": moment(note.utc)[11:19], "unit": shown(note.unit or ""), "level": str(note.level),
         "text": shown(note.text),
         "details": shown(", ".join(f"{key}: {each}" for key, each in note.details.items()))}
        for note in each_row(notes)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row["level"] != "warning")


def _link(folder: str, out_dir: Path) -> str | None:
    """The unit's own page as a link from the report; None where there is none."""
    unit_page = Path(folder) / "unit.html"
    if not unit_page.is_file():
        return None
    return quote(Path(os.path.relpath(unit_page.resolve(), out_dir.resolve())).as_posix())


def _short(rate: Rate) -> str:
    return f"{percent(rate.value)} ({rate.good} of {rate.n})" if rate.n else NONE_COUNTED
