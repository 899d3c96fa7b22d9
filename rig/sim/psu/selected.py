"""Supplies whose commands mean the output that was selected before: `INST:NSEL 2`, then `VOLT 3.3`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from rig.sim.psu.instrument import Instrument
from rig.sim.psu.output import Output, Span
from rig.sim.psu.parser import AMPS, VOLTS, Call, Command, QueryHandler, SetHandler, answer, integer

Level = Literal["volts", "amps", "ovp"]
Pair = tuple[SetHandler, QueryHandler]
_SUFFIXES: Mapping[Level, Mapping[str, float]] = {"volts": VOLTS, "amps": AMPS, "ovp": VOLTS}


class SelectedInstrument(Instrument):
    """Builds the handlers of a command tree that acts on the selected output."""

    names: ClassVar[Sequence[Sequence[str]]]  # the words that select each output
    selection: ClassVar[str]  # what INST? answers, with {number} and {name}

    def shown(self, value: float, name: Level = "volts") -> str:
        """A number as this family prints it."""
        raise NotImplementedError

    @property
    def current(self) -> Output:
        """The selected output."""
        return self.outputs[self.selected - 1]

    def named(self, call: Call) -> Output | None:
        """The output named by the next parameter, if it names one."""
        word = call.params.peek_word(*(name for names in self.names for name in names))
        found = [output for output, names in zip(self.outputs, self.names, strict=True) if word in names]
        return found[0] if found else None

    def span(self, output: Output, name: Level) -> Span:
        span = {"volts": output.spec.volts, "amps": output.spec.amps, "ovp": output.spec.ovp}[name]
        assert span is not None, "a personality without this protection must not have its commands"
        return span

    def value(self, call: Call, output: Output, name: Level) -> float:
        """The next parameter as this quantity; MIN, MAX and DEF are the output's."""
        span = self.span(output, name)
        return span.take(call.params.number(_SUFFIXES[name], span.words))

    def level(self, name: Level) -> Pair:
        """Set and query a quantity of the selected output; the query also answers MIN, MAX and DEF."""

        def store(call: Call) -> None:
            output = self.current
            value = self.value(call, output, name)
            call.params.end()
            if name == "volts":
                output.program(volts=value)
            elif name == "amps":
                output.program(amps=value)
            else:
                setattr(output, name, value)

        def show(call: Call) -> str:
            words = self.span(self.current, name).words
            word = call.params.peek_word(*words)
            call.params.end()
            return self.shown(words[word] if word else getattr(self.current, name), name)

        return store, show

    def switch(self, run: Callable[[bool], None], show: Callable[[], bool]) -> Pair:
        """ON or OFF, answered `1` or `0`."""

        def store(call: Call) -> None:
            value = call.params.boolean()
            call.params.end()
            run(value)

        return store, answer(lambda: str(int(show())))

    def measured(self, column: Literal[0, 1]) -> QueryHandler:
        """What the meter shows of the output named, else of the selected one."""

        def show(call: Call) -> str:
            output = self.named(call) or self.current
            call.params.end()
            return self.shown(self.measure(output)[column], "amps" if column else "volts")

        return show

    def selecting(self) -> list[Command]:
        """INSTrument, by word and by number."""

        def select(call: Call) -> None:
            output = self.named(call)
            if output is None:
                call.params.word(self.names[0][0])  # neither: raises what a wrong or missing word raises
                return
            call.params.end()
            self.selected = output.number

        def select_number(number: int) -> None:
            self.selected = number

        def selected() -> str:
            return self.selection.format(number=self.selected, name=self.names[self.selected - 1][0])

        return [
            Command("INSTrument[:SELect]", select, answer(selected)),
            Command(
                "INSTrument:NSELect",
                integer(select_number, 1, len(self.specs)),
                answer(lambda: str(self.selected)),
            ),
        ]
