"""The Keysight N6705C with two N6762A modules and an N6731B: channel lists, a strict parser, LIST on a 1 us grid.

Sources: the N6705 and N6700 guides as their readers repeat them ("guide"), a public example of the N6900 guide
("sister": clearing a protection restores the output), notes of somebody who ran N6900 and N7900 ("field"), recalled
data sheet values and guesses, each marked. No public driver has judged it (pymeasure has
none; qcodes has one for the N6705B, which was not run). Quirks kept on purpose: one malformed header
voids its whole line; `VOLT 2.5;:VOLT?` answers the old set-point; regulation is read from STAT:OPER:COND? (1 CV,
2 CC, 4 off: not the order of the E36300); the N6731B has no LIST without option 054, and what needs a missing option
is answered by silence and +302; an error text may contain `;`. Not simulated: ARB, digitiser, data log, slew,
coupled protection, watchdog, the 5 s of *TST?, LIST:STEP ONCE; no step is shorter than our clock can play (some
0.1 ms), however short its dwell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from rig.sim.psu.channel_lists import ChannelListInstrument, nr3
from rig.sim.psu.levels import Pair
from rig.sim.psu.output import Output, OutputSpec, Quantity, Rail, Span
from rig.sim.psu.parser import Call, Command, Params, QueryHandler, SetHandler, answer, units
from rig.sim.psu.status import TEXTS, ScpiError
from rig.sim.psu.transient import Transients

_MOST_POINTS = 512  # Source: guide
_OCP_DELAY = Span(0.0, 0.255, 0.02, 0.001)  # recalled


class _Dwell(Span):
    """0 to 262.144 s, in steps of 1 us up to 0.262144 s (guide) and of 1 ms above (guess)."""

    def take(self, value: float) -> float:
        return super().take(value) if value <= 0.262144 else replace(Span(*_span(self)), step=0.001).take(value)


def _span(span: Span) -> tuple[float, float, float, float]:
    return span.low, span.high, span.default, span.step


_DWELL = _Dwell(0.0, 262.144, 0.001, 1e-6)


def _module(volts: float, amps: float, ovp: float, volts_step: float, amps_step: float) -> OutputSpec:
    """An output by its module's ratings. Maxima of 102 %: recalled; *RST at 0 V and 1 % of the current: guess."""
    return OutputSpec(
        rating=f"{volts:g}V/{amps:g}A",
        volts=Span(0.0, round(volts * 1.02, 4), 0.0, volts_step),
        amps=Span(0.0, round(amps * 1.02, 4), round(round(amps / 100 / amps_step) * amps_step, 9), amps_step),
        ovp=Span(0.0, ovp, ovp, 0.001),
        ocp=None,
        ocp_delay=_OCP_DELAY,
        ovp_on_at_reset=True,  # there is no switch for it
    )


class KeysightN6705C(ChannelListInstrument):
    """Channels 1 and 2: N6762A (50 V/3 A, precision); channel 3: N6731B (5 V/10 A). See the module for quirks."""

    idn = "Keysight Technologies,N6705C,{serial},E.02.09"  # guess: the firmware field
    dialect = "keysight-n6700"
    modules = ("N6762A", "N6762A", "N6731B")
    with_list = (1, 2)
    # Ratings: data sheet; OVP and steps: recalled or guess
    specs = (
        _module(50.0, 3.0, 55.0, 0.001, 0.0001),
        _module(50.0, 3.0, 55.0, 0.001, 0.0001),
        _module(5.0, 10.0, 7.5, 0.0035, 0.007),
    )
    names = ((), (), ())
    error_format = '{code:+d},"{text}"'
    error_texts: ClassVar[Mapping[int, str]] = {**TEXTS, -113: "Undefined header;keyword cannot be found"}
    typical_latency_s = 0.001  # Source: guide, "command processing <= 1 ms"; recalled
    typical_switch_on_s = 0.02  # guess

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        self._transients = Transients(self, _DWELL, _MOST_POINTS)
        self._before: dict[int, dict[str, float]] = {}
        super().__init__(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)

    def reset(self) -> None:
        super().reset()
        self._transients.reset()

    def trigger(self) -> None:
        self._transients.trigger()

    # The strict parser

    def execute(self, message: str, pause: Callable[[], None] = lambda: None) -> str | None:
        """As any supply, but a line with a malformed unit is not begun, and queries answer what was set before it."""
        try:
            for unit, header in units(message):
                command, _ = self._tree.find(header)
                if (command.query if unit.query else command.set) is None:
                    raise ScpiError(-113)
        except ScpiError as error:
            self.error(error.code)
            return None
        with self.lock:
            self._before = {output.number: {"volts": output.volts, "amps": output.amps} for output in self.outputs}
        return super().execute(message, pause)

    def setting(self, output: Output, name: Quantity) -> float:
        return self._before.get(output.number, {}).get(name, float(getattr(output, name)))

    # Handlers

    def _option_054(self, command: Command) -> Command:
        """`command`, refused for a channel whose module cannot play lists."""

        def check(call: Call) -> None:
            channels = Params(call.params.texts).channel_list(len(self.outputs)) or [self.selected]
            if not set(channels) <= set(self.with_list):
                raise ScpiError(302)

        def store(call: Call) -> None:
            check(call)
            if command.set:
                command.set(call)

        def show(call: Call) -> str:
            check(call)
            return command.query(call) if command.query else ""

        return Command(command.pattern, store if command.set else None, show if command.query else None)

    def _operation(self, output: Output) -> str:
        """1 CV, 2 CC, 4 off, 16 a transient waits for its trigger, 64 it runs. Source: guide."""
        mode = {"cv": 1, "cc": 2}.get(output.sense()[2], 4)
        return str(mode | (16 if self._transients.waiting(output) else 0) | (64 if output.playback else 0))

    def _questionable(self, output: Output) -> str:
        """1 over-voltage, 2 over-current. Source: guide."""
        return str({"ovp": 1, "ocp": 2}.get(output.tripped or "", 0))

    def _set_ocp(self, output: Output, on: bool) -> None:
        output.ocp_on = on

    def _clear(self, output: Output) -> None:
        """The output returns to what it was before the trip. Source: sister."""
        output.clear("ovp", "ocp", restore=True)

    def _measured(self, what: Literal["volts", "amps", "watts"]) -> QueryHandler:
        def value(output: Output) -> str:
            volts, amps, _ = self.measure(output)
            return nr3({"volts": volts, "amps": amps, "watts": volts * amps}[what])

        return self.each(value)

    def commands(self) -> Sequence[Command]:
        clear: SetHandler = self.on_each(self._clear)
        ocp: Pair = self.switch(self._set_ocp, lambda output: output.ocp_on)
        played = [
            self._option_054(command) if "LIST" in command.pattern else command
            for command in self._transients.commands()
        ]
        return [
            Command("[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]", *self.level("volts")),
            Command("[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]", *self.level("amps")),
            Command("[SOURce:]VOLTage:PROTection[:LEVel]", *self.level("ovp")),
            Command("[SOURce:]CURRent:PROTection:STATe", *ocp),
            Command("[SOURce:]CURRent:PROTection:DELay[:TIME]", *self.level("ocp_delay")),
            Command("OUTPut[:STATe]", *self.switch(Output.switch, lambda output: output.on)),
            Command("OUTPut:PROTection:CLEar", clear),
            Command("MEASure[:SCALar]:VOLTage[:DC]", query=self._measured("volts")),
            Command("MEASure[:SCALar]:CURRent[:DC]", query=self._measured("amps")),
            Command("MEASure[:SCALar]:POWer[:DC]", query=self._measured("watts")),
            Command("STATus:OPERation:CONDition", query=self.each(self._operation)),
            Command("STATus:QUEStionable:CONDition", query=self.each(self._questionable)),
            Command("SYSTem:CHANnel[:COUNt]", query=answer(lambda: str(len(self.specs)))),
            Command("SYSTem:CHANnel:MODel", query=self.each(lambda output: self.modules[output.number - 1])),
            Command("SYSTem:CHANnel:OPTion", query=self.each(lambda output: "0")),
            Command("SYSTem:ERRor[:NEXT]", query=answer(self.next_error)),
            Command("SYSTem:VERSion", query=answer(lambda: "2000.0")),
            *played,
        ]
