"""A slot taken into use: its lock, its supply channel, its flash port behind the tap, power and link."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rig.bench.bench import Slot
from rig.bench.config import SupplyTable
from rig.bench.link import SlotLink
from rig.bench.power import BoardPower
from rig.errors import BenchBlocked, UsageProblem
from rig.supply import client, runtime
from rig.supply.channel import Instrument
from rig.uart.guard import Guard, Refusal
from rig.uart.tap import Tap

_LOOK_S = 0.1


@dataclass(frozen=True)
class OpenSlot:
    """What a run works with. All of it is let go, and the output switched off, when the context ends."""

    slot: Slot
    instrument: Instrument
    power: BoardPower
    tap: Tap
    guard: Guard
    link: SlotLink


@contextlib.contextmanager
def slot_lock(slot: Slot, patience_s: float = 0.0) -> Iterator[int]:
    """One user a slot, for the whole run: an OS lock, gone with its descriptor, which is yielded: a process that
    inherits it holds the lock too. UsageProblem if it is taken, or a board is being moved there by the command of a
    station that died, for `patience_s` seconds."""
    lock, deadline = _lock_of(slot, ""), time.monotonic() + patience_s
    try:
        if not _held(lock, deadline):
            raise UsageProblem(f"slot {slot.name} is in use by another run: wait for it, or stop it")
        with moving_lock(slot, deadline):
            pass
        yield lock.fd
    finally:
        lock.close()


@contextlib.contextmanager
def moving_lock(slot: Slot, deadline: float = 0.0) -> Iterator[int]:
    """While a command changes the board: a lock that it is to inherit, so that the lock outlives a killed station as
    the command does, and nobody switches on under its hands. Given back at the end, whatever the command has left
    running. UsageProblem if it is taken until `deadline` (monotonic seconds)."""
    lock = _lock_of(slot, "-moving")
    try:
        if not _held(lock, deadline):
            raise UsageProblem(
                f"slot {slot.name}: the change command of a run that died, or what it started, still runs and may "
                "move the board: wait for it, or stop it"
            )
        try:
            yield lock.fd
        finally:
            fcntl.flock(lock.fd, fcntl.LOCK_UN)  # also where somebody has inherited it
    finally:
        lock.close()


def _lock_of(slot: Slot, kind: str) -> runtime.Lock:
    port = slot.table.flash_port
    port = os.path.realpath(port) if port.startswith("/") else port
    name = f"slot-{hashlib.sha256(port.encode()).hexdigest()[:16]}{kind}.lock"
    return runtime.Lock(runtime.folder() / name)


def _held(lock: runtime.Lock, deadline: float) -> bool:
    waiting = threading.Event()
    while not (held := lock.try_hold()) and time.monotonic() < deadline:
        waiting.wait(_LOOK_S)
    return held


def sharing(slot: Slot) -> list[str]:
    """The other slots that `slot`'s instrument feeds: by its table's name, its resource or its serial number."""

    def is_its(supply: SupplyTable) -> bool:
        mine, theirs = slot.supply.serial or "", supply.serial or ""
        if mine.strip("0 -") and mine.upper() == theirs.upper():
            return True
        return runtime.resource_key(supply.resource) == runtime.resource_key(slot.supply.resource)

    return [one.name for one in slot.neighbours if one.table.supply == slot.table.supply or is_its(one.supply)]


def check_alone(model: str, slot: Slot) -> None:
    """Outputs that switch together feed one slot. Raises UsageProblem if the bench file has others on them too."""
    if others := sharing(slot):
        raise UsageProblem(
            f"slot {slot.name}: the outputs of the {model} switch on and off together, so one slot can use it, but "
            f"the bench file gives it to slot {', '.join(others)} too: a board being loaded there would come on"
        )


def lease_slot(slot: Slot, holder: str, max_volts: float | None = None) -> client.LeasedChannel:
    """The slot's supply channel, as bench.toml names it.

    Raises as `rig.supply.client.lease`, and as `check_alone` for an instrument whose outputs switch together.
    """
    channel = client.lease(
        slot.supply.resource,
        slot.table.channel,
        max_volts=max_volts or slot.product.supply.maximum_volts,
        dialect=slot.supply.dialect,
        serial=slot.supply.serial,
        holder=holder,
        dialect_dirs=slot.dialect_dirs,
    )
    try:
        if channel.together:
            check_alone(channel.instrument.model, slot)
    except BaseException:
        channel.close()
        raise
    return channel


@contextlib.contextmanager
def use_slot(
    slot: Slot,
    *,
    samples: Path | None = None,
    holder: str = "",
    current_limit: float | None = None,
    locked: bool = False,
    on_refusal: Callable[[Refusal], None] = lambda refusal: None,
) -> Iterator[OpenSlot]:
    """Take a slot: lock, then supply (output off), then ports. Raises UsageProblem or BenchBlocked.

    `current_limit` (amps) replaces the product's, never its other limits. `samples` is where power.csv goes.
    """
    supplied = slot.product.supply
    if current_limit is not None:
        supplied = supplied.model_copy(update={"current_limit": current_limit})
    with contextlib.ExitStack() as stack:
        if not locked:  # by the station, whose lock this process inherited
            stack.enter_context(slot_lock(slot))
        channel = stack.enter_context(lease_slot(slot, holder or f"slot {slot.name}", supplied.maximum_volts))
        power = stack.enter_context(
            BoardPower(
                channel,
                supplied,
                ovp=slot.table.ovp == "supply",
                samples=samples,
                refresh_s=channel.limits.refresh_s,
            )
        )
        guard = Guard(slot.product.flash_size)
        tap = stack.enter_context(Tap(slot.table.flash_port, guard, on_link=power.on, on_refusal=on_refusal))
        tap.arrivals.pace = slot.speed
        link = SlotLink(tap, power, slot.table.baud)
        stack.callback(link.off)  # before the tap is closed: a hung port may take its time
        tap.hold()
        yield OpenSlot(slot, channel.instrument, power, tap, guard, link)


def check_calibration(slot: Slot) -> None:
    """Raises BenchBlocked("calibration-due") when the supply's calibration is past its date."""
    due = slot.supply.cal_due
    if due is not None and due < date.today():
        raise BenchBlocked("calibration-due", f"the calibration of {slot.table.supply} was due on {due}")


def check_ports(slot: Slot) -> None:
    """Both serial ports can be opened. Raises BenchBlocked("port-lost") that names the one that cannot."""
    from rig.uart.port import open_port

    for port in filter(None, (slot.table.flash_port, slot.table.log_port)):
        try:
            open_port(port, 115200).close()
        except BenchBlocked as problem:
            raise BenchBlocked(problem.code, f"slot {slot.name}: {problem}") from None
