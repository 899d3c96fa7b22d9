"""The trigger system and LIST mode of the Keysight E36312A and N6705C: what the instrument plays by itself.

`LIST:VOLT`, `LIST:DWEL` and so on, `VOLT:MODE LIST`, `INIT (@1)`, then `*TRG`; or `VOLT:TRIG` and `VOLT:MODE STEP`.
Source: a public LIST example program for the E36313A; constants as noted. `LIST:STEP ONCE` is refused with -224, the
trigger-out marks (`LIST:TOUT`) are stored and checked but drive nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from rig.sim.psu.channel_lists import ChannelListInstrument, nr3
from rig.sim.psu.levels import SUFFIXES, Pair
from rig.sim.psu.output import Output, Span
from rig.sim.psu.parser import PLAIN, SECONDS, Call, Command, action
from rig.sim.psu.status import ScpiError

DWELL = Span(0.01, 3600.0, 0.01, 0.001)  # Source: public driver, "0.01-3600 s"; the 1 ms grid is a guess
MOST_COUNTS = 256  # Source: same
MOST_POINTS = 100  # recalled

Quantity = Literal["volts", "amps"]
Column = Literal["volts", "amps", "dwell", "bost", "eost"]
_FLAG = Span(0.0, 1.0, 0.0, 1.0)


class _Channel:
    """The trigger system of one output after *RST."""

    def __init__(self) -> None:
        self.mode: dict[Quantity, str] = {"volts": "FIX", "amps": "FIX"}
        self.triggered: dict[Quantity, float] = {}
        self.lists: dict[Column, list[float]] = {}
        self.count = 1
        self.hold_last = False
        self.source = "IMM"
        self.armed = False


class Transients:
    """INITiate, TRIGger, ABORt, LIST and the MODE commands of every output."""

    def __init__(self, owner: ChannelListInstrument, dwell: Span = DWELL, most_points: int = MOST_POINTS) -> None:
        self._owner, self._dwell, self._most_points = owner, dwell, most_points
        self.reset()

    def reset(self) -> None:
        """*RST: fixed mode, no lists, nothing armed."""
        self._channels: dict[int, _Channel] = {}

    def _of(self, output: Output) -> _Channel:
        return self._channels.setdefault(output.number, _Channel())

    def waiting(self, output: Output) -> bool:
        """Whether a transient is initiated and its trigger has not come."""
        return self._of(output).armed

    def waiting_for_list(self, output: Output) -> bool:
        """Whether a LIST is initiated and its trigger has not come."""
        channel = self._of(output)
        return channel.armed and "LIST" in channel.mode.values()

    # What the commands do

    def _initiate(self, output: Output) -> None:
        channel = self._of(output)
        if "LIST" in channel.mode.values():
            self._steps(output)  # an unplayable list is refused now, not at the trigger
        channel.armed = True
        if channel.source == "IMM":
            self._fire(output)

    def trigger(self) -> None:
        """*TRG: fire every initiated output. Raises -211 if there is none."""
        armed = [output for output in self._owner.outputs if self._of(output).armed]
        if not armed:
            raise ScpiError(-211)
        for output in armed:
            self._fire(output)

    def _fire(self, output: Output) -> None:
        channel = self._of(output)
        channel.armed = False
        stepped = [name for name in channel.mode if channel.mode[name] == "STEP"]
        levels = {name: channel.triggered.get(name, getattr(output, name)) for name in stepped}
        output.program(levels.get("volts"), levels.get("amps"))
        if "LIST" not in channel.mode.values():
            return
        steps = self._steps(output)

        def finish(done: Output) -> None:
            if channel.hold_last:
                done.program(*steps[-1][:2])

        self._owner.play(output, steps, channel.count, finish)

    def _steps(self, output: Output) -> list[tuple[float, float, float]]:
        """Volts, amps and seconds of each step; lists of one value hold for all. Raises -226 or -221."""
        channel = self._of(output)
        volts = channel.lists.get("volts", []) if channel.mode["volts"] == "LIST" else [output.volts]
        amps = channel.lists.get("amps", []) if channel.mode["amps"] == "LIST" else [output.amps]
        dwell = channel.lists.get("dwell", [self._dwell.default])
        columns = [volts, amps, dwell]
        length = max(len(column) for column in columns)
        if not all(columns):
            raise ScpiError(-221)
        if any(len(column) not in (1, length) for column in columns):
            raise ScpiError(-226)
        full = [column * length if len(column) == 1 else column for column in columns]
        return list(zip(*full, strict=True))

    def _abort(self, output: Output) -> None:
        self._of(output).armed = False
        output.play(None)

    # Handlers

    def _list(self, column: Column, suffixes: Mapping[str, float]) -> Pair:
        def span(output: Output) -> Span:
            if column == "volts" or column == "amps":
                return output.spec.span(column)
            return self._dwell if column == "dwell" else _FLAG

        def store(call: Call) -> None:
            outputs = self._owner.listed(call)
            values = [call.params.number(suffixes)]
            while len(call.params):
                values.append(call.params.number(suffixes))
            if len(values) > self._most_points:
                raise ScpiError(-223)
            rows = [[span(output).take(value) for value in values] for output in outputs]
            for output, row in zip(outputs, rows, strict=True):
                self._of(output).lists[column] = row

        show = self._owner.each(lambda output: ",".join(nr3(v) for v in self._of(output).lists.get(column, [])))
        return store, show

    def _triggered(self, name: Quantity) -> Pair:
        def store(call: Call) -> None:
            outputs = self._owner.listed(call)
            values = self._owner.values(call, name, outputs)
            call.params.end()
            for output, value in zip(outputs, values, strict=True):
                self._of(output).triggered[name] = value

        return store, self._owner.each(lambda o: nr3(self._of(o).triggered.get(name, getattr(o, name))))

    def _mode(self, name: Quantity) -> Pair:
        return self._owner.choice(
            lambda output, word: self._of(output).mode.__setitem__(name, word),
            lambda output: self._of(output).mode[name],
            "FIXed",
            "STEP",
            "LIST",
        )

    def _source(self) -> Pair:
        def run(output: Output, word: str) -> None:
            self._of(output).source = word

        return self._owner.choice(run, lambda output: self._of(output).source, "IMMediate", "BUS")

    def _count(self) -> Pair:
        def store(call: Call) -> None:
            outputs = self._owner.listed(call)
            count = call.params.integer(1, MOST_COUNTS)
            call.params.end()
            for output in outputs:
                self._of(output).count = count

        return store, self._owner.each(lambda output: str(self._of(output).count))

    def _hold_last(self) -> Pair:
        def run(output: Output, value: bool) -> None:
            self._of(output).hold_last = value

        return self._owner.switch(run, lambda output: self._of(output).hold_last)

    def commands(self) -> Sequence[Command]:
        """The rows of the command tree."""
        automatic: Callable[[Output, str], None] = lambda output, word: None  # noqa: E731
        return [
            Command("[SOURce:]VOLTage:MODE", *self._mode("volts")),
            Command("[SOURce:]CURRent:MODE", *self._mode("amps")),
            Command("[SOURce:]VOLTage[:LEVel]:TRIGgered[:AMPLitude]", *self._triggered("volts")),
            Command("[SOURce:]CURRent[:LEVel]:TRIGgered[:AMPLitude]", *self._triggered("amps")),
            Command("[SOURce:]LIST:VOLTage[:LEVel]", *self._list("volts", SUFFIXES["volts"])),
            Command("[SOURce:]LIST:CURRent[:LEVel]", *self._list("amps", SUFFIXES["amps"])),
            Command("[SOURce:]LIST:DWELl", *self._list("dwell", SECONDS)),
            Command("[SOURce:]LIST:TOUTput:BOSTep[:DATA]", *self._list("bost", PLAIN)),
            Command("[SOURce:]LIST:TOUTput:EOSTep[:DATA]", *self._list("eost", PLAIN)),
            Command("[SOURce:]LIST:COUNt", *self._count()),
            Command("[SOURce:]LIST:STEP", *self._owner.choice(automatic, lambda output: "AUTO", "AUTO")),
            Command("[SOURce:]LIST:TERMinate:LAST", *self._hold_last()),
            Command("TRIGger[:TRANsient]:SOURce", *self._source()),
            Command("TRIGger[:TRANsient][:IMMediate]", action(self.trigger)),
            Command("INITiate[:IMMediate][:TRANsient]", self._owner.on_each(self._initiate)),
            Command("ABORt[:TRANsient]", self._owner.on_each(self._abort)),
        ]
