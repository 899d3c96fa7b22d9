"""One unit, in order: back up, plan, flash, read again, reboot, prove that it boots.

The same for every task, only image and plan differ: convert to an image, recover a broken board with a full one,
restore a board's own backup.

Each test is a step; once one fails the rest is skipped. Factory firmware never runs before its backup: link
checks are running when the board gets its power, and the ROM keeps it until the power goes.
"""

from __future__ import annotations

import pytest

from rig.bench.bench import Slot
from rig.bench.link import SlotLink
from rig.bench.power import BoardPower
from rig.bench.slot import OpenSlot
from rig.errors import BenchBlocked, ImageRefused, UnitFailed
from rig.flashers.base import Flasher, Progress
from rig.flashers.judge import judge_write
from rig.flashers.native import NativeFlasher
from rig.image.contents.provision import Provision
from rig.line import steps
from rig.line.boot import Boot, weak_supply
from rig.line.contact import tell_strays
from rig.line.identity import carry_over, mac_after
from rig.line.place import Place
from rig.line.provisioning import config_for, require_provisioned
from rig.line.record import UnitRecord
from rig.line.target import Target, board_of, excused, twin, wrong_board
from rig.line.timing import LINK, timed
from rig.records.backups import BackupStore
from rig.uart.guard import Guard


@pytest.mark.step("image", limit=120)
def test_the_image_fits_the_product(image: Target, provision: Provision | None, record: UnitRecord) -> None:
    """Refused before the board gets any power: the image, and what would go with it."""
    record.measure("image_size", len(image.data), "B")


@pytest.mark.step("supply-off", limit=120)
def test_the_rail_is_discharged(place: Place) -> None:
    steps.discharge(place)


@pytest.mark.step("identify", limit=400)
def test_the_board_says_what_it_is(place: Place, image: Target, record: UnitRecord) -> None:
    """Link checks first, then power; contact, with the current in the ROM; then chip, flash, MAC."""
    steps.identify(place)
    if sentence := wrong_board(image, record.identity):
        raise BenchBlocked("wrong-board", sentence)


@pytest.mark.step("backup", limit=1200)
def test_the_backup_is_safe(place: Place, pytestconfig: pytest.Config) -> None:
    """All of the flash, agreeing with the chip's CRC block by block, durable on disk before anything is written. What
    earlier boards held too is not read again, unless --backup full; this board's own bytes always are."""
    fast = pytestconfig.getoption("--backup") == "fast"
    steps.take_backup(place, fast=fast, accept_none=pytestconfig.getoption("--accept-no-backup"))


@pytest.mark.step("plan", limit=200)
def test_the_image_fits_this_board(
    image: Target,
    provision: Provision | None,
    record: UnitRecord,
    guard: Guard,
    slot: Slot,
    pytestconfig: pytest.Config,
) -> None:
    """Against what this board is and what it and its backup hold; then, and only then, the wire opens for these
    ranges."""
    if record.backup is None and not pytestconfig.getoption("--accept-no-backup"):
        raise UnitFailed("unreadable", "there is no backup of this board")
    store = BackupStore(record.run.path.parent / "backups")
    backup = record.backup.content() if record.backup else None
    board = board_of(
        slot.product,
        efuse=record.efuse,
        held=record.held,
        backup=backup,
        mac=pytestconfig.getoption("--mac"),
        no_backup=record.backup is None,
    )
    try:
        plan = image.aim(board)
        mac = record.mac if record.held is None else mac_after(plan, image.data, board)
        if provision is not None:
            plan = image.aim(board, config_for(provision, record.unit, mac, board))
        again = None
        if record.backup is not None and image.order.own is None:
            again = carry_over(store, record.backup, plan, image.data, board, record.efuse)
    except ImageRefused as problem:
        raise UnitFailed("image-refused", str(problem)) from None
    if again is not None:
        record.backup_kept(again)
    record.planned(plan, image.name, image.sha256, image.pieces)
    if said := twin(image, mac):
        record.note(said, warning=True)
    record.mac = mac
    record.measure("write_size", plan.size, "B")
    guard.allow_writes(image.ranges)


@pytest.mark.step("flash", limit=1800)
def test_the_image_is_written(
    board: OpenSlot,
    link: SlotLink,
    rom: NativeFlasher,
    flasher: Flasher,
    image: Target,
    guard: Guard,
    power: BoardPower,
    record: UnitRecord,
    progress: Progress,
) -> None:
    """Whatever a tool says of itself, the chip's own CRC and samples decide; of our own client, the CRC it took.
    And only if the rail stood: what is written in a sag may read right today."""
    if sag := weak_supply(power):
        raise sag  # while it was read: nothing is erased on such a rail
    power.forget_sags()
    with timed(board.tap, record, baud=True), record.writing(image.sha256, image.ranges) as verified:
        if flasher is not rom:
            rom.close()
        result = flasher.write(link, image.pieces, progress)
        record.measure("write_time", result.seconds, "s")
        record.measure("retries", len(result.retries))
        for retry in result.retries:
            record.note(f"{flasher.name}: {retry}", warning=True)
        check = result
        if not (flasher is rom and result.verified):
            check = judge_write(rom, link, image.pieces, progress)
            record.measure("verify_time", check.seconds, "s")
        if sag := weak_supply(power, power.deepest_sag):
            raise sag
        if not check.ok:
            raise UnitFailed("verify-failed", f"{check.said} ({flasher.name} said: {result.said})")
        verified()
    guard.forbid_writes()


@pytest.mark.step("settled", limit=1200)
def test_what_was_written_stays(
    board: OpenSlot, link: SlotLink, rom: NativeFlasher, image: Target, record: UnitRecord, progress: Progress
) -> None:
    """Power-cycle, and the chip's CRC again: cells that were erased or programmed too weakly read right at first. And
    of all the rest: a command that was damaged on its way may have hit another sector, and its retry hides that."""
    rom.close()
    with timed(board.tap, record, LINK):
        check = rom.verify(link, image.pieces, progress)
        if not check.ok:
            raise UnitFailed("verify-failed", f"after a power-cycle {check.said}: it agreed when it had been written")
        rest = rom.verify(link, image.plan.untouched(record.held), progress) if record.held else None
    record.measure("settled_time", check.seconds + (rest.seconds if rest else 0.0), "s")
    if rest and not rest.ok:
        found = f"outside of what was to be written {rest.said}: it was not so before"
        if not any(command.name == "reset-pulse" for command in board.tap.commands):
            raise UnitFailed("verify-failed", found)
        record.note(f"{found}; the tool had to reset the board, whose old firmware may have run", warning=True)
    tell_strays(record, board.tap.strays)


@pytest.mark.step("boot", limit=600)
def test_the_board_boots_what_was_written(place: Place, image: Target, provision: Provision | None) -> None:
    """Power-cycle, and hold it until the firmware's own boot-complete marker, or as long as that takes."""

    def judge(boot: Boot) -> None:
        if provision is not None and image.config is not None and place.boot_log is not None:
            require_provisioned(provision, image.config, place.boot_log.lines_since(boot.power_on_ns))

    found = image.plan.identity
    with excused(image):
        seen = steps.prove_boot(place, found.firmware, found.version, listed=image.task == "convert", judge=judge)
    if seen is None and image.config is not None:
        place.record.note("nothing proves that the firmware took its configuration", warning=True)


@pytest.mark.step("steady", last=True, limit=120)
def test_the_steady_current_is_sane(place: Place) -> None:
    steps.require_steady(place)
