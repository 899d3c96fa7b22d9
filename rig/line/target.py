"""What a unit is to become: the image of its task, judged before the board has power, then planned for that board.

convert    the image onto a board whose factory firmware ran
recover    a full image onto a board that may hold anything; what makes it this board stays its own
restore    a board's own backup, whole, back onto it
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rig.bench.product import Product
from rig.errors import ImageRefused, UnitFailed, UsageProblem
from rig.image import flashmap
from rig.image.contents.calibration import read_calibration
from rig.image.contents.openbeken import ObkConfig, write_config
from rig.image.identify import read_image
from rig.image.identity import Kind
from rig.image.planning.board import Board, board_key
from rig.image.planning.guard import Plan, plan_write
from rig.image.planning.trust import Allowed, require_allowed
from rig.line.identity import efuse_mac
from rig.records.events import Task
from rig.records.kept import KeptBackup

_FULL = (Kind.FULL_DUMP, Kind.QIO)


@dataclass(frozen=True)
class Order:
    """What was asked for. `image`: a file, for convert and recover; `own`: a backup, for restore. `allowed`: the
    bench's list of images; `overrides`: rules by name. `sha256`: of the image as the run judged it."""

    task: Task
    image: Path | None = None
    own: KeptBackup | None = None
    overrides: tuple[str, ...] = ()
    allowed: Allowed | None = None
    sha256: str | None = None


@dataclass
class Target:
    """An image and where it goes: at first as far as the product tells, after `aim` for one board. What is written,
    verified and recorded follows `plan`, never the file."""

    order: Order
    name: str
    data: bytes
    plan: Plan
    config: ObkConfig | None = field(default=None, repr=False)  # holds passwords

    @property
    def task(self) -> Task:
        return self.order.task

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pieces(self) -> list[tuple[int, bytes]]:
        """(flash offset, content) of every range to write."""
        return self.plan.contents(self.data)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return list(self.plan.ranges)

    def aim(self, board: Board, config: ObkConfig | None = None) -> Plan:
        """Plan for this very board, with an OpenBeken configuration if one is given; `plan` is that from now on.

        Raises ImageRefused for a board that the image does not fit; then nothing changes.
        """
        stored = None if config is None else write_config(config)
        self.plan, self.config = _plan(self.order, self.data, self.name, board, stored), config
        return self.plan


def open_target(order: Order, product: Product) -> Target:
    """Read and judge what was ordered, knowing the product and no board yet.

    Raises UsageProblem or ImageRefused in one sentence: the board never gets any power.
    """
    if order.own is not None:
        name, data = order.own.name, order.own.backup.content()
    else:
        if order.image is None:
            raise UsageProblem("no image: name one with --image FILE, or as image in bench.toml")
        name, data = order.image.name, read_image(order.image)
        digest = hashlib.sha256(data).hexdigest()
        if order.sha256 not in (None, digest):
            raise UsageProblem(f"{order.image} was changed since the run began: it has another sha256 now")
        require_allowed(digest, order.allowed, name)
    plan = _plan(order, data, name, Board(chip=product.chip, flash_size=product.flash_size), None)
    if order.task == "recover" and plan.identity.kind not in _FULL:
        raise ImageRefused(
            f"{name} is {plan.identity.what}: a broken board may lack what it does not bring, so it is recovered "
            "with a full dump or a QIO; for the app alone use rig convert.",
            rule="no-bootloader",
        )
    return Target(order, name, data, plan)


def board_of(
    product: Product,
    *,
    efuse: bytes | None,
    held: bytes | None,
    backup: bytes | None,
    mac: str | None = None,
    no_backup: bool = False,
) -> Board:
    """What is known of the board in the slot: from its efuse, its flash now, its first backup, and the user."""
    return Board(
        chip=product.chip,
        flash_size=product.flash_size,
        key=board_key(efuse),
        held=held,
        backup=backup,
        efuse_mac=efuse_mac(efuse),
        mac=mac,
        no_backup=no_backup,
    )


def wrong_board(target: Target, identity: str | None) -> str | None:
    """Why a backup does not go back onto the board that says it is `identity`; None where it is its own."""
    own = target.order.own
    if own is None or identity in own.identities:
        return None
    who = identity or "one that tells neither UID nor MAC"
    return (
        f"the board in the slot is {who}, the backup is of {own.identity} (unit {own.unit} of {own.run.id}): put "
        "that board in; to give this one such content with its own identity, use rig recover --image with the dump"
        + (", and --mac if it is that board and lost its calibration" if identity is None else "")
    )


def twin(target: Target, mac: str | None) -> str | None:
    """What to say of a dump that has the very MAC the board will have; None where it has not."""
    if target.order.own is not None or target.plan.identity.kind is not Kind.FULL_DUMP:
        return None
    at = flashmap.CALIBRATION[target.plan.identity.chip or "BK7231N"]
    found = read_calibration(target.data[at : at + flashmap.SECTOR])
    if found is None or found.mac is None or found.mac != mac:
        return None
    return (
        f"{target.name} has this board's MAC, {mac}: if it is another board's dump, both cannot be in one network; "
        "recover this one with a --mac of its own"
    )


@contextlib.contextmanager
def excused(target: Target) -> Iterator[None]:
    """A board whose own backup would not have booted either: the failure stays one, and its sentence says so."""
    try:
        yield
    except UnitFailed as problem:
        from rig.image.health.diagnosis import Forecast, diagnose  # only a failed restore asks

        found = diagnose(target.data) if target.order.own is not None else None
        if found is None or found.forecast in (Forecast.BOOTS, Forecast.UNKNOWN):
            raise
        raise UnitFailed(
            problem.code,
            f"{problem}; its backup is back, byte for byte, and was of no better board: {found.on_a_board}",
        ) from None


def _plan(order: Order, data: bytes, name: str, board: Board, config: bytes | None) -> Plan:
    return plan_write(
        data,
        name,
        board=board,
        keep_identity=order.own is None,
        own_backup=order.own is not None,
        recover=order.task == "recover",
        overrides=order.overrides,
        config=config,
    )
