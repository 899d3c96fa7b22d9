"""Walking a dialect over a real instrument, outputs off: which lines it understands, how fast, and what it says.

Nothing is switched on. Each setting is written back with the value just read, so the instrument stays as it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rig.errors import BenchBlocked
from rig.supply.dialect import Command, Query
from rig.supply.instrument import Supply, filled
from rig.supply.models import ChannelLimits
from rig.supply.replies import Value


@dataclass(frozen=True)
class Row:
    """One line sent: its name in the dialect, the text, the reply ("" for a command), how long it took, what the
    error queue held afterwards, and what is wrong with it ("" if nothing)."""

    entry: str
    sent: str
    reply: str
    ms: float
    errors: tuple[str, ...]
    problem: str


@dataclass(frozen=True)
class Probe:
    """What walking the dialect showed. `good` is False if any row has a problem; `verdict` is for a person."""

    idn: str
    dialect: str
    channel: int
    good: bool
    verdict: str
    together: bool = False  # its outputs have one switch: one slot can use it
    rows: tuple[Row, ...] = field(default=())


def probe(supply: Supply, number: int) -> Probe:
    """Walk the dialect on one channel. Raises BenchBlocked("supply-refused") if its output is on."""
    limits = supply.limits(number)
    with supply.link.lock:
        if supply.ask(supply.dialect.queries.output, limits) is not False:
            raise BenchBlocked(
                "supply-refused",
                f"The output of {supply.instrument.model} channel {number} is on: "
                "switch it off at the instrument (with nothing of value on it) and check again.",
            )
        supply.errors()
        if supply.dialect.queries.command_error is not None:
            supply.ask(supply.dialect.queries.command_error, limits)  # what was not understood before we came
        found: dict[str, Value] = {}
        rows = [
            _ask(supply, name, query, limits, found) for name, query in supply.dialect.queries if query is not None
        ]
        if supply.dialect.transport.joins:
            rows.append(_ask_joined(supply, limits))
        rows += _sequence(supply, limits)
        rows += [
            _write_back(supply, name, command, limits, value) for name, command, value in _settings(supply, found)
        ]
        still_off = supply.ask(supply.dialect.queries.output, limits) is False
    bad = [row.entry for row in rows if row.problem]
    if not still_off:
        verdict = "The output went on while the dialect was walked: do not use this dialect."
    elif bad:
        verdict = f"{len(bad)} of {len(rows)} lines of dialect {supply.dialect.name} do not fit: {', '.join(bad)}."
    else:
        verdict = f"All {len(rows)} lines of dialect {supply.dialect.name} fit."
    together = supply.dialect.outputs == "together"
    if together:
        verdict += (
            f" The outputs of the {supply.instrument.model} switch on and off together: one slot can use it, "
            "and nothing else may hang on its other outputs."
        )
    good = still_off and not bad
    return Probe(supply.instrument.idn, supply.dialect.name, number, good, verdict, together, tuple(rows))


def _settings(supply: Supply, found: dict[str, Value]) -> list[tuple[str, Command, float | None]]:
    """Commands that change nothing now: each with the value that was just read."""
    c = supply.dialect.commands
    same: list[tuple[str, Command, float | None]] = [("output_off", c.output_off, None)]
    for name, command in (("volts", c.volts), ("amps", c.amps), ("ovp", c.ovp), ("ocp", c.ocp)):
        value = found.get(name)
        if command is not None and isinstance(value, float):
            same.append((name, command, value))
    for what, on, off in (("ovp", c.ovp_on, c.ovp_off), ("ocp", c.ocp_on, c.ocp_off)):
        state = found.get(f"{what}_enabled")
        command = on if state is True else off if state is False else None
        if command is not None:
            same.append((f"{what}_{'on' if state else 'off'}", command, None))
    return same


def _ask(
    supply: Supply, name: str, query: Query, limits: ChannelLimits, found: dict[str, Value], of: str = "queries."
) -> Row:
    started = time.monotonic()
    reply = problem = ""
    try:
        reply = supply.ask_raw(query, limits)
        found[name] = query.reply.parse(reply, limits.number)
        if name == "independent" and found[name] is not True:
            problem = "its outputs are coupled (series, parallel or tracking): make them independent"
    except (BenchBlocked, ValueError) as bad:
        problem = str(bad)
    ms = (time.monotonic() - started) * 1000
    return _row(supply, limits, f"{of}{name}", filled(query.send, limits), reply, ms, problem)


def _sequence(supply: Supply, limits: ChannelLimits) -> list[Row]:
    """Of what it plays by itself: whether anything plays, and that nothing shall."""
    how = supply.dialect.sequence
    if how is None or supply.dialect.plays(supply.instrument.model, limits) is None:
        return []
    rows = [] if how.done is None else [_ask(supply, "sequence.done", how.done, limits, {}, of="")]
    abort = Command(send=how.abort, source=how.source)
    return [*rows, _write_back(supply, "sequence.abort", abort, limits, None, of="")]


def _ask_joined(supply: Supply, limits: ChannelLimits) -> Row:
    """Volts and amps in one line, as a measurement asks for them."""
    q = supply.dialect.queries
    started = time.monotonic()
    reply = problem = ""
    try:
        raw = supply.ask_all([q.measured_volts, q.measured_amps], limits)
        reply = ";".join(raw)
        for query, each in zip((q.measured_volts, q.measured_amps), raw, strict=True):
            query.reply.parse(each, limits.number)
    except (BenchBlocked, ValueError) as bad:
        problem = str(bad)
    ms = (time.monotonic() - started) * 1000
    sent = ";:".join(filled(query.send, limits) for query in (q.measured_volts, q.measured_amps))
    return _row(supply, limits, "transport.joins", sent, reply, ms, problem)


def _write_back(
    supply: Supply, name: str, command: Command, limits: ChannelLimits, value: float | None, of: str = "commands."
) -> Row:
    started = time.monotonic()
    problem = ""
    try:
        supply.tell(command, limits, value)
    except BenchBlocked as bad:
        problem = str(bad)
    ms = (time.monotonic() - started) * 1000
    text = "; ".join(filled(line, limits, value) for line in command.send)
    return _row(supply, limits, f"{of}{name}", text, "", ms, problem)


def _row(supply: Supply, limits: ChannelLimits, entry: str, sent: str, reply: str, ms: float, problem: str) -> Row:
    errors: list[str] = []
    register = supply.dialect.queries.command_error
    try:
        errors = supply.errors()
        if register is not None and supply.ask(register, limits) is True:
            errors.append(f"a command error in {filled(register.send, limits)}")
    except BenchBlocked as bad:
        problem = problem or str(bad)
    if errors and not problem:
        problem = f"it reports {'; '.join(errors)}"
    return Row(entry, sent, reply, round(ms, 3), tuple(errors), problem)
