"""The Rohde & Schwarz (Hameg) HMP4040: four outputs with a switch each and a master switch, an electronic fuse, ARB.

Sources: the maker's open instrument driver hmp4000 ("maker's driver": command names, 128 ARB points, 255
repetitions), programs of people who run one ("field"), recalled data sheet values and guesses, each marked. Quirks
kept on purpose: OUTP:SEL arms a channel and OUTP:GEN switches all armed ones; OUTP 1 does both; `INST?` answers
OUTP1; every command error is -100; a blown fuse stays blown until its output is switched on again; current steps
are 0.2 mA below 1 A and 1 mA above. Not simulated: tracking, memories of the ARB other than one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rig.sim.psu.output import OutputSpec, Quantity, Rail, Span
from rig.sim.psu.parser import AMPS, PLAIN, SECONDS, VOLTS, Call, Command, Params, SetHandler, action, answer, integer
from rig.sim.psu.selected import SelectedInstrument
from rig.sim.psu.status import TEXTS, ScpiError

_FUSE_DELAY = Span(0.0, 0.25, 0.0, 0.001)  # 0-250 ms: field; after *RST: guess
_DWELL = Span(0.01, 60.0, 0.01, 0.01)  # recalled; pymeasure lets through 0.06-10 s only
_MOST_POINTS = 128
_MOST_REPETITIONS = 255  # 0: for ever


class _FineAmps(Span):
    """0.2 mA below 1 A, 1 mA above. Recalled: data sheet of the HMP4030/4040."""

    def take(self, value: float) -> float:
        coarse = super().take(value)
        return round(round(value / 0.0002) * 0.0002, 9) if value < 1.0 else coarse


def _channel() -> OutputSpec:
    """32.05 V and 10.01 A: recalled. The least current 0 and the OVP range up to 33 V: guess."""
    return OutputSpec(
        rating="32V/10A",
        volts=Span(0.0, 32.05, 0.0, 0.001),
        amps=_FineAmps(0.0, 10.01, 0.1, 0.001),
        ovp=Span(0.0, 33.0, 33.0, 0.01),
        ocp=None,  # the fuse blows at the current limit
        ocp_delay=_FUSE_DELAY,
        ovp_on_at_reset=True,  # there is no switch for it
    )


class RsHmp4040(SelectedInstrument):
    """Four times 32 V/10 A. See the module for sources and quirks."""

    idn = "ROHDE&SCHWARZ,HMP4040,{serial},HW50010003/SW2.62"
    dialect = "rs-hmp"
    specs = (_channel(), _channel(), _channel(), _channel())
    board_outputs = (1, 2, 3, 4)
    names = tuple((f"OUTPut{n}", f"OUT{n}") for n in (1, 2, 3, 4))
    selection = "OUTP{number}"  # Source: field
    error_format = '{code},"{text}"'
    error_texts: ClassVar = {**TEXTS, -100: "Command error"}
    typical_latency_s = 0.03  # guess
    typical_switch_on_s = 0.05  # guess: relay and soft start
    meter_period_s = 0.1  # guess

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        self._forget()
        super().__init__(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)

    def _forget(self) -> None:
        self.master = False
        self.armed = [False] * len(self.specs)
        self._linked: set[tuple[int, int]] = set()
        self._ovp_mode = ["MEAS"] * len(self.specs)
        self._steps = {"volts": 1.0, "amps": 0.1}
        self._arb: list[tuple[float, float, float]] = []
        self._repetitions = 0
        self._transferred: dict[int, list[tuple[float, float, float]]] = {}

    def reset(self) -> None:
        super().reset()
        self._forget()

    def shown(self, value: float, name: Quantity = "volts") -> str:
        return f"{value:.4f}" if name == "amps" else f"{value:.3f}"

    def error(self, code: int, culprit: str = "") -> None:
        super().error(-100 if -200 < code <= -100 else code, culprit)

    def _guard(self, now: float, *, every: bool = False) -> None:
        super()._guard(now, every=every)
        tripped = {output.number: output.tripped for output in self.outputs if output.tripped}
        fallen = {number for number in tripped if self.armed[number - 1]}
        fallen |= {linked for blown, linked in self._linked if blown in fallen and tripped[blown] == "ocp"}
        for number in fallen:
            self.armed[number - 1] = False
        if fallen:  # only now: what tripped with it must not be taken for switched on anew
            self._follow()

    # The two stages of an output

    def _follow(self) -> None:
        """Each output is on if it is armed and the master switch is on."""
        for output, armed in zip(self.outputs, self.armed, strict=True):
            on = armed and self.master
            if on and not output.on and output.tripped == "ocp":
                output.clear("ocp", restore=False)  # a new fuse. Source: field
            output.switch(on)

    def _arm(self, on: bool) -> None:
        if on and self.current.tripped == "ovp":
            raise ScpiError(-221)
        self.armed[self.selected - 1] = on
        self._follow()

    def _set_master(self, on: bool) -> None:
        self.master = on
        self._follow()

    def _both(self, on: bool) -> None:
        """OUTP: on arms the channel and switches the master on (field), off disarms it (guess)."""
        self._arm(on)
        if on:
            self._set_master(True)

    # Set-points: a step up or down, and both at once

    def _level_or_step(self, name: Quantity) -> tuple[SetHandler, Callable[[Call], str]]:
        store, show = self.level(name)

        def set_(call: Call) -> None:
            word = call.params.peek_word("UP", "DOWN")
            if word is None:
                store(call)
                return
            call.params.end()
            step = self._steps[name] * (1 if word == "UP" else -1)
            span = self.current.spec.span(name)
            new = min(max(getattr(self.current, name) + step, span.low), span.high)
            self.current.program(**{name: span.take(new)})

        return set_, show

    def _step(self, name: Quantity) -> tuple[SetHandler, Callable[[Call], str]]:
        def store(call: Call) -> None:
            value = self.value(call, self.current, name)
            call.params.end()
            self._steps[name] = value

        return store, answer(lambda: self.shown(self._steps[name], name))

    def _apply(self, call: Call) -> None:
        """`3.3,0.5`, also as one quoted string. Source: field."""
        params = call.params
        text = params.quoted()
        if text is not None:
            params.end()
            params = Params([part.strip() for part in text.split(",")])
        inner = Call(params)
        volts = self.value(inner, self.current, "volts")
        amps = self.value(inner, self.current, "amps") if len(params) else None
        params.end()
        self.current.program(volts, amps)

    # Fuse and OVP

    def _set_fuse(self, on: bool) -> None:
        self.current.ocp_on = on

    def _fuse_delay(self, call: Call) -> None:
        """In milliseconds. Source: field."""
        delay = _FUSE_DELAY.take(call.params.number(PLAIN, {"MINimum": 0.0, "MAXimum": 250.0}) / 1000)
        call.params.end()
        self.current.ocp_delay = delay

    def _link(self, link: bool) -> SetHandler:
        def run(number: int) -> None:
            (self._linked.add if link else self._linked.discard)((self.selected, number))

        return integer(run, 1, len(self.specs))

    def _ovp_mode_set(self, call: Call) -> None:
        word = call.params.word("MEASured", "PROTected")
        call.params.end()
        self._ovp_mode[self.selected - 1] = word[:4]

    def _clear_ovp(self) -> None:
        self.current.clear("ovp", restore=False)

    # ARB

    def _arb_data(self, call: Call) -> None:
        """Triplets of volts, amps and seconds."""
        points: list[tuple[float, float, float]] = []
        while len(call.params) or not points:
            volts = self.specs[0].volts.take(call.params.number(VOLTS))
            amps = self.specs[0].amps.take(call.params.number(AMPS))
            points.append((volts, amps, _DWELL.take(call.params.number(SECONDS))))
        if len(points) > _MOST_POINTS:
            raise ScpiError(-223)
        self._arb = points

    def _arb_transfer(self, number: int) -> None:
        self._transferred[number] = list(self._arb)

    def _arb_clear(self, number: int) -> None:
        self._transferred.pop(number, None)

    def _arb_start(self, number: int) -> None:
        """Afterwards the set-points hold again: guess."""
        steps = self._transferred.get(number)
        if not steps:
            raise ScpiError(-221)
        self.play(self.outputs[number - 1], steps, self._repetitions or None, lambda output: None)

    def _arb_stop(self, number: int) -> None:
        self.outputs[number - 1].play(None)

    def _set_repetitions(self, count: int) -> None:
        self._repetitions = count

    def commands(self) -> Sequence[Command]:
        def on_channel(run: Callable[[int], None]) -> SetHandler:
            return integer(run, 1, len(self.specs))

        def tripped(why: str) -> Callable[[Call], str]:
            return answer(lambda: str(int(self.current.tripped == why)))

        ignore = action(lambda: None)
        applied = answer(lambda: f"{self.current.volts:.3f}, {self.current.amps:.4f}")
        return [
            *self.selecting(),
            Command("APPLy", self._apply, applied),
            Command("[SOURce:]VOLTage[:LEVel][:IMMediate][:AMPLitude]", *self._level_or_step("volts")),
            Command("[SOURce:]CURRent[:LEVel][:IMMediate][:AMPLitude]", *self._level_or_step("amps")),
            Command("[SOURce:]VOLTage[:LEVel][:AMPLitude]:STEP[:INCRement]", *self._step("volts")),
            Command("[SOURce:]CURRent[:LEVel][:AMPLitude]:STEP[:INCRement]", *self._step("amps")),
            Command("[SOURce:]VOLTage:PROTection[:LEVel]", *self.level("ovp")),
            Command(
                "[SOURce:]VOLTage:PROTection:MODE",
                self._ovp_mode_set,
                answer(lambda: self._ovp_mode[self.selected - 1]),
            ),
            Command("[SOURce:]VOLTage:PROTection:TRIPped", query=tripped("ovp")),
            Command("[SOURce:]VOLTage:PROTection:CLEar", action(self._clear_ovp)),
            Command("FUSE[:STATe]", *self.switch(self._set_fuse, lambda: self.current.ocp_on)),
            Command("FUSE:DELay", self._fuse_delay, answer(lambda: f"{self.current.ocp_delay * 1000:.0f}")),
            Command("FUSE:LINK", self._link(True)),
            Command("FUSE:UNLink", self._link(False)),
            Command("FUSE:TRIPped", query=tripped("ocp")),
            Command("OUTPut[:STATe]", *self.switch(self._both, lambda: self.current.on)),
            Command("OUTPut:SELect", *self.switch(self._arm, lambda: self.armed[self.selected - 1])),
            Command("OUTPut:GENeral", *self.switch(self._set_master, lambda: self.master)),
            Command("MEASure[:SCALar][:VOLTage][:DC]", query=self.measured(0)),
            Command("MEASure[:SCALar]:CURRent[:DC]", query=self.measured(1)),
            Command("STATus:QUEStionable:INSTrument:ISUMmary#:CONDition", query=self.regulation),
            Command("ARBitrary:DATA", self._arb_data),
            Command(
                "ARBitrary:REPetitions",
                integer(self._set_repetitions, 0, _MOST_REPETITIONS),
                answer(lambda: str(self._repetitions)),
            ),
            Command("ARBitrary:TRANsfer", on_channel(self._arb_transfer)),
            Command("ARBitrary:STARt", on_channel(self._arb_start)),
            Command("ARBitrary:STOP", on_channel(self._arb_stop)),
            Command("ARBitrary:CLEar", on_channel(self._arb_clear)),
            Command("SYSTem:ERRor[:NEXT]", query=answer(self.next_error)),
            Command("SYSTem:VERSion", query=answer(lambda: "1999.0")),
            Command("SYSTem:BEEPer[:IMMediate]", ignore),
            Command("SYSTem:REMote", ignore),
            Command("SYSTem:LOCal", ignore),
            Command("SYSTem:RWLock", ignore),
            Command("SYSTem:MIX", ignore),
        ]
