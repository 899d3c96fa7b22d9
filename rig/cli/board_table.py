"""The table of a run: a line a slot, the counters, what people are asked, what is being typed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rig.cli.standing import SlotRow, Standing
from rig.records.events import Outcome
from rig.records.run import RunFolder

COLOURS = {
    Outcome.PASS: "green",
    Outcome.MARGINAL: "yellow",
    Outcome.FAIL: "red",
    Outcome.BLOCKED: "magenta",
    Outcome.ABORTED: "cyan",
    Outcome.UNVERIFIED: "red",
}
_HEAD = ("slot", "unit", "step", "", "")
_BAR_AT = 3  # behind the step
_BAR = 12
_LEAST = 20  # of a result; a terminal too narrow for that breaks its lines
_TAIL = 200  # bytes: more than two lines of power.csv


def table(standing: Standing, width: int, run: RunFolder | None = None, typed: str | None = None) -> RenderableType:
    """All of it, `width` characters wide, a line a slot: the end of a long sentence is cut off, it was told before.
    `run` None: no volts and amps. `typed` None: nobody types."""
    rows = Table.grid(padding=(0, 1))
    cells = [_cells(row, run) for row in standing.rows.values()]
    widths = [max(map(len, column)) for column in zip(_HEAD, *cells, strict=True)]
    rows.add_row(*_HEAD[:_BAR_AT], "", *_HEAD[_BAR_AT:], "", style="dim")
    left = width - sum(widths) - len(widths) - _BAR - 2
    for row, found in zip(standing.rows.values(), cells, strict=True):
        result = _result(row)
        result.truncate(max(left, _LEAST), overflow="ellipsis")
        rows.add_row(*found[:_BAR_AT], _bar(row), *found[_BAR_AT:], result)
    parts: list[RenderableType] = [rows, Text(_sums(standing))]
    if standing.line_stopped is not None:
        parts.append(Text(f"THE LINE STOPPED: {standing.line_stopped}", style="bold red"))
    for number, prompt in enumerate(standing.prompts.values()):
        choices = f" ({'/'.join(prompt.choices)})" if prompt.choices else ""
        parts.append(Text(f"? {prompt.text}{choices}", style="dim" if number else "bold"))
    if typed is not None:
        parts.append(Text(f"> {typed}_"))
    return Group(*parts)


def _cells(row: SlotRow, run: RunFolder | None) -> list[str]:
    """The words of a slot's line but for its bar and its result, as in the head."""
    unit = f"{row.unit or '-'}{' (golden)' if row.role == 'golden' else ''}"
    power = ""
    if row.state == "running" and row.unit is not None and run is not None:
        found = last_reading(run.unit_dir(row.unit, row.attempt) / "power.csv")
        power = f"{found[0]:.2f} V {found[1] * 1000:.0f} mA" if found else ""
    return [row.slot, unit, _step(row), _amount(row), power]


def _step(row: SlotRow) -> str:
    if row.state == "running":
        return row.step or "starting"
    return "" if row.state == "latched" else "waiting"


def _bar(row: SlotRow) -> RenderableType:
    if row.state != "running" or not row.total:
        return Text(" " * _BAR)  # keeps its place
    return ProgressBar(total=row.total, completed=min(row.done, row.total), width=_BAR)


def _amount(row: SlotRow) -> str:
    if row.state != "running":
        return f"{row.duration_s:.1f} s" if row.state == "latched" else ""
    seconds = f"{max(0, time.monotonic_ns() - row.began_ns) / 1e9:.0f} s"
    if not row.total:
        return seconds
    return f"{row.what} {min(100, 100 * row.done // row.total)} % {seconds}"


def _result(row: SlotRow) -> Text:
    """The last outcome stays until the next unit begins; the word says it, not its colour alone."""
    text = Text()
    if row.out is not None:
        text.append(f"OUT OF USE: {row.out} ", style="bold magenta")
    if row.outcome is not None:
        text.append(str(row.outcome).upper(), style=f"bold {COLOURS[row.outcome]}")
        if row.code:
            text.append(f" [{row.code}] {row.sentence or ''}")
        if not row.off:
            text.append(" OUTPUT NOT READ BACK OFF", style="bold red")
    return text


def _sums(standing: Standing) -> str:
    counted = standing.counters()
    always = ("pass", "fail", "blocked")
    words = [f"{name} {count}" for name, count in counted.items() if count or name in always]
    words += [] if standing.units else ["remaining open"]
    good, n = standing.first_pass()
    if n:
        words.append(f"first-pass yield {100 * good / n:.0f} % ({good} of {n})")
    return ", ".join(words)


def last_reading(path: Path) -> tuple[float, float] | None:
    """(volts, amps) of the last whole line of a power.csv that is being written; None: there is none yet."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            lines = file.read().split(b"\n")[:-1]
        _, volts, amps, *_ = lines[-1].split(b",")
        return float(volts), float(amps)
    except (OSError, ValueError, IndexError):
        return None
