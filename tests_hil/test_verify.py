"""One unit, nothing erased, nothing written: does it hold what a conversion would have put there, and does it boot?

The guard on the wire is sealed before the first byte. A golden unit runs this plan (--role golden): what
it finds is then said of the bench. No backup is kept, since nothing is at stake.
"""

from __future__ import annotations

import pytest

from rig.bench.bench import Slot
from rig.errors import ImageRefused, UnitFailed
from rig.line import steps
from rig.line.place import Place
from rig.line.record import UnitRecord
from rig.line.target import Target, board_of
from rig.line.timing import LINK, timed_at
from rig.line.verification import Expected, require_content
from rig.records.backups import BackupStore
from rig.records.blocks import BlockStore


@pytest.mark.step("image", limit=120)
def test_the_image_fits_the_product(image: Target, record: UnitRecord) -> None:
    record.measure("image_size", len(image.data), "B")


@pytest.mark.step("supply-off", limit=120)
def test_the_rail_is_discharged(place: Place) -> None:
    steps.discharge(place)


@pytest.mark.step("identify", limit=400)
def test_the_board_says_what_it_is(place: Place) -> None:
    steps.identify(place)


@pytest.mark.step("read", limit=1200)
def test_all_of_the_flash_is_read(place: Place, image: Target, record: UnitRecord) -> None:
    """Each block agrees with the chip's CRC; those that hold what they should are told by it alone."""
    known = Expected(image.pieces, BlockStore(record.run.path.parent / "blocks"))
    with timed_at(place, LINK, baud=True):
        read = steps.read_flash(place, known)
    record.measure("read_time", read.seconds, "s")
    record.measure("read_size", read.read_size, "B")
    record.measure("matched_size", read.matched_size, "B")


@pytest.mark.step("verify", limit=200)
def test_the_flash_holds_what_it_should(place: Place, slot: Slot, image: Target, record: UnitRecord) -> None:
    """Compared with the plan for this very board, as a conversion would make it now, and not with the file."""
    store = BackupStore(record.run.path.parent / "backups")
    kept = store.first(record.identity) if record.identity else None
    backup = kept.content() if kept else None
    try:
        image.aim(board_of(slot.product, efuse=record.efuse, held=record.held, backup=backup))
    except ImageRefused as problem:
        raise UnitFailed("image-refused", str(problem)) from None
    record.measure("verified_size", require_content(record.held or b"", image.pieces, image.name), "B")


@pytest.mark.step("boot", limit=600)
def test_the_board_boots(place: Place, image: Target) -> None:
    found = image.plan.identity
    steps.prove_boot(place, found.firmware, found.version)


@pytest.mark.step("steady", last=True, limit=120)
def test_the_steady_current_is_sane(place: Place) -> None:
    steps.require_steady(place)
