"""What Siglent's SPD supplies share: `CH1:VOLT 3.3`, `OUTP CH1,ON`, states in one hexadecimal word.

Source: field notes of people who ran an SPD3303X-E ("bench"), the SPD3303X quick start EN_02A and the SPD1000X user
manual EN_03B as public drivers repeat them ("manual"), and guesses, each marked. Quirks kept on purpose: whether an
output is on stands only in SYST:STAT?; a query that does not exist is met with silence, and only then is an error
queued; there is neither *RST nor *CLS; error entries come in several shapes, by firmware. One client: reported,
recalled. Not simulated: memories, tracking (the outputs are always independent), what the waveform display shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from rig.sim.psu.instrument import Instrument
from rig.sim.psu.output import Output, Rail, Span
from rig.sim.psu.parser import AMPS, SECONDS, VOLTS, Call, Command, Params, QueryHandler, SetHandler, answer
from rig.sim.psu.status import DEPTH, TEXTS, ScpiError

Shape = Literal["quoted", "signed", "culprit", "old"]
# No error, and an error. Source: bench for the first three (one supply each), quick start for "old"
SHAPES: Mapping[Shape, tuple[str, str]] = {
    "quoted": ('0,"No error"', '{code},"{text}"'),
    "signed": ("+0, No error", "{code}, {text}"),
    "culprit": ("0,No error", "{code},{text},{culprit}"),
    "old": ("0  No Error", "{code}  {text}"),
}
TIMER_GROUPS = 5  # Source: manual
_LONGEST_STEP = 10000  # seconds; Source: pymeasure's driver


class SiglentSPD(Instrument):
    """Builds the command tree of this family; subclasses say what differs."""

    error_format = ""  # see `shape`
    common = ("*IDN",)
    most_clients = 1
    typical_latency_s = 0.02  # guess: reported to want 10-20 ms between commands
    meter_period_s = None  # not known
    default_shape: ClassVar[Shape]
    settable: ClassVar[Sequence[int]]  # outputs whose volts and amps can be set, read and measured
    status_bits: ClassVar[Mapping[int, tuple[int, int, int, int]]]  # by output: CC, on, timer, waveform display
    status_always = 0
    timer_complains = False  # TIME:SET queues -103 and is carried out all the same

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        self.shape: Shape = self.default_shape
        self._queue: deque[tuple[int, str]] = deque()
        self._waves: set[int] = set()
        self._timers: dict[int, dict[int, tuple[float, float, int]]] = {number: {} for number in self.settable}
        super().__init__(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)

    # Errors

    def error(self, code: int, culprit: str = "") -> None:
        with self.lock:
            if len(self._queue) < DEPTH:
                self._queue.append((code, culprit))

    def next_error(self) -> str:
        none, some = SHAPES[self.shape]
        if not self._queue:
            return none
        code, culprit = self._queue.popleft()
        return some.format(code=code, text=TEXTS[code], culprit=culprit)

    # Channels

    def _by_word(self, params: Params) -> Output:
        """The output named by a leading `CH1`, else the selected one."""
        word = params.peek_word(*(f"CH{output.number}" for output in self.outputs))
        return self.outputs[(int(word[2]) if word else self.selected) - 1]

    def _settable(self, output: Output) -> Output:
        """`output`; -113 and silence for a fixed one. Source: bench; which error it queues: guess."""
        if output.number not in self.settable:
            raise ScpiError(-113)
        return output

    def _by_suffix(self, call: Call) -> Output:
        number = call.suffixes[0]
        if number is None or not 1 <= number <= len(self.outputs):
            raise ScpiError(-113)
        return self._settable(self.outputs[number - 1])

    def _level(self, name: Literal["volts", "amps"]) -> tuple[SetHandler, QueryHandler]:
        def store(call: Call) -> None:
            output = self._by_suffix(call)
            value = call.params.number(VOLTS if name == "volts" else AMPS)
            call.params.end()
            output.program(**{name: value})

        def show(call: Call) -> str:
            output = self._by_suffix(call)
            call.params.end()
            return f"{getattr(output, name):.3f}"

        return store, show

    def _measured(self, column: Literal["volts", "amps", "watts"]) -> QueryHandler:
        def show(call: Call) -> str:
            output = self._settable(self._by_word(call.params))
            call.params.end()
            volts, amps, _ = self.measure(output)
            return f"{ {'volts': volts, 'amps': amps, 'watts': volts * amps}[column]:.3f}"

        return show

    # Switching

    def _onoff(self, params: Params) -> bool:
        on = params.word("ON", "OFF") == "ON"
        params.end()
        return on

    def _output(self, call: Call) -> None:
        output = self._by_word(call.params)
        output.switch(self._onoff(call.params))

    def _wave(self, call: Call) -> None:
        output = self._settable(self._by_word(call.params))
        (self._waves.add if self._onoff(call.params) else self._waves.discard)(output.number)

    def _select(self, call: Call) -> None:
        output = self._settable(self.outputs[int(call.params.word(*(f"CH{o.number}" for o in self.outputs))[2]) - 1])
        call.params.end()
        self.selected = output.number

    def _status_word(self) -> str:
        word = self.status_always
        for number, (cc, on, timer, wave) in self.status_bits.items():
            output = self.outputs[number - 1]
            word |= cc if output.sense()[2] == "cc" else 0
            word |= on if output.on else 0
            word |= timer if output.playback else 0
            word |= wave if number in self._waves else 0
        return f"0x{word:x}"

    # The timer: five steps of whole seconds

    def _timer_set(self, call: Call) -> None:
        """`CH1,2,2.5,0.5,1`. Part seconds are cut off (0.9 is 0). Source: bench."""
        output = self._settable(self._by_word(call.params))
        group = call.params.integer(1, TIMER_GROUPS)
        volts = output.spec.volts.take(call.params.number(VOLTS))
        amps = output.spec.amps.take(call.params.number(AMPS))
        seconds = Span(0, _LONGEST_STEP, 0, 1e-6).take(call.params.number(SECONDS))
        call.params.end()
        self._timers[output.number][group] = (volts, amps, int(seconds))
        if self.timer_complains:
            self.error(-103, "TIME:SET")

    def _timer_group(self, call: Call) -> str:
        """`2.50,0.50,1,`, the comma included. Source: bench."""
        output = self._settable(self._by_word(call.params))
        group = call.params.integer(1, TIMER_GROUPS)
        call.params.end()
        volts, amps, seconds = self._timers[output.number].get(group, (0.0, 0.0, 0))
        return f"{volts:.2f},{amps:.2f},{seconds},"

    def _timer(self, call: Call) -> None:
        """Plays the groups in order, those of 0 s left out, then goes back to the set-points (guess)."""
        output = self._settable(self._by_word(call.params))
        if not self._onoff(call.params):
            output.play(None)
            return
        groups = self._timers[output.number]
        steps = [(v, a, float(s)) for _, (v, a, s) in sorted(groups.items()) if s > 0]
        if steps:
            self.play(output, steps, 1, lambda done: None)

    def commands(self) -> Sequence[Command]:
        return [
            Command("INSTrument", self._select, answer(lambda: f"CH{self.selected}")),
            Command("CH#:VOLTage", *self._level("volts")),
            Command("CH#:CURRent", *self._level("amps")),
            Command("MEASure:VOLTage", query=self._measured("volts")),
            Command("MEASure:CURRent", query=self._measured("amps")),
            Command("MEASure:POWEr", query=self._measured("watts")),  # no POW. Source: bench
            Command("OUTPut", self._output),
            Command("OUTPut:WAVE", self._wave),
            Command("TIMEr", self._timer),
            Command("TIMEr:SET", self._timer_set, self._timer_group),
            Command("SYSTem:STATus", query=answer(self._status_word)),
            Command("SYSTem:ERRor", query=answer(self.next_error)),
            Command("SYSTem:VERSion", query=answer(lambda: self.idn.split(",")[3])),
            Command("*LOCK", lambda call: call.params.end()),
            Command("*UNLOCK", lambda call: call.params.end()),
        ]
