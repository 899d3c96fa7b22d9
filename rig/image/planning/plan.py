"""A plan: which bytes go where on one board. Flasher, tap and verify follow it, and not the file."""

from __future__ import annotations

from dataclasses import dataclass, field

from rig.image import flashmap
from rig.image.flashmap import Range
from rig.image.identity import Identity


@dataclass(frozen=True)
class Piece:
    """`length` bytes to be at `flash_offset`: of the file from `source_offset`, or `content`, which `what` names."""

    flash_offset: int
    length: int
    source_offset: int | None
    content: bytes | None = field(default=None, repr=False)
    what: str = ""

    @property
    def end(self) -> int:
        """One past its last byte in flash."""
        return self.flash_offset + self.length


@dataclass(frozen=True)
class Plan:
    """What is written: the pieces in flash order, and a note for the person and the record.

    `overrides`: the rules this breaks and was let off, each "rule: what would have been refused". `notes`: choices
    made for this board, a sentence each. `mac`: the MAC the board is given; None: it keeps its own. `leans_on`:
    ranges of the board's flash that decide over this plan; made without `Board.held` it is a first look only.
    """

    identity: Identity
    pieces: tuple[Piece, ...]
    note: str
    overrides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    mac: str | None = None
    leans_on: tuple[Range, ...] = ()

    @property
    def size(self) -> int:
        """Bytes written in all."""
        return sum(piece.length for piece in self.pieces)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """(flash offset, length) of every piece."""
        return [(piece.flash_offset, piece.length) for piece in self.pieces]

    def contents(self, data: bytes) -> list[tuple[int, bytes]]:
        """(flash offset, content) of every piece, out of the file's `data` where it is from there."""
        return [(piece.flash_offset, _content(piece, data)) for piece in self.pieces]

    def untouched(self, board: bytes) -> list[tuple[int, bytes]]:
        """(flash offset, content) of what the plan leaves alone of a board that held `board`, in whole sectors."""
        kept, at, sector = [], 0, flashmap.SECTOR
        for start, length in sorted(self.ranges):
            first = start // sector * sector
            if at < first:
                kept.append((at, board[at:first]))
            at = max(at, -(-(start + length) // sector) * sector)
        return [*kept, (at, board[at:])] if at < len(board) else kept


def _content(piece: Piece, data: bytes) -> bytes:
    if piece.content is not None:
        return piece.content
    assert piece.source_offset is not None
    return data[piece.source_offset : piece.source_offset + piece.length]
