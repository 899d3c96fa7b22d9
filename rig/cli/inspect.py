"""`rig inspect`: what a file is, what a board would do with it, where it may go, what it holds. Touches no board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rig.cli.terminal import out, say, say_json
from rig.errors import Exit, UsageProblem
from rig.target import check_file

HELP = "What a firmware file is and where it may go. Example: rig inspect OpenBK7231N_QIO_1.18.300.bin"
_EFUSE_SIZES = (16, 32)  # bytes: the key alone, or all of it


def inspect(
    file: Annotated[Path, typer.Argument(help="Any file: dump, image, package, or what is taken for one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON (docs/inspect.schema.json).")] = False,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Write one page with all of it.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the flash map as a picture.")] = None,
    onto: Annotated[Path | None, typer.Option(metavar="DUMP", help="A dump of the board it is to go to.")] = None,
    efuse: Annotated[Path | None, typer.Option(metavar="FILE", help="That board's efuse: its cipher key.")] = None,
    product: Annotated[
        str | None, typer.Option(metavar="NAME", help="A product: how its board is fed, and by which study.")
    ] = None,
    show_secrets: Annotated[bool, typer.Option("--show-secrets", help="Show passwords and keys, too.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit code 2 if it may not be written as it is.")] = False,
) -> None:  # fmt: skip
    for target in (html, svg):
        if target is not None:
            check_new(target)
    if html is not None and html == svg:
        raise UsageProblem(f"--html and --svg both name {html}")
    # Here and not above: each costs start-up time, and every command of the rig loads this module.
    from rig.files import write_durably
    from rig.image.health.diagnosis import diagnose
    from rig.image.identify import identify, read_image
    from rig.image.inspector import inspect_image
    from rig.image.planning.board import Board, board_key

    fed = _fed(product) if product is not None else None
    data = read_image(file)
    key = board_key(_efuse(efuse)) if efuse is not None else "tuya"
    board = Board(key=key, held=_dump(onto) if onto is not None else None)
    diagnosis = diagnose(data, identify(data, file.name), chip=board.chip, key=key)
    found = inspect_image(
        data, file.name, board=board, efuse_read=efuse is not None, secrets=show_secrets, diagnosis=diagnosis
    )
    if svg is not None:
        from rig.image.health.picture import map_svg

        write_durably(svg, map_svg(diagnosis, found.file.name))
    if html is not None:
        from rig.cli.inspect_page import page

        write_durably(html, page(found, diagnosis), private=show_secrets)
    if as_json:
        say_json(found.model_dump(mode="json") | ({} if fed is None else {"supply": fed[1]}))
    else:
        from rig.cli.inspect_view import show

        show(found, diagnosis, out)
        if fed is not None:
            say(fed[0])
        for target in (svg, html):
            if target is not None:
                say(f"Written: {target}")
    raise typer.Exit(int(Exit.USAGE if check and not found.plan.allowed else Exit.GOOD))


def check_new(path: Path) -> None:
    """A file can be written at `path`, and none is there. Raises UsageProblem."""
    if path.exists() or path.is_symlink():
        raise UsageProblem(f"{path} is there already: nothing is replaced; name another file")
    check_file(path)


def _fed(product: str) -> tuple[str, dict[str, object]]:
    """How a board of `product` is fed: a sentence, and the same as data. Raises UsageProblem for one nobody knows."""
    from rig.bench.product import load_product

    of = load_product(product)
    plain = f"{of.supply.volts:g} V with a limit of {of.supply.current_limit:g} A; no study is cited for it"
    return f"Supply of {product}: {of.supply.cited or plain}", of.supply.model_dump(mode="json")


def _efuse(path: Path) -> bytes:
    from rig.image.identify import read_image

    data = read_image(path)
    if len(data) not in _EFUSE_SIZES:
        raise UsageProblem(f"{path} is {len(data):,} bytes; an efuse dump has 32, or 16 with the key alone.")
    return data


def _dump(path: Path) -> bytes:
    from rig.image.flashmap import FLASH_SIZE
    from rig.image.identify import read_image

    data = read_image(path)
    if len(data) != FLASH_SIZE:
        raise UsageProblem(f"{path} is {len(data):,} bytes; --onto takes a dump of all {FLASH_SIZE:,} of a flash.")
    return data
