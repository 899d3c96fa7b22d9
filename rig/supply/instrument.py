"""An instrument: its line, its dialect, its identity, its error queue. Knows no safety: see `rig.supply.driver`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rig.errors import BenchBlocked, UsageProblem
from rig.supply.channel import Instrument
from rig.supply.dialect import Command, Dialect, Query, Transport, load, recognise
from rig.supply.models import ChannelLimits, Place
from rig.supply.replies import BitReply, Value
from rig.supply.visa import Link

log = logging.getLogger(__name__)
ERROR_QUEUE_DEPTH = 40  # the deepest queue seen is 20


class Supply:
    """One instrument: its line, its dialect, its identity."""

    def __init__(self, link: Link, dialect: Dialect, instrument: Instrument) -> None:
        self.link = link
        self.dialect = dialect
        self.instrument = instrument
        self._latched: dict[str, int] = {}  # by what was sent: the bits seen since the last forgetting

    @classmethod
    def open(
        cls,
        resource: str,
        *,
        dialect: str | None = None,
        serial: str | None = None,
        folders: Sequence[Path] = (),
        patience_s: float = 0.0,
        in_haste: bool = False,
    ) -> Supply:
        """Open, identify, and empty the error queue (`in_haste`: not that, for it may take seconds).

        Raises UsageProblem for an instrument that no dialect knows, that the named dialect is not for, or whose
        serial number is not `serial`; BenchBlocked("supply-lost") if nothing answers.
        """
        named = load(dialect, folders) if dialect is not None else None
        link = Link(resource, named.transport, _opening(named)) if named else Link(resource, Transport())
        idn = link.open(patience_s)
        try:
            if named is None:
                named, instrument = recognise(idn, folders)
            else:
                instrument = _must_be(named, idn)
            if serial is not None and instrument.serial.upper() != serial.upper():
                raise UsageProblem(
                    f"The instrument at {resource} is {instrument.model} with serial number {instrument.serial}, "
                    f"not {serial}: correct bench.toml or the cabling."
                )
            supply = cls(link, named, instrument)
            link.adopt(named.transport, _opening(named))
            if not in_haste:
                supply.errors()
        except BaseException:
            link.close()
            raise
        return supply

    def limits(self, number: int) -> ChannelLimits:
        """What channel `number` can do, with what is plugged into it. Raises UsageProblem if there is none."""
        model, query = self.instrument.model, self.dialect.queries.module
        if query is None or number not in self.dialect.model_of(model).numbers:
            return self.dialect.channel(model, number)
        module = str(self.ask(query, Place(number=number))).strip('"')
        return self.dialect.channel(model, number, module)

    def tell(self, command: Command, limits: Place, value: float | None = None) -> None:
        self.link.write(*(filled(line, limits, value) for line in command.send))

    def may_be_on(self, limits: Place) -> None:
        """From now on a line that stops answering is left with this output's switching off in it."""
        self.link.farewells[limits.number] = [filled(line, limits) for line in self.dialect.commands.output_off.send]

    def is_off(self, limits: Place) -> None:
        """It was read back off: :meth:`may_be_on` is over."""
        self.link.farewells.pop(limits.number, None)

    def ask_raw(self, query: Query, limits: Place | None = None) -> str:
        return self.link.query(filled(query.send, limits), [filled(line, limits) for line in query.before])

    def ask_all(self, queries: Sequence[Query], limits: Place | None = None) -> list[str]:
        """The raw answers to `queries`, which are not latched: in one exchange where the dialect joins them."""
        if not self.dialect.transport.joins or any(query.before for query in queries):
            return [self.ask_raw(query, limits) for query in queries]
        line = ";:".join(filled(query.send, limits).lstrip(":") for query in queries)
        raw = self.link.query(line)
        answers = raw.split(";")
        if len(answers) != len(queries):
            self.link.suspect()
            raise BenchBlocked("supply-refused", f"{self.instrument.model} answered {line!r} with {raw!r} only.")
        return answers

    def ask(self, query: Query, limits: Place | None = None) -> Value:
        """What a query says now. A latched register is read twice: the first reading tells, and clears, the past.

        A trip that any reading has shown stays told until :meth:`forget_trips`.
        """
        raw = self.ask_raw(query, limits)
        if not query.latched or not isinstance(query.reply, BitReply):
            return self.meaning(query, raw, limits)
        self.meaning(query, raw, limits)  # raises what cannot be read
        again = self.ask_raw(query, limits)
        self.meaning(query, again, limits)
        sent = filled(query.send, limits)
        past, now = query.reply.number(raw), query.reply.number(again)
        self._latched[sent] = self._latched.get(sent, 0) | past | now
        lasting = query.reply.meanings() == {True, False}
        return self.meaning(query, str(self._latched[sent] if lasting else now), limits)

    def forget_trips(self, limits: Place) -> None:
        """After trips were cleared: what latched registers have shown until now does not count any more."""
        for query in (self.dialect.queries.ovp_tripped, self.dialect.queries.ocp_tripped):
            if query is not None and query.latched:
                self.ask_raw(query, limits)
                self._latched.pop(filled(query.send, limits), None)

    def meaning(self, query: Query, raw: str, limits: Place | None = None) -> Value:
        try:
            return self.dialect.read(query, raw, limits.number if limits else 0)
        except ValueError as bad:
            self.link.suspect()
            raise BenchBlocked(
                "supply-refused",
                f"{self.instrument.model} answered {filled(query.send, limits)!r} in a way that dialect "
                f"{self.dialect.name} cannot read: {bad}.",
            ) from bad

    def errors(self) -> list[str]:
        """Empty the error queue; what was in it, oldest first."""
        query = self.dialect.queries.error
        found: list[str] = []
        if query is None:
            return found
        for _ in range(ERROR_QUEUE_DEPTH):  # a queue may never empty
            raw = self.ask_raw(query)
            entry = str(self.meaning(query, raw))
            if entry:
                found.append(entry)
                log.info("%s error queue: %s", self.instrument.model, entry)
            elif raw.strip().lstrip("+-0").startswith(tuple("123456789")):
                continue  # an entry that this family sends without meaning it: there may be more behind it
            else:
                break
        return found

    def close(self) -> None:
        self.link.close()


def _opening(dialect: Dialect) -> list[str]:
    return [filled(line, None) for line in dialect.commands.opening.send] if dialect.commands.opening else []


def _must_be(dialect: Dialect, idn: str) -> Instrument:
    instrument = dialect.recognise(idn)
    if instrument is None:
        raise UsageProblem(
            f"The instrument says {idn!r}, which is none of dialect {dialect.name} ({dialect.title}): "
            "leave `dialect` out of bench.toml, or name the right one."
        )
    return instrument


def filled(line: str, limits: Place | None, value: float | None = None) -> str:
    """A template of the dialect with its channel and value put in."""
    if limits is None:
        return line.format(channel=0, name="")
    return line.format(channel=limits.number, name=limits.name or str(limits.number), value=value)
