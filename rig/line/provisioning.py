"""Provisioning in the line: each unit's own OpenBeken configuration, made for it before its first boot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rig.bench.product import Product
from rig.errors import UnitFailed, UsageProblem
from rig.home.config import Home
from rig.image.contents.openbeken import ObkConfig
from rig.image.contents.provision import Provision, load_provision
from rig.image.contents.tuya import TuyaStorage, read_storage
from rig.image.planning.board import Board
from rig.line.target import Target
from rig.uart.bootlog import LogLine
from rig.uart.markers import find

_ANY_MAC = "02:00:00:00:00:01"  # for a first look, before the board says its own


def provision_of(
    product: Product, path: Path | None, *, off: bool = False, home: Home | None = None
) -> Provision | None:
    """The file's provisioning, else the product's own, else what `home` tells of its network; None with `off`.
    UsageProblem for a file that is none."""
    if off and path is not None:
        raise UsageProblem("--provision and --no-provision: give one of the two")
    if off:
        return None
    if path is not None:
        return load_provision(path)
    return product.provision or (None if home is None else home.as_provision())


def check_provision(provision: Provision, target: Target, serials: Sequence[str]) -> tuple[str, ...]:
    """Its secrets, once all that can be known before a board has power is right for these units.

    Raises UsageProblem: an image that is not OpenBeken, a secret that is missing or open to others, a serial number
    that makes no name.
    """
    found = target.plan.identity
    if found.firmware != "OpenBeken":
        raise UsageProblem(
            f"{target.name} is {found.what}: provisioning writes OpenBeken's configuration; leave it out "
            "(--no-provision), or convert to OpenBeken"
        )
    bare = provision.model_copy(update={"pins": ()})  # Tuya's storage is on the board
    for serial in serials:
        bare.config(serial, _ANY_MAC, None)
    return provision.secrets()


def config_for(provision: Provision, serial: str, mac: str | None, board: Board) -> ObkConfig:
    """This unit's configuration. UnitFailed("provision-missing") where the board lacks what it is made of."""
    try:
        return provision.config(serial, mac, _storage(board))
    except UsageProblem as problem:
        raise UnitFailed("provision-missing", str(problem)) from None


def _storage(board: Board) -> TuyaStorage | None:
    """Tuya's storage of this board: in its flash, else in its first backup."""
    for flash in (board.held, board.backup):
        found = read_storage(flash) if flash is not None else None
        if found is not None and found.pins:
            return found
    return None


def require_provisioned(provision: Provision, config: ObkConfig, lines: Sequence[LogLine]) -> None:
    """UnitFailed("provision-refused") unless the firmware's own log says all that it must of this configuration."""
    missing = [text for text in provision.expected(config) if find(lines, [text]) is None]
    if missing:
        raise UnitFailed("provision-refused", f"it came up, and its log never says {missing[0]!r}")
