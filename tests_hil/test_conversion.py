"""One unit, in order: back up, plan, flash, read again, reboot, prove that it boots.

The same for every task, only image and plan differ: convert to an image, recover a broken board with a full one,
restore a board's own backup.

Each test is a step; once one fails the rest is skipped. Factory firmware never runs before its backup: link
checks are running when the board gets its power, and the ROM keeps it until the power goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rig.bench.bench import Bench, Slot
from rig.bench.link import SlotLink
from rig.bench.power import BoardPower
from rig.bench.slot import OpenSlot
from rig.errors import BenchBlocked, Coded, ImageRefused, UnitFailed
from rig.flashers.base import Flasher, Progress
from rig.flashers.fit import require_chip
from rig.flashers.judge import judge_write
from rig.flashers.matching import OWN, Matched, read_by_matching
from rig.flashers.native import NativeFlasher
from rig.image.contents.provision import Provision
from rig.image.firmware import FirmwareProfile, load_profiles
from rig.line.boot import boot_unseen, require_boot, require_listed, watch_boot, weak_supply
from rig.line.identity import carry_over, identity_of, mac_after
from rig.line.provisioning import config_for, require_provisioned
from rig.line.record import UnitRecord
from rig.line.target import Target, board_of, excused, twin, wrong_board
from rig.records.backups import BackupStore
from rig.records.blocks import BlockStore
from rig.uart.bootlog import BootLog
from rig.uart.guard import Guard

ROM_SAMPLE_S = 0.4  # how long the current is averaged with the board waiting in its ROM
STEADY_SAMPLE_S = 1.0
LEAST_SAMPLE_S = 0.3  # on a fast simulated bench: the supply still answers at its own pace


def sample_time(bench: Bench, seconds: float) -> float:
    """How long to average for `seconds` of the board's time."""
    return max(LEAST_SAMPLE_S, seconds / bench.speed)


@pytest.fixture(scope="session")
def profiles(bench: Bench, slot: Slot) -> Sequence[FirmwareProfile]:
    """What this product's board may print once it is converted, the expected firmware first."""
    found = {profile.name: profile for profile in load_profiles(*bench.profiles("firmwares"))}
    return [found[name] for name in slot.product.firmware] + [
        profile for name, profile in found.items() if name not in slot.product.firmware
    ]


@pytest.mark.step("image")
def test_the_image_fits_the_product(image: Target, provision: Provision | None, record: UnitRecord) -> None:
    """Refused before the board gets any power: the image, and what would go with it."""
    record.measure("image_size", len(image.data), "B")


@pytest.mark.step("supply-off")
def test_the_rail_is_discharged(link: SlotLink, boot_log: BootLog | None, record: UnitRecord) -> None:
    link.prepare()
    record.measure("off_volts", link.off_volts, "V", high="rail-stuck")


@pytest.mark.step("identify")
def test_the_board_says_what_it_is(
    bench: Bench,
    link: SlotLink,
    rom: NativeFlasher,
    power: BoardPower,
    slot: Slot,
    image: Target,
    record: UnitRecord,
    progress: Progress,
) -> None:
    """Link checks first, then power; then current in the ROM, neither open nor short; then chip, flash, MAC."""
    who = rom.identify(link, progress)
    volts, amps = power.average(sample_time(bench, ROM_SAMPLE_S))
    record.measure("rom_current", amps, "A", low="no-current", high="short")
    record.measure("rail_volts", volts, "V", low="weak-supply", high="supply-refused")
    record.measure("chip", who.chip or "")
    record.measure("flash_id", who.flash_id.hex() if who.flash_id else "")
    record.measure("mac", who.mac or "")
    record.mac, record.identity, record.efuse = who.mac, identity_of(who), who.efuse
    require_chip(who, slot.product)
    if sentence := wrong_board(image, record.identity):
        raise BenchBlocked("wrong-board", sentence)


@pytest.mark.step("backup")
def test_the_backup_is_safe(
    link: SlotLink,
    rom: NativeFlasher,
    slot: Slot,
    record: UnitRecord,
    progress: Progress,
    pytestconfig: pytest.Config,
) -> None:
    """All of the flash, agreeing with the chip's CRC block by block, durable on disk before anything is written. What
    earlier boards held too is not read again, unless --backup full; this board's own bytes always are."""
    store = BackupStore(record.run.path.parent / "backups")
    blocks = BlockStore(record.run.path.parent / "blocks")
    fast = pytestconfig.getoption("--backup") == "fast"
    try:
        read = read_by_matching(rom, link, slot.product.flash_size, blocks if fast else None, progress)
    except Coded as problem:
        reason = pytestconfig.getoption("--accept-no-backup")
        if not reason or problem.code not in ("unreadable", "backup-mismatch"):
            raise
        record.note(f"backup: none ({problem}); accepted: {reason}", warning=True)
        record.measure("backup", "none")
        return
    record.held = read.data
    identity = record.identity or f"slot-{slot.name}-{record.run.id}-{record.unit}"
    now = store.keep(identity, read.data)
    first = store.first(identity) or now
    if first.sha256 != now.sha256:
        record.note("this board has an earlier backup, which stays its backup; what it held now is kept too")
    record.measure("backup", "complete")
    record.measure("backup_time", read.seconds, "s")
    record.measure("backup_read", read.read_size, "B")
    record.measure("backup_matched", read.matched_size, "B")
    for retry in read.retries:
        record.note(f"{rom.name}: {retry}", warning=True)
    record.backup_kept(now if first.sha256 == now.sha256 else first)
    if read.matched:
        record.note(
            f"backup: {read.read_size} bytes read, {read.matched_size} known by the chip's CRC: blank, or as on "
            "earlier boards",
            read=read.read,
            matched=read.matched,
        )
    _remember(blocks, read, record)


def _remember(blocks: BlockStore, read: Matched, record: UnitRecord) -> None:
    """For the next board. It only saves time: what goes wrong with it is noted."""
    try:
        blocks.add(read.data[:OWN])
    except OSError as problem:
        record.note(f"what this board held is not kept for the next one's backup: {problem}", warning=True)
    for said in blocks.dropped:
        record.note(said, warning=True)


@pytest.mark.step("plan")
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


@pytest.mark.step("flash")
def test_the_image_is_written(
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
    with record.writing(image.sha256, image.ranges) as verified:
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


@pytest.mark.step("settled")
def test_what_was_written_stays(
    board: OpenSlot, link: SlotLink, rom: NativeFlasher, image: Target, record: UnitRecord, progress: Progress
) -> None:
    """Power-cycle, and the chip's CRC again: cells that were erased or programmed too weakly read right at first. And
    of all the rest: a command that was damaged on its way may have hit another sector, and its retry hides that."""
    rom.close()
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


@pytest.mark.step("boot")
def test_the_board_boots_what_was_written(
    bench: Bench,
    link: SlotLink,
    rom: NativeFlasher,
    power: BoardPower,
    boot_log: BootLog | None,
    image: Target,
    slot: Slot,
    record: UnitRecord,
    provision: Provision | None,
    profiles: Sequence[FirmwareProfile],
) -> None:
    """Power-cycle, and hold it until the firmware's own boot-complete marker, or as long as that takes."""
    rom.close()
    if boot_log is None:
        boot_unseen(link, profiles[: len(slot.product.firmware)], speed=bench.speed)
        record.measure("boot_proof", "none")
        if image.config is not None:
            record.note("nothing proves that the firmware took its configuration", warning=True)
        return
    limit = slot.product.limits.get("boot_time")
    boot = watch_boot(link, boot_log, profiles, (limit.maximum if limit else None) or 30.0, speed=bench.speed)
    verdict = boot.verdict
    record.measure("boot_proof", verdict.kind.value)
    record.measure("firmware", verdict.firmware or "")
    record.measure("firmware_version", verdict.version or "")
    record.measure("reset_cause", verdict.reset_cause or "")
    record.measure("resets", verdict.resets)
    found = image.plan.identity
    with excused(image):
        require_boot(boot, power, found.firmware, found.version)
    if found.firmware is None and image.task == "convert":
        require_listed(verdict.firmware, profiles[: len(slot.product.firmware)])
    if provision is not None and image.config is not None:
        require_provisioned(provision, image.config, boot_log.lines_since(boot.power_on_ns))
    record.measure("boot_time", boot.seconds, "s", low="not-complete", high="not-complete")


@pytest.mark.step("steady", last=True)
def test_the_steady_current_is_sane(bench: Bench, power: BoardPower, link: SlotLink, record: UnitRecord) -> None:
    volts, amps = power.average(sample_time(bench, STEADY_SAMPLE_S))
    link.check()
    if sag := weak_supply(power):
        raise sag
    record.measure("steady_current", amps, "A", low="not-complete", high="current-high")
    record.measure("steady_volts", volts, "V")
