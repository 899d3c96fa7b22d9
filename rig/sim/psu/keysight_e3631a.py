"""The Keysight (HP, Agilent) E3631A: three outputs behind one switch, no over-voltage and no over-current protection.

Sources: the E3631A user's guide as its readers repeat it ("guide"), notes of somebody who ran its sister ("field"),
and guesses, each marked. Quirks kept on purpose: OUTP switches all three outputs and takes no channel list; *IDN?
tells no serial number; a refused query leaves -420 in the queue one command late (field); over RS-232
(`over_rs232`) nothing is carried out before SYST:REM (550), over GPIB SYST:REM itself is the mistake (514).
Here it is behind a socket, as behind a GPIB or RS-232 gateway. Not simulated: display, calibration, memories.
"""

from __future__ import annotations

from collections.abc import Sequence

from rig.sim.psu.output import Output, OutputSpec, Quantity, Rail, Span
from rig.sim.psu.parser import PLAIN, SECONDS, Call, Command, SetHandler, Unit, action, answer
from rig.sim.psu.selected import SelectedInstrument
from rig.sim.psu.status import ScpiError

_NO_DELAY = Span(0.0, 0.0, 0.0, 1.0)
_TRIGGER_DELAY = Span(0.0, 3600.0, 0.0, 0.001)  # Source: guide; the grid is a guess


def _channel(rating: str, volts: float, amps: float, volts_step: float, amps_step: float) -> OutputSpec:
    """Maxima of 103 % and *RST at 0 V and the rated current: guide, table 4-1. Steps: data sheet, recalled."""
    most = round(volts * 1.03, 4)
    span = Span(min(0.0, most), max(0.0, most), 0.0, volts_step)
    return OutputSpec(rating, span, Span(0.0, round(amps * 1.03, 4), amps, amps_step), None, None, _NO_DELAY, False)


class KeysightE3631A(SelectedInstrument):
    """6 V/5 A, 25 V/1 A and -25 V/1 A. See the module for sources and quirks."""

    idn = "HEWLETT-PACKARD,E3631A,0,2.1-5.0-1.0"
    dialect = "keysight-e3631a"
    specs = (
        _channel("6V/5A", 6.0, 5.0, 0.0005, 0.0005),
        _channel("25V/1A", 25.0, 1.0, 0.0015, 0.0001),
        _channel("-25V/1A", -25.0, 1.0, 0.0015, 0.0001),
    )
    board_outputs = (1,)  # they switch together: one board an instrument
    names = (("P6V", "OUTP1"), ("P25V", "OUTP2"), ("N25V", "OUTP3"))
    selection = "{name}"
    error_format = '{code:+d},"{text}"'
    typical_latency_s = 0.05  # Source: guide, "programming < 50 ms"
    meter_period_s = 0.1  # Source: guide, "readback < 100 ms"

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        self.over_rs232 = False
        self.remote = False
        self._refused_query = False
        self._forget_triggers()
        super().__init__(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)

    def reset(self) -> None:
        super().reset()
        self._forget_triggers()

    def _forget_triggers(self) -> None:
        self._triggered: dict[tuple[int, str], float] = {}
        self._source, self._delay, self._armed, self._tracking = "BUS", 0.0, False, False

    def shown(self, value: float, name: Quantity = "volts") -> str:
        return f"{value:+.8E}"

    def _run(self, unit: Unit, header: str) -> str | None:
        if self._refused_query:
            self._refused_query = False
            self.error(-420)
        if self.over_rs232 and not self.remote and not header.startswith(("SYST", "*IDN")):
            self._refused_query = unit.query
            raise ScpiError(550)
        try:
            return super()._run(unit, header)
        except ScpiError:
            self._refused_query = unit.query
            raise

    # Handlers

    def _switch_all(self, on: bool) -> None:
        for output in self.outputs:
            output.switch(on)

    def _apply(self, call: Call) -> None:
        """`P6V[,volts[,amps]]` selects the output too."""
        output = self.named(call) or self.current
        volts = self.value(call, output, "volts") if len(call.params) else None
        amps = self.value(call, output, "amps") if len(call.params) else None
        call.params.end()
        self.selected = output.number
        output.program(volts, amps)

    def _applied(self, call: Call) -> str:
        """`"6.000000,5.000000"`, with the quotes. Source: guide."""
        output = self.named(call) or self.current
        call.params.end()
        return f'"{output.volts:.6f},{output.amps:.6f}"'

    def _track(self, on: bool) -> None:
        """N25V takes P25V's volts once, here; that it follows each later setting is not simulated."""
        self._tracking = on
        if on:
            self.outputs[2].program(volts=-self.outputs[1].volts)

    def _remote(self, remote: bool) -> SetHandler:
        def run() -> None:
            if not self.over_rs232:
                raise ScpiError(514)
            self.remote = remote

        return action(run)

    # Triggers

    def _store_triggered(self, name: str) -> SetHandler:
        def store(call: Call) -> None:
            value = self.value(call, self.current, "volts" if name == "volts" else "amps")
            call.params.end()
            self._triggered[self.selected, name] = value

        return store

    def _show_triggered(self, name: str) -> str:
        return self.shown(self._triggered.get((self.selected, name), getattr(self.current, name)))

    def _initiate(self) -> None:
        self._armed = True
        if self._source == "IMM":
            self.trigger()

    def trigger(self) -> None:
        if not self._armed:
            raise ScpiError(-211)
        self._armed = False
        if self._delay:  # what is set now stands for the delay, then the triggered values come
            for output in self.outputs:
                self._after_delay(output)
            return
        for output in self.outputs:
            output.program(*self._levels(output))

    def _levels(self, output: Output) -> tuple[float, float]:
        volts = self._triggered.get((output.number, "volts"), output.volts)
        return volts, self._triggered.get((output.number, "amps"), output.amps)

    def _after_delay(self, output: Output) -> None:
        levels = self._levels(output)
        self.play(output, [(output.volts, output.amps, self._delay)], 1, lambda done: done.program(*levels))

    def _set_source(self, call: Call) -> None:
        word = call.params.word("BUS", "IMMediate")
        call.params.end()
        self._source = word[:3]

    def _set_delay(self, call: Call) -> None:
        delay = _TRIGGER_DELAY.take(call.params.number({**PLAIN, **SECONDS}, _TRIGGER_DELAY.words))
        call.params.end()
        self._delay = delay

    def commands(self) -> Sequence[Command]:
        triggered_volts = answer(lambda: self._show_triggered("volts"))
        triggered_amps = answer(lambda: self._show_triggered("amps"))
        return [
            *self.selecting(),
            Command("APPLy", self._apply, self._applied),
            Command("[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]", *self.level("volts")),
            Command("[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]", *self.level("amps")),
            Command(
                "[SOURce:]VOLTage[:LEVel]:TRIGgered[:AMPLitude]", self._store_triggered("volts"), triggered_volts
            ),
            Command("[SOURce:]CURRent[:LEVel]:TRIGgered[:AMPLitude]", self._store_triggered("amps"), triggered_amps),
            Command("OUTPut[:STATe]", *self.switch(self._switch_all, lambda: self.current.on)),
            Command("OUTPut:TRACk[:STATe]", *self.switch(self._track, lambda: self._tracking)),
            Command("MEASure[:SCALar][:VOLTage][:DC]", query=self.measured(0)),
            Command("MEASure[:SCALar]:CURRent[:DC]", query=self.measured(1)),
            Command("STATus:QUEStionable:INSTrument:ISUMmary#:CONDition", query=self.regulation),
            Command("TRIGger[:SEQuence]:SOURce", self._set_source, answer(lambda: self._source)),
            Command("TRIGger[:SEQuence]:DELay", self._set_delay, answer(lambda: self.shown(self._delay))),
            Command("INITiate[:IMMediate]", action(self._initiate)),
            Command("SYSTem:ERRor[:NEXT]", query=answer(self.next_error)),
            Command("SYSTem:VERSion", query=answer(lambda: "1995.0")),
            Command("SYSTem:REMote", self._remote(True)),
            Command("SYSTem:RWLock", self._remote(True)),
            Command("SYSTem:LOCal", self._remote(False)),
        ]
