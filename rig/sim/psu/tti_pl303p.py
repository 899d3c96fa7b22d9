"""The Aim-TTi PL303-P: no SCPI; the output's number is in the mnemonic (`V1 3.3`), answers are tagged or suffixed.

Sources: the PL-P manual, issue 18, as public drivers repeat it ("manual"), a recorded session with a PL-P
("transcript"), notes on a CPX400DP and a PLH250-P of the same family ("family"), and guesses, each marked.
Quirks kept on purpose: `V1 3.300`, `0.080A`, but a bare `3.600` for OVP; LSR1? tells what has been the case since it
was last read, and reading clears it; no error texts, only *ESR?, EER? and QER?, and a value out of range is dropped
without a word; protections are always on; IRANGE1 only with the output off; TRIPRST clears, the output stays off.
Not simulated: memories, the waiting of the verified forms (`V1V`), IFLOCK's lock, GPIB.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Literal

from rig.sim.psu.instrument import Instrument
from rig.sim.psu.output import Output, OutputSpec, Rail, Span
from rig.sim.psu.parser import AMPS, VOLTS, Call, Command, QueryHandler, SetHandler, action, answer, integer
from rig.sim.psu.status import ScpiError

_SPEC = OutputSpec(
    "30V/3A",
    Span(0.0, 30.0, 1.0, 0.001),  # Source: manual; after *RST: guess
    Span(0.0, 3.0, 1.0, 0.001),  # Source: manual; after *RST: guess
    # 105 % of the rating, as the PLH250-P's 262.5 V. Source: family
    Span(0.1, 31.5, 31.5, 0.001),
    Span(0.01, 3.15, 3.15, 0.0001),
    Span(0.5, 0.5, 0.5, 1.0),  # OCP is done in firmware, after about 500 ms. Source: family
    True,
)
_LOW, _HIGH = 1, 2  # IRANGE1. Source: manual
_LOW_AMPS = Span(0.0, 0.5, 0.5, 0.0001)  # Source: manual
CV, CC, OVP, OCP = 1, 2, 4, 8  # bits of LSR1?. Source: manual
_COMMANDS_DENIED = {-221: 104}  # EER? of an execution error; all others are 100, out of range. Source: manual


class TTiPL303P(Instrument):
    """30 V/3 A. See the module for sources and quirks."""

    idn = "THURLBY THANDAR, PL303-P, {serial}, 3.02-4.01"  # Source: a public configuration file with a real one
    dialect = "aimtti-pl-p"
    specs = (_SPEC,)
    board_outputs = (1,)
    error_format = ""  # there is no error queue
    common = ("*IDN", "*RST", "*CLS", "*OPC", "*ESR", "*ESE", "*SRE", "*STB", "*TST", "*WAI", "*TRG")
    typical_latency_s = 0.01  # guess
    meter_period_s = 0.25  # Source: family, "4 Hz"
    most_clients = 1  # Source: family, measured
    line_end = "\r\n"  # recalled; LF alone is read just as well

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        self.limits_seen = 0  # LSR1
        # Whether a limit is noted only when it begins (True), or as long as it lasts. Which of the two: guess, so
        # that tests try both.
        self.notes_only_changes = False
        self._limit = 0
        self._limits_enabled = 0
        self._execution_error = 0
        self._range = _HIGH
        self._delta = {"volts": 0.01, "amps": 0.01}
        super().__init__(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._range = _HIGH
        self.outputs[0].ocp_on = True

    # Errors and events

    def error(self, code: int, culprit: str = "") -> None:
        with self.lock:
            self.status.error(code)
            if code <= -200:
                self._execution_error = _COMMANDS_DENIED.get(code, 100)

    def _take_execution_error(self) -> str:
        code, self._execution_error = self._execution_error, 0
        return str(code)

    def _watches(self, output: Output) -> bool:
        """As long as it is on: LSR1 misses nothing, whatever is armed."""
        return output.on

    def _guard(self, now: float, *, every: bool = False) -> None:
        output = self.outputs[0]
        tripped = output.tripped
        super()._guard(now, every=every)
        if output.on and not output.armed:  # the guard has not looked
            with contextlib.suppress(ScpiError):
                output.sense()
        limit = {"cv": CV, "cc": CC}.get(output.seen[2], 0) if output.on else 0
        if not self.notes_only_changes or limit != self._limit:
            self.limits_seen |= limit
        self._limit = limit
        if output.tripped and not tripped:
            self.limits_seen |= OVP if output.tripped == "ovp" else OCP

    def _limits_text(self, call: Call) -> str:
        self._own(call)
        call.params.end()
        seen, self.limits_seen = self.limits_seen, 0
        return str(seen)

    def _status_byte(self) -> str:
        """Bit 0: an enabled limit event; the others as everywhere. Source: manual."""
        return str((self.status.byte() & ~4) | (1 if self.limits_seen & self._limits_enabled else 0))

    def _enable_limits(self, call: Call) -> None:
        self._own(call)
        value = call.params.integer(0, 255)
        call.params.end()
        self._limits_enabled = value

    def _enabled_limits(self, call: Call) -> str:
        self._own(call)
        call.params.end()
        return str(self._limits_enabled)

    # Levels

    def _own(self, call: Call) -> Output:
        """The output whose number is in the mnemonic. Raises -113, a command error, for one that is not there."""
        if call.suffixes[0] != 1:
            raise ScpiError(-113)
        return self.outputs[0]

    def _span(self, output: Output, name: Literal["volts", "amps"]) -> Span:
        if name == "volts":
            return output.spec.volts
        return output.spec.amps if self._range == _HIGH else _LOW_AMPS

    def _amps_text(self, amps: float) -> str:
        return f"{amps:.3f}" if self._range == _HIGH else f"{amps:.4f}"

    def _text(self, name: Literal["volts", "amps"], value: float) -> str:
        return f"{value:.3f}" if name == "volts" else self._amps_text(value)

    def _program(self, output: Output, name: Literal["volts", "amps"], value: float) -> None:
        taken = self._span(output, name).take(round(value, 9))
        output.program(**{name: taken})

    def _level(self, name: Literal["volts", "amps"]) -> tuple[SetHandler, QueryHandler]:
        tag = "V" if name == "volts" else "I"

        def store(call: Call) -> None:
            output = self._own(call)
            value = call.params.number(VOLTS if name == "volts" else AMPS)
            call.params.end()
            self._program(output, name, value)

        def show(call: Call) -> str:
            output = self._own(call)
            call.params.end()
            return f"{tag}1 {self._text(name, getattr(output, name))}"

        return store, show

    def _measured(self, name: Literal["volts", "amps"]) -> QueryHandler:
        def show(call: Call) -> str:
            output = self._own(call)
            call.params.end()
            volts, amps, _ = self.measure(output)
            return f"{volts:.3f}V" if name == "volts" else f"{self._amps_text(amps)}A"

        return show

    def _step(self, name: Literal["volts", "amps"], sign: int) -> SetHandler:
        def run(call: Call) -> None:
            output = self._own(call)
            call.params.end()
            self._program(output, name, getattr(output, name) + sign * self._delta[name])

        return run

    def _step_size(self, name: Literal["volts", "amps"]) -> tuple[SetHandler, QueryHandler]:
        def store(call: Call) -> None:
            span = self._span(self._own(call), name)
            value = span.take(call.params.number(VOLTS if name == "volts" else AMPS))
            call.params.end()
            self._delta[name] = value

        def show(call: Call) -> str:
            self._own(call)
            call.params.end()
            return f"DELTA{'V' if name == 'volts' else 'I'}1 {self._text(name, self._delta[name])}"

        return store, show

    def _protection(self, name: Literal["ovp", "ocp"]) -> tuple[SetHandler, QueryHandler]:
        """A bare number, with three digits for volts and four for amps. Source: transcript."""

        def store(call: Call) -> None:
            output = self._own(call)
            span = output.spec.ovp if name == "ovp" else output.spec.ocp
            assert span is not None
            value = span.take(call.params.number(VOLTS if name == "ovp" else AMPS))
            call.params.end()
            setattr(output, name, value)

        def show(call: Call) -> str:
            output = self._own(call)
            call.params.end()
            return f"{output.ovp:.3f}" if name == "ovp" else f"{output.ocp:.4f}"

        return store, show

    # Switching

    def _output(self, call: Call) -> None:
        output = self._own(call)
        on = call.params.integer(0, 1) == 1
        call.params.end()
        output.switch(on)

    def _output_state(self, call: Call) -> str:
        output = self._own(call)
        call.params.end()
        return str(int(output.on))

    def _all(self, value: int) -> None:
        for output in self.outputs:
            output.switch(value == 1)

    def _set_range(self, call: Call) -> None:
        """A limit above the low range becomes its highest value (guess)."""
        output = self._own(call)
        value = call.params.integer(_LOW, _HIGH)
        call.params.end()
        if output.on:
            raise ScpiError(-221)
        self._range = value
        output.program(amps=min(output.amps, self._span(output, "amps").high))

    def _show_range(self, call: Call) -> str:
        self._own(call)
        call.params.end()
        return str(self._range)

    def commands(self) -> Sequence[Command]:
        volts, set_volts = self._level("volts"), self._level("volts")[0]
        return [
            Command("V#", *volts),
            Command("V#V", set_volts),
            Command("I#", *self._level("amps")),
            Command("V#O", query=self._measured("volts")),
            Command("I#O", query=self._measured("amps")),
            Command("DELTAV#", *self._step_size("volts")),
            Command("DELTAI#", *self._step_size("amps")),
            Command("INCV#", self._step("volts", 1)),
            Command("INCV#V", self._step("volts", 1)),
            Command("DECV#", self._step("volts", -1)),
            Command("DECV#V", self._step("volts", -1)),
            Command("INCI#", self._step("amps", 1)),
            Command("DECI#", self._step("amps", -1)),
            Command("OVP#", *self._protection("ovp")),
            Command("OCP#", *self._protection("ocp")),
            Command("OP#", self._output, self._output_state),
            Command("OPALL", integer(self._all, 0, 1)),
            Command("IRANGE#", self._set_range, self._show_range),
            Command("TRIPRST", action(lambda: self.outputs[0].clear("ovp", "ocp", restore=False))),
            Command("LSR#", query=self._limits_text),
            Command("LSE#", self._enable_limits, self._enabled_limits),
            Command("EER", query=answer(self._take_execution_error)),
            Command("QER", query=answer(lambda: "0")),
            Command("LOCAL", action(lambda: None)),
            Command("IFLOCK", query=answer(lambda: "0")),
            Command("*STB", query=answer(self._status_byte)),
        ]
