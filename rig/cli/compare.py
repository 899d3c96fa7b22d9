"""`rig image compare`: how two files differ, by what it means and then in bytes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rig.cli.terminal import out, say_json
from rig.errors import Exit

if TYPE_CHECKING:
    from rig.image.compare import Comparison, Difference

HELP = (
    "How two dumps or images differ: firmware, MAC, settings, keys; then bytes. "
    "Example: rig image compare before.bin after.bin"
)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A dump or image.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one; told as what became of A.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if they differ in meaning.")] = False,
) -> None:
    from rig.image.compare import compare as compare_images
    from rig.image.identify import read_image

    found = compare_images(read_image(a), read_image(b))
    if as_json:
        say_json(as_dict(found, a.name, b.name))
    else:
        _show(found, a.name, b.name)
    raise typer.Exit(int(Exit.FAILED if check and not found.same_meaning else Exit.GOOD))


def as_dict(found: Comparison, a: str, b: str) -> dict[str, Any]:
    """The comparison for programs; offsets and sizes are bytes of the flash."""
    from rig.image.printable import printable

    return {
        "identical": found.identical,
        "same_meaning": found.same_meaning,
        "summary": found.summary,
        "a": {"file": printable(a), "what": found.a.what},
        "b": {"file": printable(b), "what": found.b.what},
        "changes": [asdict(change) for change in found.changes],
        "differences": [asdict(difference) for difference in found.differences],
    }


def _show(found: Comparison, a: str, b: str) -> None:
    from rig.cli.inspect_view import Page

    page = Page(out, min(out.width, 110))
    page.row("A", f"{a}: {found.a.what}")
    page.row("B", f"{b}: {found.b.what}")
    page.line("")
    page.paragraph(found.summary, "bold")
    if found.changes:
        page.heading("In meaning")
    last = ""
    for change in found.changes:
        page.row(change.region if change.region != last else "", change.sentence)
        last = change.region
    if found.differences:
        page.heading("In bytes")
    for difference in found.differences:
        page.row(difference.region, _bytes(difference))


def _bytes(found: Difference) -> str:
    size = found.end - found.start
    if found.only:
        return f"{found.bytes:,} bytes from 0x{found.first:06X}, in {found.only.upper()} only"
    return f"{found.bytes:,} of {size:,} bytes differ, 0x{found.first:06X} to 0x{found.last:06X}"
