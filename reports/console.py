"""The result of a run in a few plain lines, for the end of a command."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reports import findings, metrics
from reports.load import load
from reports.tables import Records, each_row
from reports.text import seconds, shown
from reports.words import simulated, title, verdict, warnings


def summary_lines(source: Iterable[Path | str] | Records) -> list[str]:
    """What became of these runs: verdict, yields, times, failures, warnings; no markup, no trailing newlines.

    Raises UsageProblem for a folder without a journal and for a broken journal.
    """
    records = source if isinstance(source, Records) else load(source)
    found = metrics.yields(records)
    cycle = metrics.cycle_times(records)
    hourly = metrics.units_per_hour(records)
    lines = [f"{title(records)}: {verdict(found, metrics.studied(records), metrics.not_begun(records))}"]
    if told := simulated(records):
        lines.append(told)
    lines.append(f"First-pass yield  {found.first_pass}")
    if found.retested.good:
        lines.append(f"Final yield       {found.final}")
        lines.append(f"Retested          {found.retested}")
    if cycle["n"]:
        pace = f", {hourly:.1f} good boards an hour" if hourly is not None else ""
        lines.append(
            f"Cycle time        p50 {seconds(cycle['p50'])} s, p95 {seconds(cycle['p95'])} s (n = {cycle['n']}){pace}"
        )
    lines += [f"Failed            {row.count} × {shown(row.code)}" for row in each_row(metrics.pareto(records))]
    lines += [f"Blocked (bench)   {row.count} × {shown(row.code)}" for row in each_row(metrics.blocks(records))]
    if found.aborted_attempts:
        lines.append(f"Aborted           {found.aborted_attempts}")
    lines += [f"Stands out        {shown(each.sentence)}" for each in findings.findings(records)]
    lines += [f"Warning: {warning}" for warning in warnings(records)]
    return lines
