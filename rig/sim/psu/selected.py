"""Supplies whose commands mean the output that was selected before: `INST:NSEL 2`, then `VOLT 3.3`."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from rig.sim.psu.levels import LevelInstrument, Pair
from rig.sim.psu.output import Output
from rig.sim.psu.parser import Call, Command, QueryHandler, answer, integer


class SelectedInstrument(LevelInstrument):
    """Builds the handlers of a command tree that acts on the selected output."""

    selection: ClassVar[str]  # what INST? answers, with {number} and {name}

    @property
    def current(self) -> Output:
        """The selected output."""
        return self.outputs[self.selected - 1]

    def meant(self, call: Call) -> list[Output]:
        return [self.current]

    def regulation(self, call: Call) -> str:
        """ISUM<n>:COND?, of the output of the suffix: 0 off, 1 CC, 2 CV."""
        output = self.numbered(call)
        call.params.end()
        return str({"cc": 1, "cv": 2}.get(output.sense()[2], 0))

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
