"""The Keysight E36312A: channel lists `(@1,2)`, NR3 answers, LIST mode.

Sources: the E36300 programming guide as public drivers and command summaries repeat it ("summary"), the manuals of
older relatives where those leave gaps (E3631A, E3632A), and guesses, each marked. Regulation is read from
STAT:QUES:INST:ISUM<n>:COND?, where bit 0 (voltage questionable) means CC and bit 1 means CV; at least one public
summary has it the wrong way round. Not simulated: data logging, output coupling, memories. OUTP:PROT:WDOG and
VOLT:SLEW answer -113: no source says that this model has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rig.sim.psu.channel_lists import ChannelListInstrument, nr3
from rig.sim.psu.levels import Pair
from rig.sim.psu.output import Output, OutputSpec, Rail, Span
from rig.sim.psu.parser import Call, Command, QueryHandler, SetHandler, action, answer, integer, word_forms
from rig.sim.psu.transient import Transients

_GRID = 0.0001  # volts and amps; guess (a 16-bit converter over 6 V)
# *RST 0.05 s and up to 3600 s: recalled; a public summary says 0.255 s, as on the N6700
_OCP_DELAY = Span(0.0, 3600.0, 0.05, 0.001)
_WAITING_FOR_LIST = 256  # bit of ISUM:COND. Source: a public LIST example for the E36313A


def _channel(volts: float, amps: float, least_amps: float) -> OutputSpec:
    """An output by its ratings. Maxima of 103 % and the *RST current: E3631A manual, table 4-1."""
    return OutputSpec(
        rating=f"{volts:g}V/{amps:g}A",
        volts=Span(0.0, round(volts * 1.03, 4), 0.0, _GRID),
        amps=Span(least_amps, round(amps * 1.03, 4), amps, _GRID),  # least current: recalled
        ovp=Span(0.0, round(volts * 1.1, 4), round(volts * 1.1, 4), _GRID),  # 110 %: guess
        ocp=None,
        ocp_delay=_OCP_DELAY,
        ovp_on_at_reset=True,  # Source: E3632A manual
    )


class KeysightE36312A(ChannelListInstrument):
    """6 V/5 A, 25 V/1 A and 25 V/1 A. See the module for sources."""

    idn = "Keysight Technologies,E36312A,{serial},2.1.0-1.0.4-1.12"  # guess: the firmware field
    dialect = "keysight-e36300"
    specs = (_channel(6.0, 5.0, 0.002), _channel(25.0, 1.0, 0.001), _channel(25.0, 1.0, 0.001))
    error_format = '{code:+d},"{text}"'
    typical_latency_s = 0.005  # guess
    # Source: programming guide's APPLy (P6V, P25V, N25V, CH1..CH3); OUTP1..3: summary
    names = (("CH1", "P6V", "OUTP1"), ("CH2", "P25V", "OUTP2"), ("CH3", "N25V", "OUTP3"))

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        self._transients = Transients(self)
        self._sense: dict[int, str] = {}
        self._remote = "REM"
        super().__init__(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)

    def reset(self) -> None:
        super().reset()
        self._transients.reset()
        self._sense.clear()

    def trigger(self) -> None:
        self._transients.trigger()

    def _clear(self, *trips: str) -> SetHandler:
        """The output returns to what it was before the trip. Source: E3632A manual; guess for this model."""
        return self.on_each(lambda output: output.clear(*trips, restore=True))

    def _tripped(self, trip: str) -> QueryHandler:
        return self.each(lambda output: str(int(output.tripped == trip)))

    def _protection(self, name: Literal["ovp_on", "ocp_on"]) -> Pair:
        return self.switch(lambda o, value: setattr(o, name, value), lambda o: bool(getattr(o, name)))

    def _measured(self, column: Literal[0, 1]) -> QueryHandler:
        return self.each(lambda output: nr3(self.measure(output)[column]))

    def _apply(self, call: Call) -> None:
        """`CH1,volts[,amps]`; without the word, a list or the selected output. Source: summary."""
        named = self.named(call)
        outputs = [named] if named else self.listed(call)
        volts = self.values(call, "volts", outputs)
        amps = self.values(call, "amps", outputs) if len(call.params) else [o.amps for o in outputs]
        call.params.end()
        for output, new_volts, new_amps in zip(outputs, volts, amps, strict=True):
            output.program(new_volts, new_amps)

    def _applied(self, call: Call) -> str:
        """`"3.300000,0.500000"`, with the quotes. Source: E3631A manual; guess for this model."""
        named = self.named(call)
        outputs = [named] if named else self.listed(call)
        call.params.end()
        return ",".join(f'"{output.volts:.6f},{output.amps:.6f}"' for output in outputs)

    def _select(self, call: Call) -> None:
        output = self.named(call)
        if output is None:
            call.params.word("CH1")  # neither: raises what a wrong or missing word raises
            return
        call.params.end()
        self.selected = output.number

    def _select_number(self, number: int) -> None:
        self.selected = number

    def _condition(self, call: Call) -> str:
        """0 off, 1 CC, 2 CV, plus 256 while a LIST waits for its trigger. Fault bits are not known, so not set."""
        output = self.numbered(call)
        call.params.end()
        waiting = _WAITING_FOR_LIST if self._transients.waiting_for_list(output) else 0
        return str({"cc": 1, "cv": 2}.get(self.reading(output)[2], 0) | waiting)

    def _set_sense(self, output: Output, word: str) -> None:
        self._sense[output.number] = word

    def _remote_state(self, word: str) -> SetHandler:
        def run() -> None:
            self._remote = word

        return action(run)

    def _set_remote(self, call: Call) -> None:
        word = call.params.word("LOCal", "REMote", "RWLock")
        call.params.end()
        self._remote = word_forms(word)[0]

    def commands(self) -> Sequence[Command]:
        sense = self.choice(self._set_sense, lambda o: self._sense.get(o.number, "INT"), "INTernal", "EXTernal")
        return [
            Command("APPLy", self._apply, self._applied),
            Command("INSTrument[:SELect]", self._select, answer(lambda: f"CH{self.selected}")),
            Command("INSTrument:NSELect", integer(self._select_number, 1, 3), answer(lambda: str(self.selected))),
            Command("[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]", *self.level("volts")),
            Command("[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]", *self.level("amps")),
            Command("[SOURce:]VOLTage:PROTection[:LEVel]", *self.level("ovp")),
            Command("[SOURce:]VOLTage:PROTection:STATe", *self._protection("ovp_on")),
            Command("[SOURce:]VOLTage:PROTection:TRIPped", query=self._tripped("ovp")),
            Command("[SOURce:]VOLTage:PROTection:CLEar", self._clear("ovp")),
            Command("[SOURce:]VOLTage:SENSe[:SOURce]", *sense),
            Command("[SOURce:]CURRent:PROTection:STATe", *self._protection("ocp_on")),
            Command("[SOURce:]CURRent:PROTection:DELay[:TIME]", *self.level("ocp_delay")),
            Command("[SOURce:]CURRent:PROTection:TRIPped", query=self._tripped("ocp")),
            Command("[SOURce:]CURRent:PROTection:CLEar", self._clear("ocp")),
            Command("OUTPut[:STATe]", *self.switch(Output.switch, lambda output: output.on)),
            Command("OUTPut:PROTection:CLEar", self._clear("ovp", "ocp")),
            Command("MEASure[:SCALar][:VOLTage][:DC]", query=self._measured(0)),
            Command("MEASure[:SCALar]:CURRent[:DC]", query=self._measured(1)),
            Command("STATus:QUEStionable:INSTrument:ISUMmary#:CONDition", query=self._condition),
            Command("SYSTem:ERRor[:NEXT]", query=answer(self.next_error)),
            Command("SYSTem:VERSion", query=answer(lambda: "1999.0")),
            Command("SYSTem:REMote", self._remote_state("REM")),
            Command("SYSTem:LOCal", self._remote_state("LOC")),
            Command("SYSTem:RWLock", self._remote_state("RWL")),
            Command("SYSTem:COMMunicate:RLSTate", self._set_remote, answer(lambda: self._remote)),
            *self._transients.commands(),
        ]
