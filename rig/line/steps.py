"""What the plans have in common: discharged, contact and identity, backup, proof of boot, steady current.

A plan (tests_hil) says which of them are done and in which order; each is a step of its own on record.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rig.bench.product import BOOT_PEAK
from rig.errors import BenchBlocked, Coded
from rig.flashers.base import ChipIdentity
from rig.flashers.fit import require_chip
from rig.flashers.matching import OWN, Known, Matched, read_by_matching
from rig.line.boot import Boot, boot_unseen, require_boot, require_listed, watch_boot, weak_supply
from rig.line.contact import check_contact
from rig.line.identity import another_board, identity_of
from rig.line.place import Place
from rig.line.timing import LINK, timed_at
from rig.line.writes import cut_off
from rig.records.backups import Backup, BackupStore
from rig.records.blocks import BlockStore

STEADY_SAMPLE_S = 1.0
_STEADY_LOOKS = 5  # choice
_INRUSH_S = 0.3  # of the board's time: capacitors charge, and the meter averages over what was before (choice)
_BOOT_S = 30.0  # where a product does not say how long a boot may take


def discharge(place: Place) -> None:
    """Output off, rail below the product's off level: BenchBlocked("rail-stuck") if it does not fall."""
    place.link.prepare()
    place.record.measure("off_volts", place.link.off_volts, "V", high="rail-stuck")


def identify(place: Place) -> ChipIdentity:
    """Link checks first, then power; contact; chip, flash, MAC. UnitFailed for another chip than the product's,
    BenchBlocked("wrong-board") for another board than the unit had in its earlier attempts."""
    record = place.record
    with timed_at(place, LINK):
        check_contact(place)
        who = place.rom.identify(place.link, place.progress)
    record.measure("chip", who.chip or "")
    record.measure("flash_id", who.flash_id.hex() if who.flash_id else "")
    record.measure("mac", who.mac or "")
    record.mac, record.identity, record.efuse = who.mac, identity_of(who), who.efuse
    if said := another_board(record.known_as, record.identity):
        raise BenchBlocked("wrong-board", f"unit {record.unit}: {said}")
    require_chip(who, place.slot.product)
    return who


def read_flash(place: Place, known: Known | None) -> Matched:
    """All of the flash, agreeing with the chip's CRC; what `known` has is told by CRC alone. Then `record.held`."""
    with place.power.calmly():
        read = read_by_matching(place.rom, place.link, place.slot.product.flash_size, known, place.progress)
    place.record.held = read.data
    for retry in read.retries:
        place.record.note(f"{place.rom.name}: {retry}", warning=True)
    return read


def take_backup(place: Place, *, fast: bool, accept_none: str | None = None) -> Backup | None:
    """All of the flash, durable on disk, before anything is written; the first one of a board stays its backup.

    `fast`: what earlier boards held too is not read again. `accept_none`: the reason why a board that cannot be read
    is worked on all the same; then None. Raises UnitFailed("unreadable" or "backup-mismatch") without it.
    """
    record = place.record
    store = BackupStore(record.run.path.parent / "backups")
    blocks = BlockStore(record.run.path.parent / "blocks")
    try:
        read = read_flash(place, blocks if fast else None)
    except Coded as problem:
        if not accept_none or problem.code not in ("unreadable", "backup-mismatch"):
            raise
        record.note(f"backup: none ({problem}); accepted: {accept_none}", warning=True)
        record.measure("backup", "none")
        return None
    identity = record.identity or f"slot-{place.slot.name}-{record.run.id}-{record.unit}"
    now = store.keep(identity, read.data)
    first = store.first(identity) or now
    if first.sha256 != now.sha256:
        record.note("this board has an earlier backup, which stays its backup; what it held now is kept too")
        if said := cut_off(store.folder.parent, identity):
            record.note(said, warning=True)
    record.measure("backup", "complete")
    record.measure("backup_time", read.seconds, "s")
    record.measure("backup_read", read.read_size, "B")
    record.measure("backup_matched", read.matched_size, "B")
    kept = now if first.sha256 == now.sha256 else first
    record.backup_kept(kept)
    if read.matched:
        record.note(
            f"backup: {read.read_size} bytes read, {read.matched_size} known by the chip's CRC: blank, or as on "
            "earlier boards",
            read=read.read,
            matched=read.matched,
        )
    _remember(blocks, read, place)
    return kept


def _remember(blocks: BlockStore, read: Matched, place: Place) -> None:
    """For the next board. It only saves time: what goes wrong with it is noted."""
    try:
        blocks.add(read.data[:OWN])
    except OSError as problem:
        place.record.note(f"what this board held is not kept for the next one's backup: {problem}", warning=True)
    for said in blocks.dropped:
        place.record.note(said, warning=True)


def boot(place: Place) -> Boot | None:
    """Power-cycle, and hold the board until its firmware's own boot-complete marker, or as long as that takes. None
    where no log port shows it: then it had its time, and its power all the while."""
    place.rom.close()
    if place.boot_log is None:
        boot_unseen(place.link, place.listed, speed=place.bench.speed)
        return None
    limit = place.slot.product.limits.get("boot_time")
    longest = (limit.maximum if limit else None) or _BOOT_S
    return watch_boot(place.link, place.boot_log, place.profiles, longest, speed=place.bench.speed)


def prove_boot(
    place: Place,
    firmware: str | None = None,
    version: str | None = None,
    *,
    listed: bool = True,
    judge: Callable[[Boot], None] = lambda boot: None,
) -> Boot | None:
    """A boot, on record, that comes up as `firmware` in `version` where these are known, as one that the product
    lists (`listed`) where not, and as `judge` wants it.

    Raises UnitFailed with what the log says of the board, BenchBlocked("weak-supply") for a rail that sagged.
    """
    record, seen = place.record, boot(place)
    measure_drawn(place)
    if seen is None:
        record.measure("boot_proof", "none")
        return None
    verdict = seen.verdict
    record.measure("boot_proof", verdict.kind.value)
    record.measure("firmware", verdict.firmware or "")
    record.measure("firmware_version", verdict.version or "")
    record.measure("reset_cause", verdict.reset_cause or "")
    record.measure("resets", verdict.resets)
    require_boot(seen, place.power, firmware, version)
    if firmware is None and listed:
        require_listed(verdict.firmware, place.listed)
    judge(seen)
    record.measure("boot_time", seen.seconds, "s", low="not-complete", high="not-complete")
    return seen


def measure_drawn(place: Place) -> None:
    """What the board drew while it booted, as the supply's meter shows it: judged against what the study that the
    product's supply settings lean on found to be enough. Where a boot is over before the meter shows anything of it
    (a simulated board at a high speed) nothing is measured, and a product that cites a study is told so."""
    drawn = place.power.drawn(_INRUSH_S / place.bench.speed)
    if drawn is None:
        if place.slot.product.supply.study is not None:
            place.record.note("the boot was over before the supply's meter showed its current: it is not measured")
        return
    place.record.measure(BOOT_PEAK, drawn.peak, "A")
    place.record.measure("boot_mean_current", drawn.mean, "A")


def require_steady(place: Place, suffix: str = "") -> float:
    """Amps that the running board draws once it is steady, inside the product's limits; `suffix` is put behind the
    names.

    The mean of a second, so that single bursts of the radio are in it by their share. One that calibrates or joins
    draws its peak (280 to 305 mA are documented) for as long as that takes, which is no fault. So a first mean above
    the maximum is no verdict yet: it has settled once two means in a row are inside, within five (choice), and the
    higher of the two is what is judged. A load that comes and goes does not settle, and the highest mean of all is
    judged. The highest on the way is on record as `settling_current`, which a product may set limits of its own for.
    """
    limit = place.slot.product.limits.get("steady_current")
    maximum = math.inf if limit is None or limit.maximum is None else limit.maximum
    looks: list[float] = []
    while True:
        volts, amps = place.average(STEADY_SAMPLE_S)
        place.link.check()
        if sag := weak_supply(place.power):
            raise sag
        looks.append(amps)
        settled = all(each <= maximum for each in looks[-2:])
        if settled or len(looks) == _STEADY_LOOKS:
            break
    if len(looks) > 1:
        amps = max(looks[-2:] if settled else looks)
        place.record.note(f"the current was looked at {len(looks)} times: at first it was above {maximum:g} A")
        place.record.measure(
            f"settling_current{suffix}", max(looks), "A", like="settling_current", high="current-high"
        )
    place.record.measure(
        f"steady_current{suffix}", amps, "A", like="steady_current", low="not-complete", high="current-high"
    )
    place.record.measure(f"steady_volts{suffix}", volts, "V", like="steady_volts")
    return amps
