"""An inspection on the terminal: the verdict first, then what a board would do, the map, contents, evidence."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from rig.image.health.diagnosis import Diagnosis
from rig.image.health.findings import Forecast
from rig.image.health.picture import map_text
from rig.image.inspection import DiagnosisFacts, EvidenceFacts, Inspection, PieceFacts, StorageFacts
from rig.image.printable import printable

_LABEL = 13  # characters
_HANGING = "  "  # before the further lines of a long value
_WIDEST = 110
_MOST_DAMAGES = 12
_FORECASTS = {True: "yes", False: "no", None: "cannot be told"}


def show(found: Inspection, diagnosis: Diagnosis, console: Console) -> None:
    """Print it: as it fits the console's width, without colour where that has none."""
    width = min(console.width, _WIDEST)
    page = Page(console, width)
    page.line(found.file.name, "bold")
    page.paragraph(found.verdict, "bold green" if found.plan.allowed else "bold red")
    _board(page, found)
    if any(region.state != "absent" for region in found.diagnosis.regions):
        page.heading("Flash map")
        console.print(map_text(diagnosis, width))
    _places(page, found)
    _contents(page, found)
    _evidence(page, found)


class Page:
    """Lines of at most `width` characters; every text made printable first."""

    def __init__(self, console: Console, width: int) -> None:
        self._console, self._width = console, width

    def line(self, text: str, style: str = "") -> None:
        self._console.print(Text(printable(text), style), soft_wrap=True)

    def heading(self, text: str) -> None:
        self.line("")
        self.line(text, "bold")

    def paragraph(self, text: str, style: str = "") -> None:
        for part in self._wrapped(text, self._width):
            self.line(part, style)

    def row(self, label: str, value: str, style: str = "") -> None:
        """`label` in its column, `value` beside it over as many lines as it takes."""
        for at, part in enumerate(self._wrapped(value, self._width - _LABEL - len(_HANGING))):
            head = f"{label if at == 0 else '':<{_LABEL - 1}} {_HANGING if at else ''}"
            self._console.print(Text().append(head, "dim").append(part, style), soft_wrap=True)

    def rows(self, label: str, values: Iterable[str], style: str = "") -> None:
        for at, value in enumerate(values):
            self.row(label if at == 0 else "", value, style)

    def _wrapped(self, text: str, width: int) -> list[str]:
        lines = Text(printable(text)).wrap(self._console, max(width, 20))
        return [line.plain.rstrip() for line in lines] or [""]


def _board(page: Page, found: Inspection) -> None:
    page.line("")
    told = found.diagnosis
    page.row("Boots", boots(told), "red" if told.bootable is False else "")
    page.row("On a board", told.on_a_board)
    damages = [f"{one.sentence} [{one.name}]" for one in told.damages]
    none = [] if holds_nothing(told) else ["none found"]
    page.rows("Damage", damages[:_MOST_DAMAGES] or none, "red" if damages else "")
    if len(damages) > _MOST_DAMAGES:
        page.row("", f"and {len(damages) - _MOST_DAMAGES} more, in --json and --html")


def boots(told: DiagnosisFacts) -> str:
    """The forecast in a word or two."""
    return "nothing in it to start" if holds_nothing(told) else _FORECASTS[told.bootable]


def holds_nothing(told: DiagnosisFacts) -> bool:
    """Whether the file has nothing a board starts from, so that no damage to it was looked for either."""
    return told.forecast == Forecast.NOT_A_FLASH and not told.damages


def _places(page: Page, found: Inspection) -> None:
    page.heading(f"Onto a {found.board.chip} board")
    page.rows("The board", board_lines(found))
    refusal = found.plan.refusal
    if refusal is not None:
        page.row("Refused", f"{refusal.reason} [{refusal.rule}]", "red")
        page.rows("Instead", [refusal.instead] if refusal.instead else [])
        if refusal.overridable:
            page.row("", f"--override {refusal.rule} would write it all the same, and say so in the record")
    for place in found.plan.places:
        page.row(f"At 0x{place.start:X}", place.note)
        page.rows("", [*place.notes, *map(piece_line, place.pieces)])


def board_lines(found: Inspection) -> list[str]:
    """What is known of the board the file is judged for."""
    board = found.board
    key = {"tuya": "Tuya's cipher key", "zero": "no encryption", "unknown": "a cipher key this rig does not know",
           None: "a cipher key its efuse does not tell"}[board.key]  # fmt: skip
    how = "by its efuse" if board.efuse_read else "as Tuya's boards have it (--efuse FILE looks)"
    holds = f"holds {board.holds}" if board.holds else "what it holds is not known (--onto DUMP looks)"
    return [f"{board.flash_size >> 20} MiB of flash, {key} {how}; {holds}"]


def piece_line(piece: PieceFacts) -> str:
    """One piece of a plan: from where to where."""
    to = f"0x{piece.flash_offset:06X}-0x{piece.flash_offset + piece.length:06X}"
    source = piece.what or "made by the rig"
    if piece.source_offset is not None:
        source = f"the file from 0x{piece.source_offset:X}" + (f", {piece.what}" if piece.what else "")
    return f"{to}  {piece.length:,} bytes: {source}"


def _contents(page: Page, found: Inspection) -> None:
    rows = list(content_rows(found))
    if rows:
        page.heading("Contents")
    for label, values in rows:
        page.rows(label, values)


def content_rows(found: Inspection) -> Iterable[tuple[str, list[str]]]:
    """(label, lines) of what the file holds besides code."""
    held = found.contents
    if held.storage:
        yield from _storage(held.storage)
    if held.config:
        state = "accepted by the firmware" if held.config.accepted else "rejected by the firmware"
        fields = [f"{name}: {value}" for name, value in held.config.fields.items()]
        yield "OpenBeken", [state, *held.config.problems, *fields]
        if held.config.pins:
            yield "Its pins", [", ".join(held.config.pins)]
    if held.counters:
        told = held.counters
        yield "Boot counts", [f"started {told.boots} times, {told.failures} of them since the last good start"]
    if held.calibration:
        yield "MAC", [held.calibration.mac or "none"]
        yield "Calibration", list(held.calibration.problems) or [f"{len(held.calibration.entries)} values, sound"]
    if held.credentials:
        hint = "" if held.secrets is not None else " (--show-secrets shows them)"
        yield "Credentials", [f"present: {', '.join(held.credentials)}{hint}"]
    if held.secrets is not None:
        yield "Secrets", [f"{name}: {value}" for name, value in held.secrets.items()] or ["none"]


def _storage(storage: StorageFacts) -> Iterable[tuple[str, list[str]]]:
    if storage.problem:
        yield "Tuya storage", [f"at 0x{storage.offset:X}, not readable: {storage.problem}"]
        return
    yield "Tuya storage", [f"at 0x{storage.offset:X}, {len(storage.keys)} keys: {', '.join(storage.keys)}"]
    yield "Module", [storage.module or "not told"]
    if storage.device:
        yield "Device", [f"{name}: {value}" for name, value in storage.device.items()]
    pins = [f"{name} {value}" for name, value in storage.pins.items() if name.endswith("_pin")]
    more = len(storage.pins) - len(pins)
    if storage.pins:
        yield "Pins", [", ".join(pins) or "none", f"and {more} other parameters, in --json"]
    if storage.data_points:
        yield "Data points", [", ".join(storage.data_points)]
    if storage.template:
        yield "For OpenBeken", [", ".join(storage.template)]
    if storage.startup:
        yield "Start-up", [storage.startup]
    if storage.notes:
        yield "Left out", list(storage.notes)


def _evidence(page: Page, found: Inspection) -> None:
    page.heading("How that is known")
    shown: set[str] = set()
    for item in found.identity.statements:
        page.row(item.about, f"{item.value} ({item.confidence})")
        lines = evidence_lines(item.evidence)
        page.rows("", [line for line in lines if line not in shown])
        shown.update(lines)
    page.row("bytes", f"{found.file.size:,}")
    page.row("sha256", found.file.sha256)


def evidence_lines(evidence: Iterable[EvidenceFacts]) -> list[str]:
    """Each piece of evidence as "0x1D0000: 54 4c 56 00 = calibration"."""
    lines = []
    for one in evidence:
        data = bytes.fromhex(one.data)
        place = f"0x{one.offset:X}: " if one.offset is not None else ""
        lines.append(place + (f"{data.hex(' ')} = " if data else "") + one.meaning)
    return lines
