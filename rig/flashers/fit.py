"""Is this board the product's? Asked of what the board says, before it is backed up and written."""

from __future__ import annotations

from rig.bench.product import Product
from rig.errors import UnitFailed
from rig.flashers.base import ChipIdentity


def require_chip(who: ChipIdentity, product: Product) -> None:
    """Raises UnitFailed for another chip or flash than the product's.

    A flash of another size is no detail: its backup would not be all of it, and addresses past its end wrap around
    to what the plan leaves alone.
    """
    if not who.flash_id or not any(who.flash_id):
        raise UnitFailed("unreadable", "the flash answers with id 000000: the ROM cannot read it")
    if who.chip_id != product.chip_id:
        raise UnitFailed("wrong-chip", f"the chip is a {who.chip}, {product.title} has a {product.chip}")
    if who.flash_size != product.flash_size:
        raise UnitFailed("wrong-chip", f"the flash holds {who.flash_size} bytes, not {product.flash_size}")


def rom_current(product: Product) -> tuple[float, float]:
    """(least, most) amps that a healthy board draws in its ROM; less is an empty slot. 0 where nobody says."""
    limits = product.limits.get("rom_current")
    if limits is None:
        return 0.0, 0.0
    return limits.minimum or 0.0, limits.maximum or 0.0
