"""The flash's write protection: taken off before the first erase, and only if it is on."""

from __future__ import annotations

from rig.chip.ids import PROTECT_MASK
from rig.errors import UnitFailed
from rig.flashers.session import Session

_TRIES = 3  # choice: how often the register is written
_PASSING = 0x03  # WIP and WEL: what the flash is about, no setting. Source: SPI NOR data sheets (GD25Q16)


def unprotect(session: Session) -> None:
    """Clear the protection bits, only if they are set: a needless status write is a risk (bk7231tools PR 29).

    The register comes without a check, and what is written is derived from it: it has to be read twice alike first.
    What is written has none either: all of it has to stand afterwards, else it is written again.
    Raises UnitFailed: "flash-protected" when the bits stay, "unreadable" for an unknown part or a value that changes,
    "flasher-failed" when other bits came out wrong for good.
    """
    part = session.part
    mask = PROTECT_MASK & (0xFFFF if part.sr_bytes == 2 else 0xFF)
    if not session.do(lambda rom: rom.status_register(part.sr_bytes)) & mask:
        return
    found = _stable(session, part.sr_bytes)
    if not found & mask:
        return
    wanted = found & ~mask
    for _ in range(_TRIES):
        session.do(lambda rom: rom.write_status_register(wanted, part.sr_bytes))
        after = _stable(session, part.sr_bytes)
        if not (after ^ wanted) & ~_PASSING:
            return
    if after & mask:
        raise UnitFailed("flash-protected", f"the status register stays at 0x{after:04x} ({part.name})")
    raise UnitFailed(
        "flasher-failed", f"the status register was to be 0x{wanted:04x} and stays at 0x{after:04x} ({part.name})"
    )


def _stable(session: Session, size: int) -> int:
    return session.alike(lambda rom: rom.status_register(size), "the flash's status register")
