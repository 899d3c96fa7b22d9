"""The guard before the wire: which bytes of a file may go where on this board, or one sentence on why none may.

A file is judged by its content (`rig.image.identify`); its name is used in the sentence only. What passes becomes
a plan of pieces, and everything downstream (flasher, tap, verify) follows the plan and not the file. Each refusal
names its rule (`rig.image.planning.rules`), by which some can be overridden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rig.errors import UsageProblem
from rig.image.contents.calibration import parse_own_mac
from rig.image.firmware import FirmwareProfile
from rig.image.identify import identify
from rig.image.identity import Identity, Kind
from rig.image.planning.board import Board, board_key
from rig.image.planning.case import Case
from rig.image.planning.checks import check_board, check_identity, check_inside, judge_file
from rig.image.planning.places import bring_back, configure, place, place_own_backup
from rig.image.planning.plan import Piece, Plan
from rig.image.planning.rules import Overrides

__all__ = ["Board", "Piece", "Plan", "board_key", "plan_erase", "plan_write"]


def plan_write(
    data: bytes,
    name: str,
    *,
    board: Board | None = None,
    start: int | None = None,
    keep_identity: bool = True,
    own_backup: bool = False,
    recover: bool = False,
    overrides: Sequence[str] = (),
    config: bytes | None = None,
    profiles: Sequence[FirmwareProfile] | None = None,
) -> Plan:
    """The plan for writing the file `data`, called `name`, to `board`.

    A QIO goes to 0x0 (with `start` 0x11000: its app part there), an app to 0x11000 only, a full dump to 0x0, a UF2
    where its blocks say, an OpenBeken configuration and a calibration sector to their own. With `keep_identity` a
    dump is another board's, and this board's calibration sector and Tuya storage stay (`rig.image.planning.kept`).
    `own_backup`: it is this board's own, and goes back whole; its damage is a note. `recover`: with a QIO, which
    brings no calibration, what the board lost of its own comes back from its backup too. `overrides`: names of rules
    it is let off from. `config`: an OpenBeken configuration to be written with the image.

    Without `board.held` it is a first look: what depends on the board's flash is then not judged (`Plan.leans_on`).
    Raises ImageRefused with one sentence: what the file is, what to use instead; UsageProblem for a chip whose
    flash is not mapped, an override that is none, a MAC that is none.
    """
    board = board or Board()
    if board.chip != "BK7231N":
        raise UsageProblem(f"this rig writes BK7231N boards; it has no rules for {board.chip}.")
    if board.mac:
        board = replace(board, mac=parse_own_mac(board.mac))
    case = Case(data, name, identify(data, name, profiles), board, Overrides.of(overrides), profiles)
    if own_backup:
        place_own_backup(case, start)
    else:
        judge_file(case)
        place(case, start, keep_identity)
        if recover and case.found.kind is Kind.QIO:
            bring_back(case)
    if config is not None:
        configure(case, config)
    check_inside(case)
    if not own_backup:
        check_identity(case)
        check_board(case)
    return case.plan()


def plan_erase(offset: int, length: int, board: Board | None = None, overrides: Sequence[str] = ()) -> Overrides:
    """Whether this range may be erased: what was overridden for it. ImageRefused where a rule stands against it."""
    board = board or Board()
    let = Overrides.of(overrides)
    case = Case(b"", f"0x{offset:X}+0x{length:X}, to be erased,", Identity(Kind.BLANK, "a range"), board, let)
    case.pieces = [Piece(offset, length, None)]
    check_inside(case)
    check_identity(case)
    return let
