"""A witness: an oscilloscope at the board's own pins, which tells what the rail really did.

It rolls: from `start` on it samples without a trigger, and a record that is stopped ends at the moment of the stop.
How its clock and ours are brought together, and how far they may be apart: the stop took effect between the moment
before it was sent and the moment after the answer to *OPC? had come. The middle of the two is taken for the record's
end, and half of what lies between them, plus one sample, is every record's `offset_s`. (What the instrument's clock
drifts within a window is far less: 50 ppm of half a second are 25 us.) A witness that fails spoils no trial: what it
should have seen is "not measured".
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rig.bench import witness_dialect
from rig.bench.achieved import Samples
from rig.bench.bench import Slot
from rig.bench.config import WitnessTable
from rig.bench.witness_dialect import WitnessDialect
from rig.errors import BenchBlocked, Exit, RigError, UsageProblem
from rig.supply import runtime
from rig.supply.channel import Instrument
from rig.supply.dialect import Transport
from rig.supply.visa import Link

_MOST_ERRORS = 30  # as many as its queue holds
_HEADROOM = 10 / 9  # of the vertical range over the product's maximum
_LEAD_S = 0.03  # it has rolled for so long when `start` returns: what comes next has a before
_MARGIN_S = 0.02  # a record goes on for so long after what was asked of it, and what the clocks may be apart


class WitnessProblem(RigError):
    """The witness did not see what it was asked for, and why. The trial stands, its achieved is "not measured"."""

    exit_code = Exit.BLOCKED


class Witness:
    """One slot's witness while it is open: `start`, let happen what is to be seen, then `record`. A context manager.

    Raises WitnessProblem, UsageProblem for a wrong instrument or one that another run uses.
    """

    def __init__(self, table: WitnessTable, maximum_volts: float, dialect_dirs: Sequence[Path] = ()) -> None:
        self._table = table
        self._range = maximum_volts * _HEADROOM
        self._offset = maximum_volts / 2
        self._lock = _held(table.resource)
        try:
            self._link, self.dialect, self.instrument = _opened(table, dialect_dirs)
        except BaseException:
            self._lock.close()
            raise
        self.name = f"{self.instrument.model} {self.instrument.serial}".strip()
        self._window_s = self.dialect.record.window_min_s
        self._rolls_ns = 0  # from here on it samples; 0: it does not
        self._stopping: threading.Thread | None = None
        self._stopped: tuple[int, int] | None = None  # before the stop was sent, after it was done
        self._failed: WitnessProblem | None = None
        self._closing = threading.Event()

    @property
    def window_s(self) -> tuple[float, float]:
        """The shortest and the longest record, seconds."""
        return self.dialect.record.window_min_s, self.dialect.record.window_max_s

    def start(self, window_s: float) -> None:
        """Sample from now on; of the last `window_s` seconds (or a little more) there will be a record.

        Choose it longer than what is to be seen and the time until it is stopped: `record`, or `stop_at`.
        """
        self._end_stopping()
        self._stopped = self._failed = None
        shortest, longest = self.window_s
        if window_s > longest:
            raise WitnessProblem(f"the witness keeps {longest:g} s at most, {window_s:g} s were asked of it")
        self._window_s = max(window_s, shortest)
        self._send(*self._lines("roll"))
        self._done()
        self._rolls_ns = time.monotonic_ns()
        self._no_errors("to be set up")
        while (left := self._rolls_ns / 1e9 + _LEAD_S - time.monotonic()) > 0:
            self._closing.wait(left)

    def stop_at(self, mono_ns: int) -> None:
        """End the record at that moment (time.monotonic_ns), from a thread: returns at once, `record` fetches it."""
        self._end_stopping()
        self._stopping = threading.Thread(target=self._stop_then, args=(mono_ns,), name="witness", daemon=True)
        self._stopping.start()

    def record(self, begin_ns: int, end_ns: int) -> Samples:
        """What the rail did between two moments (time.monotonic_ns); waits for the second of them.

        The record has to hold all of it, else WitnessProblem: a dip of which a part was not seen has no width.
        """
        if not self._rolls_ns:
            raise WitnessProblem("the witness was not started")
        if self._stopping is None and self._stopped is None:
            self.stop_at(end_ns + round(_MARGIN_S * 1e9))
        if self._stopping is not None:
            self._stopping.join()
            self._stopping = None
        if self._failed is not None:
            raise self._failed
        samples = self._fetched()
        _covers(samples, begin_ns, end_ns, self._rolls_ns)
        return samples.cut(begin_ns, end_ns)

    def close(self) -> None:
        """Let it stand still, and go."""
        self._closing.set()
        try:
            self._end_stopping()
            if self._rolls_ns and self._stopped is None and self._failed is None:
                self._send(*self._lines("stop"))
        except WitnessProblem:
            pass  # it is gone already
        finally:
            self._link.close()
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the record ------------------------------------------------------------------------------------

    def _stop_then(self, mono_ns: int) -> None:
        while (left := mono_ns - time.monotonic_ns()) > 0:
            if self._closing.wait(left / 1e9):
                return
        try:
            sent = time.monotonic_ns()
            self._send(*self._lines("stop"))
            self._done()
            self._stopped = (sent, time.monotonic_ns())
        except WitnessProblem as problem:
            self._failed = problem

    def _end_stopping(self) -> None:
        if self._stopping is not None:
            self._closing.set()
            self._stopping.join()
            self._stopping = None
            self._closing.clear()

    def _fetched(self) -> Samples:
        assert self._stopped is not None
        self._send(*self._lines("fetch"))
        queries, names = self.dialect.queries, self.dialect.queries.preamble.fields
        preamble = dict(zip(names, self._numbers(queries.preamble.send), strict=False))
        volts = self._numbers(queries.data.send)
        self._no_errors("for its record")
        if any(name not in preamble for name in ("points", "dt", "step")) or preamble["dt"] <= 0:
            raise WitnessProblem("the witness told nothing usable about its record")
        if len(volts) != preamble["points"]:
            raise WitnessProblem(f"the witness promised {preamble['points']:g} points and sent {len(volts)}")
        sent, done = self._stopped
        dt = preamble["dt"]
        return Samples(
            t0_ns=(sent + done) // 2 - round(len(volts) * dt * 1e9),
            dt_s=dt,
            volts=[math.nan if value >= queries.data.hole else value for value in volts],
            instrument=self.name,
            offset_s=(done - sent) / 2e9 + dt,
            step_v=abs(preamble["step"]),
        )

    # -- the line --------------------------------------------------------------------------------------

    def _lines(self, command: str) -> list[str]:
        fields = {
            "channel": self._table.channel,
            "probe": self._table.probe,
            "range": self._range,
            "offset": self._offset,
            "window": self._window_s,
            "points": self.dialect.record.points,
        }
        return [line.format(**fields) for line in getattr(self.dialect.commands, command).send]

    def _send(self, *lines: str) -> None:
        try:
            self._link.write(*lines)
        except BenchBlocked as lost:
            raise _lost(self._table, lost) from lost

    def _ask(self, line: str) -> str:
        try:
            return self._link.query(line)
        except BenchBlocked as lost:
            raise _lost(self._table, lost) from lost

    def _done(self) -> None:
        self._ask(self.dialect.queries.done.send)

    def _numbers(self, line: str) -> list[float]:
        answer = self._ask(line.format(channel=self._table.channel))
        try:
            return [float(part) for part in _body(answer).split(",")]
        except ValueError:
            raise WitnessProblem(f"the witness answered {line} with {answer[:40]!r}: no numbers") from None

    def _no_errors(self, what: str) -> None:
        told = []
        for _ in range(_MOST_ERRORS):
            answer = self._ask(self.dialect.queries.error.send).strip()
            if answer.lstrip("+-").split(",")[0].strip() in ("0", ""):
                break
            told.append(answer)
        if told:
            raise WitnessProblem(f"the witness did not take what was sent {what}: {'; '.join(told[:3])}")


def open_witness(slot: Slot) -> Witness | None:
    """The witness that bench.toml names for `slot`; None without one. Close it, or use it in a `with`.

    Raises WitnessProblem if it does not answer, UsageProblem if it is another instrument or in use by another run.
    """
    if slot.witness is None:
        return None
    return Witness(slot.witness, slot.product.supply.maximum_volts, slot.witness_dirs)


def check_witness(slot: Slot) -> str | None:
    """Open it, let it roll, fetch a record: one sentence on what there is; None without a witness.

    Raises as `open_witness`, and WitnessProblem for what it does not take.
    """
    witness = open_witness(slot)
    if witness is None:
        return None
    with witness:
        witness.start(witness.window_s[0])
        now = time.monotonic_ns()
        samples = witness.record(now, now + 10_000_000)
        known = [volts for volts in samples.volts if not math.isnan(volts)]
    return (
        f"witness {witness.name}: the rail is at {sum(known) / len(known):.2f} V, a sample every "
        f"{samples.dt_s * 1e6:.3g} us, its clock within {samples.offset_s * 1e3:.2g} ms of ours"
    )


def _held(resource: str) -> runtime.Lock:
    """One run a witness: it has one time base."""
    key = hashlib.sha256(runtime.resource_key(resource).encode()).hexdigest()[:16]
    lock = runtime.Lock(runtime.folder() / f"witness-{key}.lock")
    if not lock.try_hold():
        lock.close()
        raise UsageProblem(f"the witness at {resource} is in use by another run: wait for it, or stop it")
    return lock


def _opened(table: WitnessTable, dirs: Sequence[Path]) -> tuple[Link, WitnessDialect, Instrument]:
    named = witness_dialect.load(table.dialect, dirs) if table.dialect else None
    link = Link(table.resource, named.transport if named else Transport())
    try:
        idn = link.open()
        if named is None:
            named, instrument = witness_dialect.recognise(idn, dirs)
            link.adopt(named.transport, ())
        else:
            found = named.recognise(idn)
            if found is None:
                raise UsageProblem(f"the instrument at {table.resource} says {idn!r}: it is no {named.title}")
            instrument = found
        if table.serial is not None and instrument.serial.upper() != table.serial.upper():
            raise UsageProblem(
                f"the witness at {table.resource} has serial number {instrument.serial}, not {table.serial}: correct "
                "bench.toml or the cabling"
            )
        if table.channel > named.record.channels:
            most = named.record.channels
            raise UsageProblem(f"the {instrument.model} has no channel {table.channel}, only {most} of them")
    except BenchBlocked as lost:
        link.close()
        raise _lost(table, lost) from lost
    except BaseException:
        link.close()
        raise
    return link, named, instrument


def _lost(table: WitnessTable, lost: BenchBlocked) -> WitnessProblem:
    what = str(lost).removeprefix(f"The supply at {table.resource} ").split(". ")[0].rstrip(".")
    return WitnessProblem(f"the witness at {table.resource} {what}")


def _body(answer: str) -> str:
    """Without the head of a block: #, how many digits, the length."""
    if answer.startswith("#") and answer[1:2].isdigit():
        return answer[2 + int(answer[1]) :]
    return answer


def _covers(samples: Samples, begin_ns: int, end_ns: int, rolls_ns: int) -> None:
    """All of it was seen. WitnessProblem says what was not."""
    slack = round(samples.offset_s * 1e9)
    if samples.end_ns + slack < end_ns:
        late = (end_ns - samples.end_ns) / 1e9
        raise WitnessProblem(f"the witness was stopped {late:.3f} s before the end of what it was to see")
    if max(samples.t0_ns - slack, rolls_ns) > begin_ns:
        early = (max(samples.t0_ns, rolls_ns) - begin_ns) / 1e9
        raise WitnessProblem(f"the witness's record begins {early:.3f} s too late: it needs a longer window")
    seen = samples.cut(begin_ns + 2 * slack, end_ns - 2 * slack).volts  # what it saw for certain: a cut adds slack
    if holes := sum(math.isnan(volts) for volts in seen):
        raise WitnessProblem(f"the witness has {holes} of {len(seen)} samples missing where it was to see")
