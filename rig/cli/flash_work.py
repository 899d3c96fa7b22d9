"""One slot taken into use for one flash operation: the flasher, its judge, the trace, and why a link fails."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rig.bench.bench import Bench, Slot, open_bench
from rig.bench.config import allowed_images
from rig.bench.product import Product
from rig.bench.slot import OpenSlot, use_slot
from rig.cli.terminal import err
from rig.errors import Coded, ImageRefused
from rig.flashers import load_flasher
from rig.flashers.base import Flasher
from rig.flashers.native import NativeFlasher
from rig.flashers.speed import remembered
from rig.image.planning.guard import Board, Plan, plan_write
from rig.image.planning.trust import require_allowed
from rig.line.boot import refined
from rig.line.doctor import diagnose_link
from rig.target import check_file
from rig.uart.bootlog import BootLog


@dataclass
class Work:
    """One slot and one flasher; `rom` is our own client, which judges whatever the flasher did."""

    bench: Bench
    slot: Slot
    used: OpenSlot
    flasher: Flasher
    rom: NativeFlasher

    def release(self) -> None:
        """The two flashers share a link: our own lets go of it before another one works."""
        if self.flasher is not self.rom:
            self.rom.close()

    def close(self) -> None:
        self.flasher.close()
        self.rom.close()

    def examined(self) -> Coded | None:
        """Why the board does not link, told on the terminal with what was measured and what to try.

        None: it links now.
        """
        self.close()
        port = self.slot.table.log_port
        with BootLog.open(port) if port else contextlib.nullcontext() as log:
            found = diagnose_link(self.used.link, self.used.power, log, self.slot.product, speed=self.bench.speed)
        for line in found.lines():
            err.print(line, markup=False, soft_wrap=True)
        return found.problem


@dataclass
class ImageFile:
    """A file to be written or compared, as the command line names it."""

    path: Path
    data: bytes
    start: int | None
    overrides: tuple[str, ...] = ()
    mac: str | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def plan(self, board: Board) -> Plan:
        return plan_write(self.data, self.path.name, board=board, start=self.start, overrides=self.overrides)

    def first_look(self, bench: Bench, product: Product) -> None:
        """What can be refused before the board has power. Its key is in its efuse: that is looked at later."""
        require_allowed(self.sha256, allowed_images(bench.config), self.path.name)
        try:
            self.plan(Board(chip=product.chip, flash_size=product.flash_size, mac=self.mac))
        except ImageRefused as problem:
            if problem.rule != "wrong-key":
                raise


@contextlib.contextmanager
def taken(
    bench: str,
    slot: str | None,
    flasher: str,
    look: Callable[[Bench, Product], object] | None = None,
    *,
    trace: Path | None = None,
) -> Iterator[Work]:
    """`look` is at what the command is to do, before anything is taken into use or switched on. `trace`: where every
    command on the wire and the sum of their times is written, however the operation ends."""
    if trace is not None:
        check_file(trace)
    with open_bench(bench) as opened:
        place = opened.slot(slot or next(iter(opened.slots)))
        if look is not None:
            look(opened, place.product)
        if place.product.mains:
            err.print("Mains switch: work on it only unplugged from the mains.")
        rom = NativeFlasher(remembered(place.table.flash_port))
        chosen = rom if flasher == "native" else load_flasher(flasher, folders=opened.profiles("flashers"))
        with use_slot(place, holder=f"rig flash, {flasher}") as used:
            work = Work(opened, place, used, chosen, rom)
            try:
                yield work
            except Coded as problem:
                seen = refined(problem, used.power, place.product)
                raise (work.examined() or seen) if seen.code == "no-link" else seen from None
            finally:
                work.close()
                if not used.link.off():
                    err.print(
                        f"The output of slot {place.name} could not be read back off: switch it off by hand before "
                        "you touch the board.",
                        style="bold red",
                        soft_wrap=True,
                    )
                if trace is not None:
                    used.tap.write_trace(trace)
