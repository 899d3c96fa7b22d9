"""Power for one board: switched, discharged, and watched all the while by a sampling thread.

What the supply reads goes to power.csv (`mono_ns,volts,amps,mode`; live, unsynced), and to whoever asks whether
the rail sagged. A supply's meter is slow: a sag it did not show is not a sag that did not happen.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rig.bench.product import Supplied
from rig.errors import BenchBlocked, RigError, no_room
from rig.supply.channel import Reading, Setting, SupplyChannel

_SETTLE_NS = 300_000_000  # inrush and the meter's own averaging after switching on: not a sag
_CLOSEST_S = 0.05
_PERIOD_S = 0.1  # or as fast as the meter has new readings, down to the closest
_MOST_KEPT = 5000  # readings since switching on: minutes of it, for what a boot drew
_METER_V = 0.1  # choice: what a meter may read above the maximum that its supply keeps to
_HIGH_LOOKS = 2  # choice: in a row; a board does not go off for one garbled reading
_CALM_S = 0.2  # each look costs supply, service and this process a millisecond of the CPU between them


@dataclass(frozen=True)
class Sag:
    """The worst moment since the output was switched on."""

    volts: float
    limited: bool  # the supply said that it limits the current
    mono_ns: int


@dataclass(frozen=True)
class Drawn:
    """Amps as the supply's meter showed them: the highest reading, the mean, of how many readings."""

    peak: float
    mean: float
    n: int


class BoardPower:
    """One channel, one board. Use as a context manager: leaving it switches the output off.

    `refresh_s`: seconds between two new readings of the supply's meter (a DP832 has two a second). All methods raise
    BenchBlocked with a code when the supply fails.
    """

    def __init__(
        self,
        channel: SupplyChannel,
        supplied: Supplied,
        *,
        ovp: bool,
        samples: Path | None = None,
        refresh_s: float = 0.0,
    ) -> None:
        self.channel = channel
        self._refresh_ns = int(refresh_s * 1e9)
        self._usual_s = min(_PERIOD_S, max(_CLOSEST_S, refresh_s))
        self._closely_s = min(_CLOSEST_S, refresh_s / 10)  # faster than its meter, a supply only repeats itself
        self.supplied = supplied
        self._ovp = ovp
        self._samples = samples
        self._file: IO[str] | None = None
        self._lock = threading.Lock()
        self._switching = threading.Lock()  # on or off, and what is known of it, one after the other
        self._stop = threading.Event()
        self._closely = threading.Event()
        self._calm = False
        self._look = threading.Event()  # at once: the pace has changed
        self._on_ns = 0
        self._sag: Sag | None = None
        self._deepest: Sag | None = None  # since forget_sags(), through power-cycles
        self._high = 0  # readings in a row above what the board may get
        self._last: Reading | None = None  # while it was on
        self._recent: list[Reading] = []
        self._since_on: list[Reading] = []  # the first so many, for what a boot drew
        self.error: RigError | None = None
        self.setting: Setting | None = None
        self._thread = threading.Thread(target=self._watch, name="power-samples", daemon=True)

    def __enter__(self) -> BoardPower:
        supplied = self.supplied
        self.setting = self.channel.configure(
            Setting(
                supplied.volts,
                supplied.current_limit,
                supplied.ovp if self._ovp else None,
                supplied.on_overcurrent == "trip",
            ),
            max_volts=supplied.maximum_volts,
        )
        if self._samples is not None:
            self._file = self._samples.open("w", encoding="utf-8", buffering=1)
            self._file.write("mono_ns,volts,amps,mode\n")
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._look.set()
        try:
            self.off()
        finally:
            self._thread.join()
            if self._file is not None:
                self._file.close()

    # -- switching -------------------------------------------------------------------------------------

    def on(self) -> int:
        """Output on; monotonic nanoseconds of the switching."""
        with self._switching:
            if self._stop.is_set():
                raise BenchBlocked("supply-lost", "the slot is being given back: its output stays off")
            moment = self.channel.on()
            with self._lock:
                self._on_ns = moment
                self._sag = self._last = None
                self._recent.clear()
                self._since_on.clear()
        return moment

    def off(self) -> bool:
        """Output off; True when it was read back off."""
        with self._switching:
            with self._lock:
                self._on_ns = 0
            return self.channel.off()

    @property
    def refresh_s(self) -> float:
        """Seconds between two new readings of the supply's meter."""
        return self._refresh_ns / 1e9

    @property
    def on_ns(self) -> int:
        """Monotonic nanoseconds of when we switched on; 0 while we want it off."""
        return self._on_ns

    def off_and_discharged(self) -> float:
        """Off, and the rail below the product's off level: returns its volts. BenchBlocked("rail-stuck") if not."""
        if not self.off():
            raise BenchBlocked("supply-lost", "the output could not be read back off")
        deadline = time.monotonic() + self.supplied.off_timeout
        while True:
            volts = self.channel.measure().volts
            if volts < self.supplied.off_volts:
                return volts
            self._stop.wait(0.005)  # some supplies answer in no time, and there may be seconds to go
            if time.monotonic() > deadline:
                raise BenchBlocked(
                    "rail-stuck",
                    f"the rail stands at {volts:.2f} V {self.supplied.off_timeout:g} s after the output went off: "
                    "something else feeds the board",
                )

    # -- watching --------------------------------------------------------------------------------------

    def watch_closely(self, on: bool) -> None:
        """Sample as fast as the supply's meter may show a sag, or at the usual pace."""
        if on:
            self._closely.set()
            self._look.set()
        else:
            self._closely.clear()

    @contextlib.contextmanager
    def calmly(self) -> Iterator[None]:
        """While the board is only read, and nothing on it changes: sample five times a second. A
        sag that is over in less may go unseen; what it spoils is read again. Not while erasing, programming or
        booting."""
        self._calm = True
        try:
            yield
        finally:
            self._calm = False
            self._look.set()

    @property
    def sag(self) -> Sag | None:
        """The deepest sag seen since the output went on; None if the rail stood."""
        with self._lock:
            return self._sag

    def forget_sags(self) -> None:
        """From here `deepest_sag` counts."""
        with self._lock:
            self._deepest = None

    @property
    def deepest_sag(self) -> Sag | None:
        """The deepest since `forget_sags`, however often the output was switched since: a tool's own power-cycles, or
        those between a write and what judges it, do not make it unseen."""
        with self._lock:
            return self._deepest

    def reading(self) -> Reading | None:
        """What the supply reads; once we have switched it off, what it last read before that (None: nothing)."""
        return self.channel.measure() if self._on_ns else self._last

    def sample(self) -> None:
        """Read the supply now, for `reading` after the output is off: the last look of the sampling may be one at the
        capacitors as they charged. A supply that does not answer is `check`'s to tell."""
        with contextlib.suppress(BenchBlocked):
            reading = self.channel.measure()
            with self._lock:
                if self._on_ns and reading.mono_ns >= self._on_ns:
                    self._last = reading

    def average(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> tuple[float, float]:
        """(volts, amps), the means of what is sampled over `seconds`, once the meter shows nothing older."""
        with self._lock:
            self._recent.clear()
        began = time.monotonic_ns() + self._refresh_ns
        end = began / 1e9 + seconds
        while time.monotonic() < end and not until():
            if self._stop.wait(min(0.01, max(0.0, end - time.monotonic()))):
                break
        self.check()
        with self._lock:
            recent = [reading for reading in self._recent if reading.mono_ns >= began]
        recent = recent or [self.channel.measure()]
        return (
            sum(reading.volts for reading in recent) / len(recent),
            sum(reading.amps for reading in recent) / len(recent),
        )

    def drawn(self, settle_s: float = _SETTLE_NS / 1e9) -> Drawn | None:
        """What was drawn since the output went on, as far as the meter shows it; None where it showed nothing yet.

        `settle_s`: the first seconds are left out, as capacitors charge and the meter still averages over what was
        before. A peak shorter than the meter's own averaging reads lower than it is.
        """
        with self._lock:
            least = self._on_ns + self._refresh_ns + int(settle_s * 1e9)
            amps = [each.amps for each in self._since_on if each.mono_ns >= least]
        return Drawn(max(amps), sum(amps) / len(amps), len(amps)) if amps else None

    def check(self) -> None:
        """Raise what the sampling thread ran into."""
        if self.error is not None:
            raise self.error

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                reading = self.channel.measure()
                self._note(reading)
                self._require_bearable(reading)
            except RigError as problem:
                self.error = problem
                return
            except Exception as problem:  # noqa: BLE001 - nobody else sees what ends this thread
                self.error = BenchBlocked("supply-lost", f"measuring failed: {type(problem).__name__}: {problem}")
                return
            try:
                self._keep(reading)
            except (OSError, ValueError) as problem:
                code = "disk-full" if no_room(problem) else "crashed"
                self.error = BenchBlocked(code, f"the power samples cannot be written: {problem}")
                return
            usual_s = _CALM_S if self._calm else self._usual_s
            self._look.wait(self._closely_s if self._closely.is_set() else usual_s)
            self._look.clear()

    def _require_bearable(self, reading: Reading) -> None:
        """No driver of ours sets such volts, but somebody at the front panel may, or another program; and not every
        supply has an OVP. What is left then is to switch off."""
        most, since = self.supplied.maximum_volts, self._on_ns
        is_high = bool(since) and reading.mono_ns >= since and reading.volts > most + _METER_V
        self._high = self._high + 1 if is_high else 0
        if self._high < _HIGH_LOOKS:
            return
        done = "it was switched off" if self.off() else "it could not be switched off: do it by hand"
        raise BenchBlocked(
            "supply-refused",
            f"the supply reads {reading.volts:.2f} V, and this board may get {most:g} V: {done}. Was it turned up at "
            "the front panel, or by another program?",
        )

    def _keep(self, reading: Reading) -> None:
        if self._file is not None:
            self._file.write(f"{reading.mono_ns},{reading.volts:.4f},{reading.amps:.4f},{reading.mode}\n")

    def _note(self, reading: Reading) -> None:
        with self._lock:
            if self._on_ns and reading.mono_ns < self._on_ns + self._refresh_ns:
                return  # the meter may still show what was before switching on
            self._recent.append(reading)
            del self._recent[:-1000]
            if self._on_ns and len(self._since_on) < _MOST_KEPT:
                self._since_on.append(reading)
            if self._on_ns and reading.mono_ns >= self._on_ns:
                self._last = reading
            if not self._on_ns or reading.mono_ns < self._on_ns + self._refresh_ns + _SETTLE_NS:
                return
            limited = reading.mode == "cc"
            low = reading.volts < self.supplied.volts - self.supplied.sag_volts
            if limited or low:
                sag = Sag(reading.volts, limited, reading.mono_ns)
                self._sag = min(self._sag or sag, sag, key=lambda each: each.volts)
                self._deepest = min(self._deepest or sag, sag, key=lambda each: each.volts)
