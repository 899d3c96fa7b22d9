"""Commands that end in a channel list, as on Keysight's supplies: `VOLT 3.3,(@1,2)`, `OUTP? (@1:3)`.

Without a list the selected output is meant. A query answers one value an output, in the list's order.
"""

from __future__ import annotations

from collections.abc import Callable

from rig.sim.psu.levels import LevelInstrument, Pair
from rig.sim.psu.output import Output, Quantity
from rig.sim.psu.parser import Call, QueryHandler, SetHandler, word_forms


def nr3(value: float) -> str:
    """A number as this family prints it: +3.30000000E+00."""
    return f"{value:+.8E}"


class ChannelListInstrument(LevelInstrument):
    """Builds the handlers of a command tree whose commands take channel lists."""

    def shown(self, value: float, name: Quantity = "volts") -> str:
        return nr3(value)

    def meant(self, call: Call) -> list[Output]:
        return self.listed(call)

    def listed(self, call: Call) -> list[Output]:
        """The outputs of the trailing channel list, else the selected one."""
        channels = call.params.channel_list(len(self.outputs)) or [self.selected]
        return [self.outputs[number - 1] for number in channels]

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
