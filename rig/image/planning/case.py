"""One file for one board while it is judged: what is known of both, and the plan as far as it has come."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rig.image.firmware import FirmwareProfile
from rig.image.flashmap import Range
from rig.image.identity import Identity, Kind
from rig.image.planning.board import Board
from rig.image.planning.plan import Piece, Plan
from rig.image.planning.rules import Overrides

_VERSION = re.compile(r"(?<![\d.])\d+\.\d+\.\d+(?![\d.]*\d)")
_OWN_BACKUP = "it comes back with the board's own backup (rig restore)"


@dataclass
class Case:
    """`pieces` in any order; `own`: those of them that are this board's own identity, or asked for as such."""

    data: bytes = field(repr=False)
    name: str
    found: Identity
    board: Board
    let: Overrides
    profiles: Sequence[FirmwareProfile] | None = None
    pieces: list[Piece] = field(default_factory=list)
    own: list[Piece] = field(default_factory=list)
    note: str = ""
    notes: list[str] = field(default_factory=list)
    mac: str | None = None
    leans_on: list[Range] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.name or "the file"

    @property
    def instead(self) -> str:
        return what_instead(self.found, self.name)

    def refuse(self, rule: str, reason: str, instead: str | None = None, *, final: bool = False) -> None:
        """ImageRefused, unless the rule is overridden and not `final`. `reason` is read after "it is"."""
        self.let.broken(rule, self.label, reason, instead or self.instead, final=final)

    def plan(self) -> Plan:
        pieces = tuple(sorted((*self.pieces, *self.own), key=lambda piece: piece.flash_offset))
        notes = (*self.notes, *self.let.unused)
        return Plan(self.found, pieces, self.note, self.let.said, notes, self.mac, tuple(self.leans_on))


def what_instead(found: Identity, name: str) -> str:
    """What to use, with the version the file (or, failing that, its name) tells."""
    if found.kind is Kind.BLANK:
        return f"use {_qio(None)}, or the board's own backup"
    if found.kind is Kind.STORAGE:
        return f"{_OWN_BACKUP}, or use {_qio(None)}, which needs none"
    if found.kind is Kind.CALIBRATION:
        return f"{_OWN_BACKUP}; for firmware use {_qio(None)} at 0x0"
    if found.kind is Kind.OBK_CONFIG:
        return f"use {_qio(None)} at 0x0, and make the configuration anew with `rig image provision`"
    if found.kind is Kind.FULL_DUMP and found.chip == "BK7231N":
        return f"use another dump of such a board, or {_qio(None)}, at 0x0"
    version = found.version if found.firmware == "OpenBeken" or found.kind is Kind.UG else None
    if version is None and found.kind in (Kind.RBL, Kind.UF2, Kind.UG):
        hint = _VERSION.search(name)
        version = hint.group() if hint else None
    whole = " whole" if found.problems else ""
    return f"use {_qio(version)}{whole} at 0x0 instead"


def _qio(version: str | None) -> str:
    return f"OpenBK7231N_QIO_{version or '<version>'}.bin"
