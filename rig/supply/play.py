"""Playing a waveform on one channel: loaded into the instrument, or written edge by edge at its time.

Knows no safety: `rig.supply.driver` has checked every level before it comes here, and reads the set-points back
afterwards.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rig.errors import BenchBlocked, RigError
from rig.supply.dialect import Sequencer
from rig.supply.instrument import Supply, filled
from rig.supply.means import Commanded, Means
from rig.supply.models import ChannelLimits
from rig.supply.replies import numbers
from rig.supply.waveform import time_words

log = logging.getLogger(__name__)
LEAD_S = 0.15  # so long before an edge the line is kept free: a question takes up to a tenth of a second
_NEAR = 0.0051  # V, A: steps are told with two decimals at least
_SLEPT_S = 1.0  # choice: no machine sleeps for less; two clocks are not read in the same moment
PATIENCE_S = 2.0  # beyond its time, until an instrument that says that it still plays is not believed


def asleep_s() -> float:
    """Seconds that this machine was suspended since it started: its monotonic clock stood still, no supply did."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


@dataclass(frozen=True)
class Level:
    """One step with nothing left open, to be held for `seconds` of ours."""

    seconds: float
    volts: float
    amps: float


class Play(Protocol):
    """One waveform on one channel: `fire` once; when `over` is true, `end`. All raise BenchBlocked. `keeps_line`: it
    has the line's lock now, or is about to."""

    keeps_line: bool

    def fire(self) -> int:
        """Begin; monotonic nanoseconds midway of sending that."""

    def over(self) -> bool:
        """Whether it plays no more."""

    def stop(self) -> None:
        """Nothing more is sent from this moment on. Never waits for the instrument."""

    def end(self) -> None:
        """The instrument holds its set-points again, what was loaded is forgotten. Also when it never was fired."""

    def verdict(self) -> str:
        """What was wrong with it, "" if nothing. Once it is over."""


class ListPlay:
    """The instrument plays it by itself."""

    keeps_line = False

    def __init__(self, supply: Supply, place: ChannelLimits, how: Sequencer, levels: Sequence[Level], speed: float):
        """`levels` in seconds of the instrument, whose clock goes `speed` times as fast as ours."""
        self._supply, self._place, self._how, self._levels = supply, place, how, levels
        self._seconds = sum(level.seconds for level in levels) / speed
        self._fired = 0.0

    def load(self) -> None:
        """The steps, and all but the trigger."""
        loading = [self._whole(line) for line in self._how.load]
        arming = [filled(line, self._place) for line in self._how.arm]
        self._supply.link.write(*loading, *self._step_lines(), *arming)

    def _whole(self, line: str) -> str:
        """A line for all steps."""
        columns = [[getattr(level, name) for level in self._levels] for name in ("volts", "amps", "seconds")]
        triplets = list(itertools.chain.from_iterable(zip(*columns, strict=True)))
        volts, amps, seconds, all_three = (_Numbers(values) for values in (*columns, triplets))
        return line.format(
            channel=self._place.number, name=self._place.name or str(self._place.number), count=len(self._levels),
            volts=volts, amps=amps, seconds=seconds, triplets=all_three,
        )  # fmt: skip

    @property
    def _numbered(self) -> list[tuple[int, Level]]:
        """All that the instrument holds of it, steps of no time too."""
        last = self._levels[-1]
        empty = [Level(0.0, last.volts, last.amps)] * (self._how.fill - len(self._levels))
        return list(enumerate([*self._levels, *empty], start=self._how.first_index))

    def misloaded(self) -> list[str]:
        """What the instrument says of its steps, if that is not what it was given: where a line was lost on the way,
        or came too soon for it, it would play what somebody else has left there, at whatever volts."""
        for told in self._how.told:
            for steps in [[one] for one in self._numbered] if told.once_a_step else [self._numbered]:
                fill = {
                    "channel": self._place.number, "name": self._place.name or str(self._place.number),
                    "index": steps[0][0], "count": len(steps),
                }  # fmt: skip
                raw = self._supply.link.query(told.send.format(**fill), [line.format(**fill) for line in told.before])
                wanted = [(what, self._given(what, *step)) for step in steps for what in told.what]
                if told.what == ["count"]:
                    wanted = [("count", len(steps))]
                if not self._says(raw, wanted):
                    given = ", ".join(f"{number:g}" for _, number in wanted)
                    return [f"it says {raw!r} of its steps, and was given {given}"]
        return []

    def _given(self, what: str, index: int, level: Level) -> float:
        return float(index) if what == "index" else float(getattr(level, what, 0.0))

    def _says(self, raw: str, wanted: Sequence[tuple[str, float]]) -> bool:
        near = {
            "index": 0.0,
            "count": 0.0,
            "volts": max(_NEAR, self._place.volts_tolerance or 0.0),
            "amps": max(_NEAR, self._place.amps_tolerance or 0.0),
        }
        try:
            said = numbers(raw)
        except ValueError:
            return False
        return len(said) == len(wanted) and all(
            abs(one - given) <= near.get(what, given / 100) + 1e-9
            for one, (what, given) in zip(said, wanted, strict=True)
        )

    def _step_lines(self) -> list[str]:
        if not self._how.step:
            return []
        return [
            line.format(
                channel=self._place.number, name=self._place.name or str(self._place.number), index=index,
                volts=level.volts, amps=level.amps, seconds=level.seconds,
            )
            for index, level in self._numbered
            for line in self._how.step
        ]  # fmt: skip

    def fire(self) -> int:
        started = time.monotonic_ns()
        self._send(self._how.trigger)
        ended = time.monotonic_ns()
        self._fired = ended / 1e9
        return (started + ended) // 2

    def over(self) -> bool:
        late_s = time.monotonic() - self._fired - self._seconds
        if late_s < 0:
            return False
        if self._how.done is None or self._supply.ask(self._how.done, self._place) is True:
            return True
        if late_s > PATIENCE_S:
            who = f"{self._supply.instrument.model} channel {self._place.number}"
            told = f"{who} still plays {time_words(late_s)} after the end of what it was given."
            raise BenchBlocked("supply-refused", told)
        return False

    def stop(self) -> None:
        """Whatever it plays, it plays: the output's switch stands above it."""

    def end(self) -> None:
        self._send(self._how.abort)

    def verdict(self) -> str:
        return ""

    def _send(self, lines: Sequence[str]) -> None:
        self._supply.link.write(*(filled(line, self._place) for line in lines))


class TimedPlay:
    """Each edge is written at its time, by a thread of this process: nothing is asked and nobody waits in between.

    The line is kept for it from LEAD_S before an edge, so that no question of anybody's stands in its way.
    """

    def __init__(
        self, supply: Supply, place: ChannelLimits, before: Level, levels: Sequence[Level], means: Means, speed: float
    ) -> None:
        """`before` is what is set, and is returned to. `levels` in our seconds; `means` in those of the board."""
        self._supply, self._place = supply, place
        self._early_s, self._late_s = means.early_s / speed, means.late_s / speed
        self._edges = _edges(supply, place, [before, *levels, before])
        self._holds = [level.seconds for level in levels]
        self._sent: list[int] = []
        self._asleep_s = 0.0  # when it was fired
        self._stopped = threading.Event()
        self._error = ""
        self._generation = supply.link.generation
        self._thread: threading.Thread | None = None
        self.keeps_line = False

    def fire(self) -> int:
        self._asleep_s = asleep_s()
        with self._supply.link.lock:
            if not self._write(self._edges[0]):
                raise BenchBlocked("supply-lost", self._error)
        self._thread = threading.Thread(target=self._run, name=f"edges of channel {self._place.number}", daemon=True)
        self._thread.start()
        return self._sent[0]

    def over(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def stop(self) -> None:
        """Who writes an edge looks at this with the line's lock held: not waiting for that thread loses nothing."""
        self._stopped.set()

    def end(self) -> None:
        """Back to what was set, unless the last edge has done that."""
        self.stop()
        if self._sent and len(self._sent) < len(self._edges):
            self._supply.link.write(*self._edges[-1])

    def verdict(self) -> str:
        if self._error:
            return self._error
        slept = asleep_s() - self._asleep_s
        if slept > _SLEPT_S:  # which the clock that edges are timed by has not seen
            return f"this machine slept for {time_words(slept)} while it wrote the edges of a waveform"
        for (begun, ended), hold in zip(itertools.pairwise(self._sent), self._holds, strict=False):
            took = (ended - begun) / 1e9
            if not hold - self._early_s <= took <= hold + self._late_s:
                return (
                    f"{self._supply.instrument.model} channel {self._place.number}: the edges of a step of "
                    f"{time_words(hold)} were sent {time_words(took)} apart, beyond what is stated for writes at "
                    "their times: this machine or that supply had too much else to do"
                )
        return ""

    def _run(self) -> None:
        due = self._sent[0] / 1e9
        try:
            for hold, edge in zip(self._holds, self._edges[1:], strict=True):
                due += hold
                free_s = max(0.0, due - LEAD_S - time.monotonic())
                self.keeps_line = not free_s
                if self._stopped.wait(free_s):
                    return
                self.keeps_line = True
                with self._supply.link.lock:
                    if self._stopped.wait(max(0.0, due - time.monotonic())) or not self._write(edge):
                        return
        finally:
            self.keeps_line = False

    def _write(self, lines: Sequence[str]) -> bool:
        """An edge; False, and an error for the verdict, where it cannot be sent. With the line's lock held."""
        link = self._supply.link
        if link.generation != self._generation:
            self._error = f"{self._supply.instrument.model} lost its connection while a waveform was played"
            return False
        try:
            started = time.monotonic_ns()
            link.write(*lines)
            self._sent.append((started + time.monotonic_ns()) // 2)
            if link.generation != self._generation:  # it was opened anew for this very edge
                self._error = f"{self._supply.instrument.model} lost its connection while a waveform was played"
        except RigError as bad:
            self._error = str(bad)
        except Exception as bad:  # nobody else sees what ends this thread
            log.exception("an edge of channel %d", self._place.number)
            self._error = f"{type(bad).__name__}: {bad}"
        return not self._error


def _edges(supply: Supply, place: ChannelLimits, levels: Sequence[Level]) -> list[list[str]]:
    """The lines that lead from each level to the next, all of both where one of them would be told nothing."""
    c = supply.dialect.commands
    lines: list[list[str]] = []
    for old, new in itertools.pairwise(levels):
        edge: list[str] = []
        if new.volts != old.volts:
            edge += [filled(line, place, new.volts) for line in c.volts.send]
        if new.amps != old.amps:
            edge += [filled(line, place, new.amps) for line in c.amps.send]
        lines.append(edge or [filled(line, place, new.volts) for line in c.volts.send])
    return lines


class _Numbers:
    """Several numbers, each formatted as asked, with commas between them."""

    def __init__(self, values: Sequence[float]) -> None:
        self._values = values

    def __format__(self, form: str) -> str:
        return ",".join(format(value, form) for value in self._values)


def made(
    supply: Supply, place: ChannelLimits, before: Level, levels: Sequence[Level], commanded: Commanded
) -> ListPlay | TimedPlay:
    """What plays `levels` (in the board's seconds) as `commanded` says, and ends at `before`."""
    if commanded.means.how == "list":
        assert supply.dialect.sequence is not None
        closing = Level(commanded.means.least_s, before.volts, before.amps)
        return ListPlay(supply, place, supply.dialect.sequence, [*levels, closing], commanded.speed)
    ours = [Level(level.seconds / commanded.speed, level.volts, level.amps) for level in levels]
    return TimedPlay(supply, place, before, ours, commanded.means, commanded.speed)


def means_of(supply: Supply, place: ChannelLimits, tolerance: float) -> tuple[Means, ...]:
    """The ways in which this channel plays: its own list, then writes at their times."""
    dialect, found = supply.dialect, []
    played = dialect.plays(supply.instrument.model, place)
    if played is not None and dialect.sequence is not None:
        source = f"{dialect.name}: {dialect.sequence.source}; {played.source}"
        found.append(
            Means(
                "list", played.min_dwell_s, played.grid_s or played.min_dwell_s, played.early_s, played.late_s,
                tolerance, source, played.max_dwell_s, played.max_steps - 1,
            )
        )  # fmt: skip
    timed = dialect.timed
    source = f"{dialect.name}: {timed.source}"
    found.append(
        Means("timed-writes", timed.least_s, 0.001, timed.early_s, timed.late_s, tolerance, source, 86400.0, 10_000)
    )
    return tuple(found)


__all__ = ["Level", "ListPlay", "Play", "TimedPlay", "made", "means_of"]
