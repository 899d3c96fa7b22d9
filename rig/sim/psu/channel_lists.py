"""Commands that end in a channel list, as on Keysight's supplies: `VOLT 3.3,(@1,2)`, `OUTP? (@1:3)`.

Without a list the selected output is meant. A query answers one value an output, in the list's order. Values are
checked for every listed output before one of them is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from rig.sim.psu.instrument import Instrument
from rig.sim.psu.output import Output, Span
from rig.sim.psu.parser import AMPS, SECONDS, VOLTS, Call, QueryHandler, SetHandler, word_forms
from rig.sim.psu.status import ScpiError

Level = Literal["volts", "amps", "ovp", "ocp_delay"]
Pair = tuple[SetHandler, QueryHandler]
SUFFIXES: Mapping[Level, Mapping[str, float]] = {"volts": VOLTS, "amps": AMPS, "ovp": VOLTS, "ocp_delay": SECONDS}
_LIMIT_WORDS = ("MINimum", "MAXimum", "DEFault")


def nr3(value: float) -> str:
    """A number as this family prints it: +3.30000000E+00."""
    return f"{value:+.8E}"


def span_of(output: Output, name: Level) -> Span:
    """The range of a quantity of `output`."""
    spec = output.spec
    span = {"volts": spec.volts, "amps": spec.amps, "ovp": spec.ovp, "ocp_delay": spec.ocp_delay}[name]
    if span is None:
        raise ScpiError(-221)
    return span


class ChannelListInstrument(Instrument):
    """Builds the handlers of a command tree whose commands take channel lists."""

    names: ClassVar[Sequence[Sequence[str]]]  # the words that select each output, in capitals

    def listed(self, call: Call) -> list[Output]:
        """The outputs of the trailing channel list, else the selected one."""
        channels = call.params.channel_list(len(self.outputs)) or [self.selected]
        return [self.outputs[number - 1] for number in channels]

    def named(self, call: Call) -> Output | None:
        """The output named by a leading word, if there is one."""
        word = call.params.peek_word(*(name for names in self.names for name in names))
        found = [output for output, names in zip(self.outputs, self.names, strict=True) if word in names]
        return found[0] if found else None

    def values(self, call: Call, name: Level, outputs: Sequence[Output]) -> list[float]:
        """The next parameter as this quantity of each output (MIN, MAX and DEF differ between them)."""
        word = call.params.peek_word(*_LIMIT_WORDS)
        value = 0.0 if word else call.params.number(SUFFIXES[name], {})
        spans = [span_of(output, name) for output in outputs]
        return [span.take(span.words[word] if word else value) for span in spans]

    def setting(self, output: Output, name: Level) -> float:
        """What a query of this quantity answers."""
        return float(getattr(output, name))

    def level(self, name: Level) -> Pair:
        """Set and query a quantity; the query also answers MIN, MAX and DEF."""

        def store(call: Call) -> None:
            outputs = self.listed(call)
            values = self.values(call, name, outputs)
            call.params.end()
            for output, value in zip(outputs, values, strict=True):
                if name == "volts":
                    output.program(volts=value)
                elif name == "amps":
                    output.program(amps=value)
                else:
                    setattr(output, name, value)

        def show(call: Call) -> str:
            outputs = self.listed(call)
            word = call.params.peek_word(*_LIMIT_WORDS)
            call.params.end()
            return ",".join(nr3(span_of(o, name).words[word] if word else self.setting(o, name)) for o in outputs)

        return store, show

    def each(self, text: Callable[[Output], str]) -> QueryHandler:
        """A query that answers `text` of each listed output."""

        def show(call: Call) -> str:
            outputs = self.listed(call)
            call.params.end()
            return ",".join(text(output) for output in outputs)

        return show

    def on_each(self, run: Callable[[Output], None]) -> SetHandler:
        """A command without parameters but the list."""

        def handle(call: Call) -> None:
            outputs = self.listed(call)
            call.params.end()
            for output in outputs:
                run(output)

        return handle

    def switch(self, run: Callable[[Output, bool], None], show: Callable[[Output], bool]) -> Pair:
        """ON or OFF, answered `1` or `0`."""

        def store(call: Call) -> None:
            outputs = self.listed(call)
            value = call.params.boolean()
            call.params.end()
            for output in outputs:
                run(output, value)

        return store, self.each(lambda output: str(int(show(output))))

    def choice(self, run: Callable[[Output, str], None], show: Callable[[Output], str], *words: str) -> Pair:
        """One of `words`, answered in its short form."""

        def store(call: Call) -> None:
            outputs = self.listed(call)
            word = word_forms(call.params.word(*words))[0]
            call.params.end()
            for output in outputs:
                run(output, word)

        return store, self.each(show)
