"""The flash's write protection: taken off before the first erase, and only if it is on."""

from __future__ import annotations

from rig.chip.ids import PROTECT_MASK
from rig.errors import UnitFailed
from rig.flashers.session import Session

_TRIES = 3  # choice: how often the register is written


def unprotect(session: Session) -> None:
    """Clear the protection bits, only if they are set: a needless status write is a risk (bk7231tools PR 29).

    The register comes without a check, and what is written is derived from it: it has to be read twice alike first.
    Raises UnitFailed: "flash-protected" when the bits stay, "unreadable" for an unknown part or a value that changes.
    """
    part = session.part
    mask = PROTECT_MASK & (0xFFFF if part.sr_bytes == 2 else 0xFF)
    if not session.do(lambda rom: rom.status_register(part.sr_bytes)) & mask:
        return
    for _ in range(_TRIES):
        before = _stable(session, part.sr_bytes)
        if not before & mask:
            return
        wanted = before & ~mask
        session.do(lambda rom, wanted=wanted: rom.write_status_register(wanted, part.sr_bytes))  # type: ignore[misc]
    after = _stable(session, part.sr_bytes)
    if after & mask:
        raise UnitFailed("flash-protected", f"the status register stays at 0x{after:04x} ({part.name})")


def _stable(session: Session, size: int) -> int:
    """The register, read twice alike."""
    last = -1
    for _ in range(4):
        value = session.do(lambda rom: rom.status_register(size))
        if value == last:
            return value
        last = value
    raise UnitFailed("unreadable", "the flash's status register reads differently each time")
