"""The driver: a supply's channels over VISA, in whatever dialect. Safety that must not be forgotten lives here.

`VisaChannel` is the one implementation of `SupplyChannel`; the service owns it, clients reach it by lease.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import cached_property

from rig.errors import BenchBlocked, UsageProblem
from rig.supply.channel import Instrument, Limits, Mode, Reading, Setting, SupplyChannel, Trip, checked_maximum
from rig.supply.dialect import Command, Query
from rig.supply.instrument import Supply
from rig.supply.means import Commanded, Means
from rig.supply.models import Place
from rig.supply.play import means_of
from rig.supply.player import Player, levels_of
from rig.supply.replies import BitReply, Value, WordReply

log = logging.getLogger(__name__)
OFF_PATIENCE_S = 3.0
_NOT_CONFIRMED = "That its output is off could not be confirmed."


class VisaChannel(SupplyChannel):
    """A channel of a `Supply`. Thread-safe: each call holds the instrument's lock from first to last message."""

    def __init__(self, supply: Supply, number: int, *, max_volts: float) -> None:
        """Bound to `max_volts` for good. Raises UsageProblem if the instrument has no such channel."""
        self._supply = supply
        self._limits = supply.limits(number)
        self._lease_max = checked_maximum(max_volts)
        self._ceiling = self._lease_max
        self._set: Setting | None = None
        self._generation = -1
        self._on = False
        self._shows_old_trip = False  # of OCP, until the output is switched on: see `ocp_rearm`
        self._player = Player(supply, self._limits)

    @property
    def number(self) -> int:
        return self._limits.number

    @property
    def name(self) -> str:
        return f"{self._supply.instrument.model} channel {self._limits.number}"

    @property
    def limits(self) -> Limits:
        mine, dialect = self._limits, self._supply.dialect
        return Limits(
            mine.volts_max, mine.amps_max, mine.volts_step, mine.amps_step, dialect.timings.refresh_s,
            tuple(sorted(self._capabilities)), self.means, self.name,
        )  # fmt: skip

    @property
    def means(self) -> tuple[Means, ...]:
        return means_of(self._supply, self._limits, self._volts_tolerance)

    @property
    def _capabilities(self) -> frozenset[str]:
        return self._supply.dialect.capabilities(self._supply.instrument.model, self._limits)

    def configure(self, setting: Setting, *, max_volts: float) -> Setting:
        ceiling = min(self._lease_max, checked_maximum(max_volts))
        wanted = self._checked(setting, ceiling)
        c, q = self._supply.dialect.commands, self._supply.dialect.queries
        self._player.stop()
        with self._supply.link.lock:
            self._set = None
            self._ceiling = ceiling
            if not self._switch_off():
                raise self._refused("could not be switched off before it was set")
            self._player.forget()
            for old in self._supply.errors():
                log.info("%s: left over: %s", self.name, old)
            self._require_independent()
            self._quiet_others()
            if c.ovp is not None and q.ovp is not None and wanted.ovp is not None:
                self._put(c.ovp, wanted.ovp, q.ovp, self._limits.ovp_step, "OVP", "V")
                self._switch(c.ovp_on, q.ovp_enabled, True, "OVP")
            if c.ocp is not None and q.ocp is not None and (level := self._ocp_level(wanted)) is not None:
                self._put(c.ocp, level, q.ocp, self._amps_tolerance, "OCP", "A")
            self._switch(c.ocp_on if wanted.ocp_trips else c.ocp_off, q.ocp_enabled, wanted.ocp_trips, "OCP")
            self._put(c.amps, wanted.amps, q.amps, self._amps_tolerance, "current limit", "A")
            self._put(c.volts, wanted.volts, q.volts, self._volts_tolerance, "volts", "V")
            self._clear_trips()
            errors = self._supply.errors()
            if errors:
                raise self._refused(f"reports {_said(errors)}")
            if self._is_armed():  # clearing a trip restores the output on some makes
                self._switch_off()
                raise self._refused("switched its output on by itself while it was being set")
            self._set, self._generation, self._on = wanted, self._supply.link.generation, False
        return wanted

    def on(self) -> int:
        with self._supply.link.lock:
            setting = self._require_configured()
            if self._player.fired:
                raise self._refused("plays a waveform: wait until it is over, or switch it off")
            self._verify(setting)
            try:
                return self._switch_on()
            except BenchBlocked as failed:
                self._set = None
                if self.off():  # it may have been on although it did not say so
                    raise
                raise BenchBlocked(failed.code, f"{failed} {_NOT_CONFIRMED}") from failed

    def off(self) -> bool:
        deadline = time.monotonic() + OFF_PATIENCE_S
        if self._player.fired:
            self._player.stop()
        with self._supply.link.lock:
            while True:
                try:
                    is_off = self._switch_off()
                    if is_off and self._player.fired:
                        self._player.end()
                        is_off = self._switch_off()  # ending a timer may be one more thing that switches
                    return is_off
                except BenchBlocked as lost:
                    self._set = None
                    log.warning("%s: switching off: %s", self.name, lost)
                    if time.monotonic() >= deadline:
                        return False
                time.sleep(0.1)

    def say_off(self) -> None:
        """The command alone, unanswered: for several outputs that none waits until another has answered."""
        self._supply.tell(self._supply.dialect.commands.output_off, self._limits)

    def still(self) -> bool:
        """End what the instrument plays by itself on an output that is off, or has armed for it, whoever loaded it;
        True when it was read back off after that. Raises BenchBlocked."""
        with self._supply.link.lock:
            return self._switch_off() if self._player.forget() else True  # it may be one more thing that switches

    def measure(self) -> Reading:
        supply, q = self._supply, self._supply.dialect.queries
        asked = [q.measured_volts]
        if q.measured_amps.send != q.measured_volts.send:
            asked.append(q.measured_amps)
        at_once = q.mode if supply.dialect.transport.joins and self._tells_off else None
        if at_once is not None and not at_once.latched:
            asked.append(at_once)
        else:
            at_once = None
        with supply.link.lock:
            started = time.monotonic_ns()
            raw = supply.ask_all(asked, self._limits)
            ended = time.monotonic_ns()
            said = None if at_once is None else supply.meaning(at_once, raw.pop(), self._limits)
            volts = supply.meaning(q.measured_volts, raw[0], self._limits)
            amps = supply.meaning(q.measured_amps, raw[-1], self._limits)
            mode: Mode = self._mode(float(amps)) if said is None else said  # type: ignore[assignment]  # as in _mode
            if mode == "off" and self._on:
                mode = self._found_off()
        return Reading(float(volts), float(amps), mode, (started + ended) // 2)

    def tripped(self) -> Trip | None:
        q = self._supply.dialect.queries
        with self._supply.link.lock:
            if q.ovp_tripped is not None and self._supply.ask(q.ovp_tripped, self._limits):
                return "ovp"
            if q.ocp_tripped is None or not self._supply.ask(q.ocp_tripped, self._limits):
                self._shows_old_trip = False
            elif not self._shows_old_trip:
                return "ocp"
        return None

    def set_volts(self, volts: float, *, verify: bool = True) -> int:
        value = self._volts(volts, self._ceiling)
        d = self._supply.dialect
        with self._supply.link.lock:
            now = self._require_configured()
            self._require_nothing_armed()
            at = self._change(d.commands.volts, value, d.queries.volts, self._volts_tolerance, "volts", "V", verify)
            self._set = Setting(value, now.amps, now.ovp, now.ocp_trips)
        return at

    def set_current_limit(self, amps: float, *, verify: bool = True) -> int:
        value = self._amps(amps)
        c, q = self._supply.dialect.commands, self._supply.dialect.queries
        with self._supply.link.lock:
            now = self._require_configured()
            self._require_nothing_armed()
            if now.ocp_trips and c.ocp is not None and q.ocp is not None:
                self._put(c.ocp, value, q.ocp, self._amps_tolerance, "OCP", "A")
            at = self._change(c.amps, value, q.amps, self._amps_tolerance, "current limit", "A", verify)
            self._set = Setting(now.volts, value, now.ovp, now.ocp_trips)
        return at

    # waveforms

    def arm(self, commanded: Commanded) -> None:
        if commanded.means not in [means.at(commanded.speed) for means in self.means]:
            raise UsageProblem(f"{commanded.waveform.words} was fitted to another channel than {self.name}.")
        with self._supply.link.lock:
            now = self._require_configured()
            levels = levels_of(commanded, now, self.name, lambda volts: self._volts(volts, self._ceiling), self._amps)
            if self._player.fired:
                raise self._refused("plays a waveform: wait until it is over, or disarm it")
            errors = self._player.load(now, levels, commanded)
            if errors:
                raise self._refused(f"does not take the steps of a {commanded.waveform.words}: {_said(errors)}")

    def fire(self) -> int:
        with self._supply.link.lock:
            self._require_configured()
            if not self._player.armed:
                raise self._refused("has nothing armed that could be played")
            if self._player.fired:
                raise self._refused("plays already")
            if not self._on:
                raise self._refused("is off: a waveform is played on an output that is on")
            return self._player.fire()

    def playing(self) -> bool:
        if not self._player.fired:
            return False
        if not self._player.over():  # without the lock, which whoever writes edges may hold until the last of them
            return True
        with self._supply.link.lock:
            if not self._player.over():  # it was only being fired
                return True
            if verdict := self._settle():
                raise BenchBlocked("supply-refused", f"{verdict}.")
        return False

    @property
    def keeps_line(self) -> bool:
        """Whoever asks the instrument now waits until the last edge of a waveform is written."""
        return self._player.keeps_line

    def disarm(self) -> None:
        if not self._player.armed:
            return
        self._player.stop()
        with self._supply.link.lock:
            if self._player.fired:
                self._settle()
            else:
                self._player.end()

    def _settle(self) -> str:
        """What played is over: the set-points are as before, the output is on, the instrument has no complaint. What
        was wrong with how it was played."""
        verdict = self._player.end()
        setting = self._require_configured()
        if not self._is_on():
            self._on, self._set = False, None
            raise self._refused("switched its output off while it played a waveform")
        q = self._supply.dialect.queries
        played = "played a waveform on"
        self._read_back(q.volts, setting.volts, self._volts_tolerance, "V", f"{played} {setting.volts:g} V")
        self._read_back(q.amps, setting.amps, self._amps_tolerance, "A", f"{played} a limit of {setting.amps:g} A")
        if errors := self._supply.errors():
            raise self._refused(f"played a waveform and reports {_said(errors)}")
        return verdict

    def _require_nothing_armed(self) -> None:
        if self._player.armed:
            raise self._refused("has a waveform armed that returns to what is set now: disarm it first")

    def _ocp_level(self, setting: Setting) -> float | None:
        """What OCP is set to: the current limit if it shall trip, out of the way if it cannot be switched off."""
        if setting.ocp_trips:
            return setting.amps
        return self._limits.ocp_max if self._supply.dialect.commands.ocp_off is None else None

    # what may be sent at all

    def _checked(self, setting: Setting, ceiling: float) -> Setting:
        volts, amps, ovp = self._volts(setting.volts, ceiling), self._amps(setting.amps), setting.ovp
        can = self._capabilities
        if ovp is None and "ovp" in can:
            raise UsageProblem(f'{self.name} has over-voltage protection: use it (ovp = "supply" in bench.toml).')
        if ovp is not None:
            if "ovp" not in can:
                raise UsageProblem(f'{self.name} has no over-voltage protection; say ovp = "none" in bench.toml.')
            ovp = _stepped(ovp, self._limits.ovp_step)
            highest = self._limits.ovp_max or math.inf
            if not volts < ovp <= highest:
                raise UsageProblem(
                    f"OVP of {setting.ovp} V does not fit {self.name}: it must be above the {volts:g} V that are set"
                    + (f" and at most {highest:g} V." if math.isfinite(highest) else ".")
                )
        if setting.ocp_trips and "ocp" not in can:
            raise UsageProblem(f"{self.name} has no over-current protection that could trip.")
        return Setting(volts, amps, ovp, setting.ocp_trips)

    def _volts(self, volts: float, ceiling: float) -> float:
        if not (math.isfinite(volts) and 0 <= volts <= ceiling):
            raise UsageProblem(
                f"{volts} V was asked of {self.name}, whose maximum is {ceiling:g} V here; nothing was sent."
            )
        if volts > self._limits.volts_max:
            raise UsageProblem(f"{self.name} gives at most {self._limits.volts_max:g} V, not {volts:g} V.")
        value = _stepped(volts, self._limits.volts_step)
        return value if value <= ceiling else _stepped(value - self._limits.volts_step, self._limits.volts_step)

    def _amps(self, amps: float) -> float:
        if not (math.isfinite(amps) and 0 < amps <= self._limits.amps_max):
            raise UsageProblem(
                f"A current limit of {amps} A does not fit {self.name} (0 to {self._limits.amps_max:g} A)."
            )
        return _stepped(amps, self._limits.amps_step)

    # talking, with the lock held

    @property
    def _volts_tolerance(self) -> float:
        return self._limits.volts_tolerance or self._limits.volts_step

    @property
    def _amps_tolerance(self) -> float:
        return self._limits.amps_tolerance or self._limits.amps_step

    def _require_configured(self) -> Setting:
        if 0 <= self._generation != self._supply.link.generation:
            text = f"{self.name} lost its connection since it was set: configure it anew"
            raise BenchBlocked("supply-lost", text)
        if self._set is None:
            raise self._refused("was not configured since it was found off; configure it")
        return self._set

    def _verify(self, setting: Setting) -> None:
        """Everything still reads as it was set: nobody turned a knob."""
        self._require_independent()
        self._require_quiet_others()
        q = self._supply.dialect.queries
        checks: list[tuple[Query | None, float | bool | None, float, str]] = [
            (q.ovp, setting.ovp, self._limits.ovp_step, "OVP"),
            (q.ovp_enabled, setting.ovp is not None, 0, "OVP"),
            (q.ocp_enabled, setting.ocp_trips, 0, "OCP"),
            (q.ocp, self._ocp_level(setting), self._amps_tolerance, "OCP"),
            (q.amps, setting.amps, self._amps_tolerance, "current limit"),
            (q.volts, setting.volts, self._volts_tolerance, "volts"),
        ]
        for query, expected, tolerance, what in checks:
            if query is None or expected is None:
                continue
            value = self._supply.ask(query, self._limits)
            if not _agrees(value, expected, tolerance):
                self._set = None
                raise self._refused(f"had its {what} changed by somebody since it was set: it reads {value}")

    def _require_independent(self) -> None:
        """In series, parallel or tracking, what is set here drives an output that may be another slot's."""
        query = self._supply.dialect.queries.independent
        if query is not None and self._supply.ask(query, self._limits) is not True:
            self._set = None
            raise self._refused(
                "is coupled with another output (series, parallel or tracking): make its outputs independent"
            )

    def _others(self) -> list[Place]:
        """The outputs that go on with this one."""
        d = self._supply.dialect
        if d.outputs != "together":
            return []
        model = d.model_of(self._supply.instrument.model)
        known: list[Place] = [*model.channel] or [Place(number=number) for number in model.numbers]
        return [place for place in [*known, *model.unused] if place.number != self.number]

    def _quiet_others(self) -> None:
        """Nothing that was left set on an output which goes on with this one may come on."""
        d = self._supply.dialect
        for other in self._others():
            self._supply.tell(d.commands.volts, other, 0.0)
            if not self._wait(lambda other=other: self._is_quiet(other), d.timings.set_s):  # type: ignore[misc]
                raise self._refused(
                    f"goes on together with output {other.number}, which could not be set to 0 V and reads "
                    f"{self._supply.ask(d.queries.volts, other)} V"
                )

    def _require_quiet_others(self) -> None:
        for other in self._others():
            if not self._is_quiet(other):
                self._set = None
                raise self._refused(
                    f"goes on together with output {other.number}, which somebody set to "
                    f"{self._supply.ask(self._supply.dialect.queries.volts, other)} V since this one was set"
                )

    def _is_quiet(self, other: Place) -> bool:
        return _agrees(self._supply.ask(self._supply.dialect.queries.volts, other), 0.0, self._volts_tolerance)

    def _put(self, command: Command, value: float, query: Query, tolerance: float, what: str, unit: str) -> None:
        self._change(command, value, query, tolerance, what, unit, verify=True)

    def _change(
        self, command: Command, value: float, query: Query, tolerance: float, what: str, unit: str, verify: bool
    ) -> int:
        started = ended = time.monotonic_ns()
        self._supply.tell(command, self._limits, value)
        if verify:
            ended = self._read_back(query, value, tolerance, unit, f"was told {what} {value:g} {unit}")
        else:
            ended = time.monotonic_ns()
        return (started + ended) // 2

    def _read_back(self, query: Query, value: float, tolerance: float, unit: str, told: str) -> int:
        """Ask until it agrees; monotonic nanoseconds of the first answer. Else the output goes off."""
        deadline, first = time.monotonic() + self._supply.dialect.timings.set_s, 0
        while True:
            read = self._supply.ask(query, self._limits)
            first = first or time.monotonic_ns()
            if _agrees(read, value, tolerance):
                return first
            if time.monotonic() >= deadline:
                self._set = None
                errors = self._supply.errors()
                more = f" ({_said(errors)})" if errors else ""
                if self._on:
                    more += ", so it was switched off" if self._switch_off() else ", and could not be switched off"
                raise self._refused(f"{told} and reads back {read} {unit}{more}")
            time.sleep(0.01)

    def _switch(self, command: Command | None, query: Query | None, state: bool, what: str) -> None:
        if command is None or query is None:
            return
        self._supply.tell(command, self._limits)
        if not self._until(query, state, self._supply.dialect.timings.set_s):
            raise self._refused(f"did not switch its {what} {'on' if state else 'off'}")

    def _until(self, query: Query, state: bool, patience_s: float) -> bool:
        return self._wait(lambda: self._supply.ask(query, self._limits) is state, patience_s)

    def _wait(self, true: Callable[[], bool], patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while not true():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def _is_armed(self) -> bool:
        """The channel's own switch is on; with a master switch behind it that is not yet an output that is on."""
        return self._supply.ask(self._supply.dialect.queries.output, self._limits) is True

    def _is_on(self) -> bool:
        master = self._supply.dialect.queries.master
        return self._is_armed() and (master is None or self._supply.ask(master) is True)

    def _switch_on(self) -> int:
        d = self._supply.dialect
        self._hold_others_back()
        started = time.monotonic_ns()
        self._supply.may_be_on(self._limits)
        self._supply.tell(d.commands.output_on, self._limits)
        self._shows_old_trip = False
        is_on = self._is_on()
        ended = time.monotonic_ns()
        over = lambda: self._is_on() or self.tripped() is not None  # noqa: E731 - a trip need not be waited for
        if not is_on and not (self._wait(over, d.timings.output_s) and self._is_on()):
            errors, trip = self._supply.errors(), self.tripped()
            why = f": {trip.upper()} tripped" if trip else f": it reports {_said(errors)}" if errors else ""
            if not why and not d.tells_trips:
                why = ": a protection may have tripped, of which this family does not tell"
            raise self._refused(f"did not stay on{why}")
        self._on = True
        return (started + ended) // 2

    def _hold_others_back(self) -> None:
        """A master switch that is off, and is about to be switched on, must bring no other channel with it."""
        d = self._supply.dialect
        if d.queries.master is None or self._supply.ask(d.queries.master) is True:
            return
        for number in d.model_of(self._supply.instrument.model).numbers:
            if number == self.number:
                continue
            other = self._supply.limits(number)
            if self._supply.ask(d.queries.output, other) is False:
                continue
            log.warning("%s: channel %d was armed behind the master switch; disarmed", self.name, number)
            self._supply.tell(d.commands.output_off, other)
            if self._supply.ask(d.queries.output, other) is not False:
                raise self._refused(f"cannot be switched on: channel {number} would go on with it")

    def _switch_off(self) -> bool:
        d = self._supply.dialect
        self._supply.tell(d.commands.output_off, self._limits)
        is_off = self._until(d.queries.output, False, d.timings.output_s)
        if is_off:
            self._on = False
            self._supply.is_off(self._limits)
        return is_off

    def _clear_trips(self) -> None:
        d = self._supply.dialect
        c, trip = d.commands, self.tripped()
        if not d.tells_trips or d.latches_trips:  # then there may be one that nothing tells any more
            for clear in (c.ovp_clear, c.ocp_clear):
                if clear is not None:
                    self._supply.tell(clear, self._limits)
            if trip is not None:
                log.warning("%s: %s had tripped; cleared", self.name, trip)
            self._supply.forget_trips(self._limits)
            trip = self.tripped()
        while trip is not None:
            if trip == "ocp" and self._supply.dialect.ocp_rearm == "output_on":
                self._shows_old_trip = True
                return
            command = c.ovp_clear if trip == "ovp" else c.ocp_clear
            log.warning("%s: %s had tripped; cleared", self.name, trip)
            if command is not None:
                self._supply.tell(command, self._limits)
            self._supply.forget_trips(self._limits)
            again = self.tripped()
            if again == trip:
                raise self._refused(f"has tripped ({trip.upper()}) and cannot be cleared: something feeds its output")
            trip = again

    @cached_property
    def _tells_off(self) -> bool:
        """The mode's question tells whether it is off, too."""
        query = self._supply.dialect.queries.mode
        reply = query.reply if query is not None else None
        return isinstance(reply, WordReply | BitReply) and "off" in reply.meanings()

    def _mode(self, amps: float) -> Mode:
        query = self._supply.dialect.queries.mode
        if not self._tells_off and not self._is_on():
            return "off"
        mode = self._supply.ask(query, self._limits) if query is not None else "unknown"
        if mode != "unknown":
            return mode  # type: ignore[return-value]  # the dialect was checked
        limit = self._supply.ask(self._supply.dialect.queries.amps, self._limits)
        return "cc" if amps >= float(limit) - self._limits.amps_step else "cv"

    def _found_off(self) -> Mode:
        """The mode says off although we switched it on: true, unless it is only still coming up."""
        if self._is_on() and self.tripped() is None:
            return "unregulated"
        log.warning("%s was found off", self.name)
        self._on, self._set = False, None
        return "off"

    def _refused(self, what: str) -> BenchBlocked:
        return BenchBlocked("supply-refused", f"{self.name} ({self._supply.link.resource}) {what}.")


def _said(errors: list[str]) -> str:
    """The first few: an error queue that is full says nothing more with its twentieth."""
    return "; ".join(errors[:3]) + (f"; and {len(errors) - 3} more" if len(errors) > 3 else "")


def _stepped(value: float, step: float) -> float:
    """The multiple of `step` nearest to `value`, without binary dust."""
    return round(round(value / step) * step, 9)


def _agrees(read: Value, expected: float | bool, tolerance: float) -> bool:
    if isinstance(expected, bool) or isinstance(read, bool | str):
        return read is expected
    return abs(read - expected) <= tolerance + 1e-9


__all__ = ["Instrument", "Reading", "Setting", "Supply", "SupplyChannel", "VisaChannel"]
