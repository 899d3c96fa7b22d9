"""The Rigol DP832: channels as words (`CH1`), answers in words (`ON`, `YES`, `CV`) and plain decimals.

Sources: DP800 Programming Guide, December 2015 ("guide"), the DP2000 guide where it explains what the DP800's leaves
open, and guesses, each marked. Quirks kept on purpose: `:OUTP:OVP:CLEAR` has no short form; `:MEAS:POWE?`, not
`POW?`; clearing by `:OUTP:OVP:CLEAR` leaves the output off, by `:SOUR:VOLT:PROT:CLE` switches it on again.
Not simulated: :DELAY, :MONITOR, :TRIGger, :PRESet, tracking, memories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from rig.sim.psu.levels import LevelInstrument
from rig.sim.psu.output import Output, OutputSpec, Quantity, Rail, Span
from rig.sim.psu.parser import PLAIN, SECONDS, Call, Command, QueryHandler, SetHandler, action, answer
from rig.sim.psu.status import TEXTS, ScpiError

# 1 mV and 1 mA: a DP832 with the high-resolution option; without it 10 mV. Source: recalled
_GRID = 0.001
_AMPS = Span(0.0, 3.2, 3.0, _GRID)  # Source: guide, table 2-1
_OCP = Span(0.001, 3.3, 3.3, _GRID)  # Source: recalled (guide, table 2-2)
_NO_DELAY = Span(0.0, 0.0, 0.0, 1.0)


def _channel(rating: str, high: float, ovp: float) -> OutputSpec:
    # OVP and OCP are off after *RST. Source: guide, default OFF
    return OutputSpec(rating, Span(0.0, high, 0.0, _GRID), _AMPS, Span(0.01, ovp, ovp, _GRID), _OCP, _NO_DELAY, False)


_TIMER_GROUPS = 2048  # Source: guide
_TIMER_DWELL = Span(1.0, 99999.0, 1.0, 0.1)  # Source: guide for 1 s; 0.1 s grid is a guess


class _Timer:
    """What :TIMEr was told for one channel."""

    def __init__(self) -> None:
        self.steps: dict[int, tuple[float, float, float]] = {}
        self.groups = 1
        self.cycles: int | None = 1
        self.end = "OFF"


class RigolDP832(LevelInstrument):
    """30 V/3 A, 30 V/3 A and 5 V/3 A. See the module for sources and quirks."""

    idn = "RIGOL TECHNOLOGIES,DP832,{serial},00.01.16"
    dialect = "rigol-dp800"
    # Ranges: guide, table 2-1 ("0V to 32V", "0V to 5.3V"). OVP 33 V and 5.5 V: recalled (guide, table 2-2)
    specs = (_channel("30V/3A", 32.0, 33.0), _channel("30V/3A", 32.0, 33.0), _channel("5V/3A", 5.3, 5.5))
    error_format = '{code},"{text}"'
    error_texts: ClassVar[Mapping[int, str]] = {**TEXTS, -113: "Undefined header; keyword cannot be found"}
    typical_latency_s = 0.118  # recalled: "command processing < 118 ms", so this is its worst case
    names = (("CH1",), ("CH2",), ("CH3",))
    meter_period_s = 0.4  # Source: lxi-tools wiki, "2-3 Hz however fast you ask"

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        self._timers = [_Timer() for _ in self.specs]
        self._beeper = True
        super().__init__(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)

    def reset(self) -> None:
        super().reset()
        self._timers = [_Timer() for _ in self.specs]

    # Which channel is meant

    def _by_word(self, call: Call) -> Output:
        """The channel named by a leading `CH1`, else the selected one."""
        return self.named(call) or self.outputs[self.selected - 1]

    def _by_suffix(self, call: Call) -> Output:
        number = self.selected if call.suffixes[0] is None else call.suffixes[0]
        if not 1 <= number <= len(self.outputs):
            raise ScpiError(-114)
        return self.outputs[number - 1]

    def _which(self, call: Call) -> Output:
        return self._by_suffix(call) if call.suffixes else self._by_word(call)

    def meant(self, call: Call) -> list[Output]:
        return [self._which(call)]

    def shown(self, value: float, name: Quantity = "volts") -> str:
        return f"{value:.3f}"

    # Pieces that the tree below is made of

    def _switch(self, name: Literal["on", "ovp_on", "ocp_on"]) -> tuple[SetHandler, QueryHandler]:
        def store(call: Call) -> None:
            output = self._which(call)
            value = call.params.boolean()
            call.params.end()
            if name == "on":
                output.switch(value)
            else:
                setattr(output, name, value)

        def show(call: Call) -> str:
            output = self._which(call)
            call.params.end()
            return "ON" if getattr(output, name) else "OFF"

        return store, show

    def _tripped(self, trip: str) -> QueryHandler:
        def show(call: Call) -> str:
            output = self._which(call)
            call.params.end()
            return "YES" if output.tripped == trip else "NO"

        return show

    def _clear(self, trip: str, *, restore: bool) -> SetHandler:
        """Unlatch. Source: DP2000 guide (":OUTP:OVP:CLE does not re-enable, :SOUR:VOLT:PROT:CLE does")."""

        def run(call: Call) -> None:
            output = self._which(call)
            call.params.end()
            output.clear(trip, restore=restore)

        return run

    def _measured(self, *columns: Literal["volts", "amps", "watts"]) -> QueryHandler:
        """Four digits for volts and amps, three for watts. Source: guide, example `3.3001,0.0801,0.264`."""

        def show(call: Call) -> str:
            output = self._by_word(call)
            call.params.end()
            volts, amps, _ = self.measure(output)
            texts = {"volts": f"{volts:.4f}", "amps": f"{amps:.4f}", "watts": f"{volts * amps:.3f}"}
            return ",".join(texts[column] for column in columns)

        return show

    def _mode(self, call: Call) -> str:
        """CV, CC, or UR; that an output which is off answers UR is a guess."""
        output = self._by_word(call)
        call.params.end()
        return {"cv": "CV", "cc": "CC"}.get(output.sense()[2], "UR")

    def _apply(self, call: Call) -> None:
        """`CH1[,volts[,amps]]` selects the channel too."""
        params = call.params
        output = self._by_word(call)
        volts = self.value(call, output, "volts") if len(params) else None
        amps = self.value(call, output, "amps") if len(params) else None
        params.end()
        self.selected = output.number
        output.program(volts, amps)

    def _applied(self, call: Call) -> str:
        """`CH1:30V/3A,3.300,0.500`, as firmware 00.01.16 prints it (others leave the rating out)."""
        output = self._by_word(call)
        only = call.params.peek_word("VOLTage", "CURRent")
        call.params.end()
        volts, amps = f"{output.volts:.3f}", f"{output.amps:.3f}"
        if only:
            return volts if only == "VOLTage" else amps
        return f"CH{output.number}:{output.spec.rating},{volts},{amps}"

    def _condition(self, call: Call) -> str:
        """1 = CC, 2 = CV, 0 = off, and 4 = OVP, 8 = OCP tripped. Source: guide, channel summary register."""
        output = self._by_suffix(call)
        call.params.end()
        regulation = {"cc": 1, "cv": 2}.get(output.sense()[2], 0)
        return str(regulation | {"ovp": 4, "ocp": 8}.get(output.tripped or "", 0))

    def _select(self, call: Call) -> None:
        word = call.params.word("CH1", "CH2", "CH3")
        call.params.end()
        self.selected = int(word[2])

    def _select_number(self, call: Call) -> None:
        number = call.params.integer(1, len(self.outputs))
        call.params.end()
        self.selected = number

    def _locked(self, call: Call) -> None:
        """Nobody is at the front panel; with or without ON or OFF. Source: dcps."""
        if len(call.params):
            call.params.boolean()
        call.params.end()

    def _beeping(self) -> tuple[SetHandler, QueryHandler]:
        def store(call: Call) -> None:
            self._beeper = call.params.boolean()
            call.params.end()

        return store, answer(lambda: "ON" if self._beeper else "OFF")

    # The timer: a sequence on the selected channel

    @property
    def _timer(self) -> _Timer:
        return self._timers[self.selected - 1]

    def _timer_step(self, call: Call) -> None:
        params, output = call.params, self.outputs[self.selected - 1]
        group = params.integer(0, _TIMER_GROUPS - 1)
        volts = self.value(call, output, "volts")
        amps = self.value(call, output, "amps")
        seconds = _TIMER_DWELL.take(params.number(SECONDS))
        params.end()
        self._timer.steps[group] = (volts, amps, seconds)

    def _timer_told(self, call: Call) -> str:
        """`#9000000036` and `1,8.000,1.0000,10;2,6.000,1.0000,10;`. Source: guide; of a group never set: guess."""
        first = call.params.integer(0, _TIMER_GROUPS - 1)
        count = call.params.integer(1, _TIMER_GROUPS) if len(call.params) else 1
        call.params.end()
        groups = [(group, *self._timer.steps.get(group, (1.0, 1.0, 1.0))) for group in range(first, first + count)]
        told = "".join(f"{group},{volts:.3f},{amps:.4f},{seconds:g};" for group, volts, amps, seconds in groups)
        return f"#9{len(told):09d}{told}"

    def _timer_groups(self, call: Call) -> None:
        groups = call.params.number(PLAIN, {"MINimum": 1, "MAXimum": _TIMER_GROUPS})
        call.params.end()
        if not 1 <= groups <= _TIMER_GROUPS:
            raise ScpiError(-222)
        self._timer.groups = round(groups)

    def _timer_cycles(self, call: Call) -> None:
        endless = call.params.word("N", "I") == "I"
        cycles = None if endless else call.params.integer(1, 99999)
        call.params.end()
        self._timer.cycles = cycles

    def _timer_end(self, call: Call) -> None:
        word = call.params.word("OFF", "LAST")
        call.params.end()
        self._timer.end = word

    def _timer_switch(self, call: Call) -> None:
        run = call.params.boolean()
        call.params.end()
        output, timer = self.outputs[self.selected - 1], self._timer
        if not run:
            output.play(None)
            return
        missing = (output.volts, output.amps, _TIMER_DWELL.default)  # guess: a group never set
        end = timer.end

        def finish(done: Output) -> None:
            if end == "OFF":
                done.switch(False)
            else:
                done.program(*last)

        steps = [timer.steps.get(group, missing) for group in range(timer.groups)]
        last = steps[-1][:2]
        self.play(output, steps, timer.cycles, finish)

    def _timer_state(self) -> str:
        return "ON" if self.outputs[self.selected - 1].playback else "OFF"

    def commands(self) -> Sequence[Command]:
        def pair(pattern: str, handlers: tuple[SetHandler, QueryHandler]) -> Command:
            return Command(pattern, *handlers)

        ignore = action(lambda: None)
        return [
            Command("APPLy", self._apply, self._applied),
            Command("INSTrument[:SELect]", self._select, answer(lambda: f"CH{self.selected}")),
            Command("INSTrument:NSELect", self._select_number, answer(lambda: str(self.selected))),
            pair("[SOURce#:]VOLTage[:LEVel][:IMMediate][:AMPLitude]", self.level("volts")),
            pair("[SOURce#:]CURRent[:LEVel][:IMMediate][:AMPLitude]", self.level("amps")),
            pair("[SOURce#:]VOLTage:PROTection[:LEVel]", self.level("ovp")),
            pair("[SOURce#:]CURRent:PROTection[:LEVel]", self.level("ocp")),
            pair("[SOURce#:]VOLTage:PROTection:STATe", self._switch("ovp_on")),
            pair("[SOURce#:]CURRent:PROTection:STATe", self._switch("ocp_on")),
            Command("[SOURce#:]VOLTage:PROTection:TRIPped", query=self._tripped("ovp")),
            Command("[SOURce#:]CURRent:PROTection:TRIPped", query=self._tripped("ocp")),
            Command("[SOURce#:]VOLTage:PROTection:CLEar", self._clear("ovp", restore=True)),
            Command("[SOURce#:]CURRent:PROTection:CLEar", self._clear("ocp", restore=True)),
            pair("OUTPut[:STATe]", self._switch("on")),
            Command("OUTPut:CVCC", query=self._mode),
            Command("OUTPut:MODE", query=self._mode),
            pair("OUTPut:OVP[:STATe]", self._switch("ovp_on")),
            pair("OUTPut:OCP[:STATe]", self._switch("ocp_on")),
            pair("OUTPut:OVP:VALue", self.level("ovp")),
            pair("OUTPut:OCP:VALue", self.level("ocp")),
            Command("OUTPut:OVP:QUES", query=self._tripped("ovp")),
            Command("OUTPut:OCP:QUES", query=self._tripped("ocp")),
            Command("OUTPut:OVP:ALAR", query=self._tripped("ovp")),
            Command("OUTPut:OCP:ALAR", query=self._tripped("ocp")),
            Command("OUTPut:OVP:CLEAR", self._clear("ovp", restore=False)),
            Command("OUTPut:OCP:CLEAR", self._clear("ocp", restore=False)),
            Command("MEASure[:VOLTage][:DC]", query=self._measured("volts")),
            Command("MEASure:CURRent[:DC]", query=self._measured("amps")),
            Command("MEASure:POWEr[:DC]", query=self._measured("watts")),
            Command("MEASure:ALL[:DC]", query=self._measured("volts", "amps", "watts")),
            Command("STATus:QUEStionable:INSTrument:ISUMmary#:CONDition", query=self._condition),
            Command("SYSTem:ERRor[:NEXT]", query=answer(self.next_error)),
            Command("SYSTem:VERSion", query=answer(lambda: "1999.0")),
            Command("SYSTem:REMote", ignore),
            Command("SYSTem:LOCal", ignore),
            Command("SYSTem:RWLock", self._locked),
            Command("SYSTem:BEEPer[:STATe]", *self._beeping()),
            Command("TIMEr[:STATe]", self._timer_switch, answer(self._timer_state)),
            Command("TIMEr:GROUPs", self._timer_groups, answer(lambda: str(self._timer.groups))),
            Command("TIMEr:PARAmeter", self._timer_step, self._timer_told),
            Command("TIMEr:CYCLEs", self._timer_cycles),
            Command("TIMEr:ENDState", self._timer_end, answer(lambda: self._timer.end)),
        ]
