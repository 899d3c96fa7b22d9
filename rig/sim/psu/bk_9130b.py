"""The B&K Precision 9130B: three outputs, one switch for all and (newer firmware) one for each.

Sources: notes of people who ran the 9130 and 9130B ("field"), the ITECH IT6300 guide ("sister"; Keithley's 2230 is
another), and guesses, each marked. Quirks kept on purpose: OUTP switches all outputs, CHAN:OUTP the selected one;
errors are in single quotes; `MEAS:VOLT? ALL` answers three values; on a serial line (`remote_first`) nothing is
carried out before SYST:REM. With `old_firmware` there is no CHAN:OUTP. Not simulated: series and parallel
connection, tracking, the timer (its range is not known for sure), memories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from rig.sim.psu.output import OutputSpec, Quantity, Rail, Span
from rig.sim.psu.parser import Call, Command, QueryHandler, SetHandler, Unit, action, answer
from rig.sim.psu.selected import SelectedInstrument
from rig.sim.psu.status import TEXTS, ScpiError

_NO_DELAY = Span(0.0, 0.0, 0.0, 1.0)


def _channel(rating: str, volts: float) -> OutputSpec:
    """1 mV and 1 mA, 3 A, OVP up to 1 V above the rating (field: 31 V): recalled; switched off after *RST: guess."""
    ovp = Span(0.0, volts + 1.0, volts + 1.0, 0.01)
    return OutputSpec(rating, Span(0.0, volts, 0.0, 0.001), Span(0.0, 3.0, 0.1, 0.001), ovp, None, _NO_DELAY, False)


class Bk9130B(SelectedInstrument):
    """30 V/3 A, 30 V/3 A and 5 V/3 A. See the module for sources and quirks."""

    idn = "BK PRECISION, 9130B, {serial}, V1.69"
    dialect = "bk-9130b"
    specs = (_channel("30V/3A", 30.0), _channel("30V/3A", 30.0), _channel("5V/3A", 5.0))
    names = (("CH1", "FIRst"), ("CH2", "SECOnd"), ("CH3", "THIrd"))
    selection = "{name}"
    error_format = "{code},'{text}'"
    error_texts: ClassVar = {**TEXTS, 0: "No Error"}
    typical_latency_s = 0.03  # guess
    typical_switch_on_s = 0.05  # guess
    meter_period_s = 0.2  # guess

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        self.remote_first = False
        self.old_firmware = False
        self.remote = False
        super().__init__(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)

    def shown(self, value: float, name: Quantity = "volts") -> str:
        return f"{value:.3f}"

    def _run(self, unit: Unit, header: str) -> str | None:
        local = self.remote_first and not self.remote and not unit.query
        if local and not header.startswith(("SYST", "*")):
            raise ScpiError(-221)  # guess: which number; that nothing is carried out: field
        if self.old_firmware and "CHAN" in header:
            raise ScpiError(-113)
        return super()._run(unit, header)

    # Handlers

    def _switch_all(self, on: bool) -> None:
        for output in self.outputs:
            output.switch(on)

    def _switch_one(self, on: bool) -> None:
        self.current.switch(on)

    def _set_ovp(self, on: bool) -> None:
        self.current.ovp_on = on

    def _clear_ovp(self) -> None:
        """The output returns to what it was. Source: sister."""
        self.current.clear("ovp", restore=True)

    def _three(self, name: Quantity) -> SetHandler:
        """`APP:VOLT 3.3,5,0`: all outputs at once, or none."""

        def store(call: Call) -> None:
            values = [self.value(call, output, name) for output in self.outputs]
            call.params.end()
            for output, value in zip(self.outputs, values, strict=True):
                output.program(**{name: value})

        return store

    def _measured(self, column: Literal[0, 1]) -> QueryHandler:
        one = self.measured(column)

        def show(call: Call) -> str:
            if not call.params.peek_word("ALL"):
                return one(call)
            call.params.end()
            return ", ".join(self.shown(self.measure(output)[column]) for output in self.outputs)

        return show

    def _set_remote(self, remote: bool) -> SetHandler:
        def run() -> None:
            self.remote = remote

        return action(run)

    def commands(self) -> Sequence[Command]:
        all_on = self.switch(self._switch_all, lambda: any(output.on for output in self.outputs))
        return [
            *self.selecting(),
            Command("[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]", *self.level("volts")),
            Command("[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]", *self.level("amps")),
            Command("[SOURce:]APPly:VOLTage[:LEVel][:IMMediate][:AMPLitude]", self._three("volts")),
            Command("[SOURce:]APPly:CURRent[:LEVel][:IMMediate][:AMPLitude]", self._three("amps")),
            Command("[SOURce:]VOLTage:PROTection[:LEVel]", *self.level("ovp")),
            Command("[SOURce:]VOLTage:PROTection:STATe", *self.switch(self._set_ovp, lambda: self.current.ovp_on)),
            Command(
                "[SOURce:]VOLTage:PROTection:TRIPed", query=answer(lambda: str(int(self.current.tripped == "ovp")))
            ),
            Command("[SOURce:]VOLTage:PROTection:CLEar", action(self._clear_ovp)),
            Command("[SOURce:]OUTPut[:STATe]", *all_on),
            Command("[SOURce:]CHANnel:OUTPut[:STATe]", *self.switch(self._switch_one, lambda: self.current.on)),
            Command("MEASure[:SCALar]:VOLTage[:DC]", query=self._measured(0)),
            Command("MEASure[:SCALar]:CURRent[:DC]", query=self._measured(1)),
            Command("SYSTem:ERRor[:NEXT]", query=answer(self.next_error)),
            Command("SYSTem:VERSion", query=answer(lambda: "1999.0")),
            Command("SYSTem:REMote", self._set_remote(True)),
            Command("SYSTem:RWLock", self._set_remote(True)),
            Command("SYSTem:LOCal", self._set_remote(False)),
        ]
