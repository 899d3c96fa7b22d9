"""An inspection as one page: the verdict, the flash map, every table; offline, without scripts, light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from rig.cli.inspect_view import board_lines, boots, content_rows, evidence_lines, holds_nothing, piece_line
from rig.image.health.diagnosis import Diagnosis
from rig.image.health.picture import map_svg
from rig.image.inspection import Inspection
from rig.image.printable import printable

_CSS = """
h1, .verdict { overflow-wrap: anywhere; }
td { overflow-wrap: anywhere; min-width: 5.5em; }
td.code { font-family: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace; white-space: nowrap; }
svg { display: block; max-width: 100%; height: auto; }
"""

Row = Sequence[str]


def page(found: Inspection, diagnosis: Diagnosis) -> str:
    """The page as a text. Whatever came from the file is escaped."""
    told = found.diagnosis
    name = _text(found.file.name)
    parts = [
        '<p class="kicker">Inspection of a firmware file</p>',
        f"<h1>{name}</h1>",
        f'<p class="verdict {"pass" if found.plan.allowed else "fail"}">{_text(found.verdict)}</p>',
        _facts([("Boots", [boots(told)]), ("On a board", [told.on_a_board])]),
        _section("Flash map", _picture(diagnosis, found)),
        _section("Regions", _table(
            ("Region", "From", "To", "State", "What is in it", "Bytes used"),
            [(at.name, f"0x{at.start:06X}", f"0x{at.end:06X}", at.state, at.what, f"{at.used:,}")
             for at in told.regions], code=(1, 2))),
        _section("Damage", _table(
            ("Name", "At", "Bytes", "What it means"),
            [(one.name, f"0x{one.offset:06X}", f"{one.length:,}", one.sentence) for one in told.damages],
            code=(0, 1)) if told.damages else "" if holds_nothing(told) else "<p>None found.</p>"),
        _section(f"Onto a {found.board.chip} board", _facts(_plan(found))),
        _section("Contents", _facts(content_rows(found))),
        _section("How that is known", _facts(
            (item.about, [f"{item.value} ({item.confidence})", *evidence_lines(item.evidence)])
            for item in found.identity.statements)),
        _section("File", _facts([("sha256", [found.file.sha256]), ("Size", [f"{found.file.size:,} bytes"])])),
    ]  # fmt: skip
    look = files("reports").joinpath("templates/page.css").read_text(encoding="utf-8") + _CSS
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{name}</title>\n<style>\n{look}</style>\n</head>\n<body>\n"
    ) + "\n".join([*parts, "</body>", "</html>", ""])


def _plan(found: Inspection) -> Iterable[tuple[str, list[str]]]:
    yield "The board", board_lines(found)
    refusal = found.plan.refusal
    if refusal is not None:
        yield "Refused", [f"{refusal.reason} [{refusal.rule}]"]
        yield "Instead", [refusal.instead] if refusal.instead else []
    for place in found.plan.places:
        yield f"At 0x{place.start:X}", [place.note, *place.notes, *map(piece_line, place.pieces)]


def _picture(diagnosis: Diagnosis, found: Inspection) -> str:
    drawn = map_svg(diagnosis, found.file.name, alone=False)
    return drawn[drawn.index("<svg") :]  # inside a page there is no XML declaration


def _section(title: str, content: str) -> str:
    return f"<h2>{_text(title)}</h2>\n{content}" if content else ""


def _facts(rows: Iterable[tuple[str, list[str]]]) -> str:
    filled = [(label, values) for label, values in rows if values]
    if not filled:
        return ""
    shown = [f"<dt>{_text(label)}</dt><dd>{'<br>'.join(map(_text, values))}</dd>" for label, values in filled]
    return "\n".join(['<dl class="facts">', *shown, "</dl>"])


def _table(head: Row, rows: Sequence[Row], code: Sequence[int]) -> str:
    def cell(at: int, value: str) -> str:
        return f'<td class="code">{_text(value)}</td>' if at in code else f"<td>{_text(value)}</td>"

    top = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "\n".join("<tr>" + "".join(cell(at, value) for at, value in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _text(text: str) -> str:
    return escape(printable(text))
