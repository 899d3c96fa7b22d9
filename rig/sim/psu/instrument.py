"""What all supplies share: carrying out a line, the common commands, protections and playback over time.

One lock guards the state: a line's units, the clock (:meth:`Instrument.tick`) and a test's look take turns.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import ClassVar

from rig.sim.psu.output import Output, OutputSpec, Playback, Rail, Reading, ResistiveLoad
from rig.sim.psu.parser import Command, CommandTree, Unit, action, answer, integer, units
from rig.sim.psu.status import DEPTH, TEXTS, ScpiError, Status

log = logging.getLogger(__name__)

WATCH_S = 0.02  # how often the terminals are looked at while a protection may trip; guess
CALM_S = 0.25  # and where only what others feed into the output could trip it: each look wakes a board


class Instrument:
    """A supply without its socket. Subclasses give the identity, the outputs and the command tree as data."""

    idn: ClassVar[str]  # with {serial}, unless the model tells none
    dialect: ClassVar[str]  # the rig's dialect for it
    specs: ClassVar[Sequence[OutputSpec]]
    board_outputs: ClassVar[Sequence[int]] = (1, 2, 3)  # the first ones, where a simulated bench hangs boards
    error_texts: ClassVar[Mapping[int, str]] = TEXTS
    error_format: ClassVar[str]  # with {code} and {text}
    typical_latency_s: ClassVar[float]  # of each command
    typical_switch_on_s: ClassVar[float] = 0.0  # from OUTP ON until the terminals are live
    meter_period_s: ClassVar[float | None] = None  # of the slow meter; None: this model has none
    most_clients: ClassVar[int | None] = None  # connections it takes; None: as many as come
    line_end: ClassVar[str] = "\n"  # of its answers
    common: ClassVar[Sequence[str] | None] = None  # the IEEE 488.2 commands it has; None: all of those below

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        self.serial = serial
        self.time_scale = time_scale
        self.lock = threading.RLock()
        self.status = Status(self.error_texts)
        self.selected = 1
        self.outputs = [
            Output(number, spec, rails[number - 1] if number <= len(rails) else ResistiveLoad())
            for number, spec in enumerate(self.specs, start=1)
        ]
        self.changed: Callable[[], None] = lambda: None  # told after what may have, so that the clock looks again
        self._usual_meter_s = self.meter_period_s * time_scale if slow_meter and self.meter_period_s else None
        self._meter_s = self._usual_meter_s
        self._meter_due = monotonic()
        self._calm_due = 0.0
        self._readings: dict[int, Reading] | None = None  # by output, of the line that is carried out
        common = [c for c in self._common_commands() if self.common is None or c.pattern in self.common]
        self._tree = CommandTree([*self.commands(), *common])

    def commands(self) -> Sequence[Command]:
        """The personality's own tree."""
        raise NotImplementedError

    def reset(self) -> None:
        """*RST: every output off and at its defaults, first output selected. Errors stay."""
        for output in self.outputs:
            output.reset()
        self.selected = 1

    def execute(self, message: str, pause: Callable[[], None] = lambda: None) -> str | None:
        """Carry out one line (without its terminator); the answers of its queries joined by `;`, or None.

        `pause` is called before each unit: the time that the instrument thinks. Never raises: what is wrong goes
        into the error queue.
        """
        answers: list[str] = []
        culprit, asks_only = message, True
        self._readings = {}
        try:
            for unit, header in units(message):
                culprit = unit.header + ("?" if unit.query else "")
                if not unit.query:
                    asks_only, self._readings = False, {}
                pause()
                try:
                    answer = self._run(unit, header)
                except ScpiError as error:
                    if error.voids_the_rest:
                        raise
                    self.error(error.code, culprit)
                else:
                    answers += [] if answer is None else [answer]
        except ScpiError as error:
            self.error(error.code, culprit)
        self._readings = None
        if not asks_only:
            self.changed()
        return ";".join(answers) if answers else None

    def _run(self, unit: Unit, header: str) -> str | None:
        with self.lock:
            try:
                answer = self._tree.run(unit, header)
                self._guard(monotonic())
                return answer
            except ScpiError:
                raise
            except Exception:
                # A rail whose board is gone must not take the supply down with it.
                log.exception("the simulated supply failed on %s", header)
                raise ScpiError(-310) from None

    def error(self, code: int, culprit: str = "") -> None:
        """Queue an error; `culprit` is the header that it is about."""
        with self.lock:
            self.status.error(code)

    def _watches(self, output: Output) -> bool:
        """Whether to look at this output all the time, not only now and then."""
        return output.exposed

    def _guard(self, now: float, *, every: bool = False) -> None:
        for output in self.outputs:
            if not (every or self._watches(output)):
                continue
            with contextlib.suppress(ScpiError):  # a rail that cannot be read cannot be guarded
                output.guard(now, self.time_scale)

    def tick(self, now: float) -> float | None:
        """Do what is due at monotonic second `now`; when to be called again, or None if nothing runs."""
        with self.lock:
            dues = [due for output in self.outputs if (due := output.tick(now)) is not None]
            calm = now >= self._calm_due
            if calm:
                self._calm_due = now + CALM_S
            self._guard(now, every=calm)
            if any(self._watches(output) for output in self.outputs):
                dues.append(now + WATCH_S)
            elif any(output.armed for output in self.outputs):
                dues.append(self._calm_due)
            if self._meter_s:
                if now >= self._meter_due:
                    self._meter_due = now + self._meter_s
                    for output in self.outputs:
                        with contextlib.suppress(ScpiError):
                            output.held = output.sense()
                dues.append(self._meter_due)
            return min(dues, default=None)

    def measure(self, output: Output) -> Reading:
        """What the meter shows: the terminals now, or with a slow meter what it last saw."""
        return output.held if self._meter_s else self.reading(output)

    def reading(self, output: Output) -> Reading:
        """What is at the terminals: once for all questions of a line, unless a protection may trip between them."""
        known = self._readings
        if known is None or self._watches(output):
            return output.sense()
        if output.number not in known:
            known[output.number] = output.sense()
        return known[output.number]

    def slow_meter(self, period_s: float | None = None) -> None:
        """From now on readings are renewed every `period_s` real seconds (None: as the model's meter, else 0.4)."""
        with self.lock:
            self._meter_s = period_s or self.meter_period_s or 0.4
            self._meter_due = monotonic()
        self.changed()

    def usual_meter(self) -> None:
        """The meter that the supply was made with."""
        with self.lock:
            self._meter_s = self._usual_meter_s

    def fill_errors(self, code: int) -> None:
        """As many errors as the queue holds, and one more."""
        for _ in range(DEPTH + 1):
            self.error(code)

    def play(
        self,
        output: Output,
        steps: Sequence[tuple[float, float, float]],
        count: int | None,
        on_end: Callable[[Output], None],
    ) -> None:
        """Let `output` play (volts, amps, seconds) steps, `count` times (None = for ever), from now."""
        output.play(Playback(steps, count, on_end, start=monotonic(), time_scale=self.time_scale))

    def next_error(self) -> str:
        """The answer to SYST:ERR?."""
        code, text = self.status.next_error()
        return self.error_format.format(code=code, text=text)

    def trigger(self) -> None:
        """*TRG. Raises -211 when nothing waits for it."""
        raise ScpiError(-211)

    def _common_commands(self) -> list[Command]:
        status = self.status

        def set_ese(value: int) -> None:
            status.ese = value

        def set_sre(value: int) -> None:
            status.sre = value & ~64

        def completed() -> None:
            status.esr |= status.OPC

        def wait() -> None:
            """*WAI: no command here is overlapped (a guess for LIST), so there is nothing to wait for."""

        return [
            Command("*IDN", query=answer(lambda: self.idn.format(serial=self.serial))),
            Command("*RST", set=action(self.reset)),
            Command("*CLS", set=action(status.clear)),
            Command("*OPC", set=action(completed), query=answer(lambda: "1")),
            Command("*ESR", query=answer(lambda: str(status.take_esr()))),
            Command("*ESE", set=integer(set_ese, 0, 255), query=answer(lambda: str(status.ese))),
            Command("*SRE", set=integer(set_sre, 0, 255), query=answer(lambda: str(status.sre))),
            Command("*STB", query=answer(lambda: str(status.byte()))),
            Command("*TST", query=answer(lambda: "0")),
            Command("*OPT", query=answer(lambda: "0")),  # guess: no options
            Command("*WAI", set=action(wait)),
            Command("*TRG", set=action(self.trigger)),
        ]
