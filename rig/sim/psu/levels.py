"""Supplies whose commands set and ask one quantity of the outputs they mean: `VOLT 3.3`, `VOLT? MAX`.

Which outputs a command means (the selected one, a channel list, a suffix) and how numbers are printed is the
family's. Values are checked for every output before one of them is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rig.sim.psu.instrument import Instrument
from rig.sim.psu.output import Output, Quantity
from rig.sim.psu.parser import AMPS, SECONDS, VOLTS, Call, QueryHandler, SetHandler
from rig.sim.psu.status import ScpiError

Pair = tuple[SetHandler, QueryHandler]
SUFFIXES: Mapping[Quantity, Mapping[str, float]] = {
    "volts": VOLTS, "amps": AMPS, "ovp": VOLTS, "ocp": AMPS, "ocp_delay": SECONDS,
}  # fmt: skip
_LIMIT_WORDS = ("MINimum", "MAXimum", "DEFault")


class LevelInstrument(Instrument):
    """Builds the handlers of quantities. Subclasses say which outputs a call means and how a number is printed."""

    names: ClassVar[Sequence[Sequence[str]]]  # the words that name each output

    def meant(self, call: Call) -> list[Output]:
        """The outputs that the call means; takes what names them from its parameters."""
        raise NotImplementedError

    def shown(self, value: float, name: Quantity = "volts") -> str:
        """A number as this family prints it."""
        raise NotImplementedError

    def setting(self, output: Output, name: Quantity) -> float:
        """What a query of this quantity answers."""
        return float(getattr(output, name))

    def named(self, call: Call) -> Output | None:
        """The output named by the next parameter, if it names one."""
        word = call.params.peek_word(*(name for names in self.names for name in names))
        found = [output for output, names in zip(self.outputs, self.names, strict=True) if word in names]
        return found[0] if found else None

    def numbered(self, call: Call) -> Output:
        """The output of the header's suffix, `ISUM2`; the first without one. Raises -114 for one it does not have."""
        number = 1 if call.suffixes[0] is None else call.suffixes[0]
        if not 1 <= number <= len(self.outputs):
            raise ScpiError(-114)
        return self.outputs[number - 1]

    def values(self, call: Call, name: Quantity, outputs: Sequence[Output]) -> list[float]:
        """The next parameter as this quantity of each output (MIN, MAX and DEF differ between them)."""
        word = call.params.peek_word(*_LIMIT_WORDS)
        value = 0.0 if word else call.params.number(SUFFIXES[name], {})
        spans = [output.spec.span(name) for output in outputs]
        return [span.take(span.words[word] if word else value) for span in spans]

    def value(self, call: Call, output: Output, name: Quantity) -> float:
        """The next parameter as this quantity of one output."""
        return self.values(call, name, [output])[0]

    def level(self, name: Quantity) -> Pair:
        """Set and query a quantity; the query also answers MIN, MAX and DEF."""

        def store(call: Call) -> None:
            outputs = self.meant(call)
            values = self.values(call, name, outputs)
            call.params.end()
            for output, value in zip(outputs, values, strict=True):
                output.put(name, value)

        def show(call: Call) -> str:
            outputs = self.meant(call)
            word = call.params.peek_word(*_LIMIT_WORDS)
            call.params.end()
            found = [o.spec.span(name).words[word] if word else self.setting(o, name) for o in outputs]
            return ",".join(self.shown(value, name) for value in found)

        return store, show
