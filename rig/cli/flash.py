"""`rig flash info|read|write|verify|erase`: one operation on one board, with any flasher, behind the same guard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from rig.bench.bench import Slot
from rig.chip.client import crc32
from rig.cli.flash_work import ImageFile, Work, taken
from rig.cli.terminal import err, flash_progress, say, say_json
from rig.errors import Exit, ImageRefused, UnitFailed, UsageProblem
from rig.files import write_durably
from rig.flashers.base import ChipIdentity, FlashResult, Progress
from rig.flashers.content import Content
from rig.flashers.fit import require_chip
from rig.flashers.judge import judge_write
from rig.flashers.native import BLOCK
from rig.image import flashmap
from rig.image.identify import read_image
from rig.image.planning.guard import Board, Plan, plan_erase
from rig.line.identity import carry_over, identity_of
from rig.line.target import board_of
from rig.line.writes import cut_off, record_end, record_erase, record_write
from rig.records.backups import Backup, BackupStore
from rig.target import check_file, check_folder
from rig.uart.touched import touched_sectors

app = typer.Typer(
    no_args_is_help=True, help="One flash operation on one board. Example: rig flash info --bench b.toml"
)

BenchOption = Annotated[str, typer.Option("--bench", help="Bench file, or sim.")]
SlotOption = Annotated[str | None, typer.Option("--slot", help="Slot; default: the first.")]
FlasherOption = Annotated[str, typer.Option("--flasher", help="native, or NAME==VERSION[,DEPENDENCY==VERSION].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RunsOption = Annotated[Path, typer.Option("--out", help="Where backups are kept (its backups/ folder).")]
Number = Annotated[str, typer.Option(help="Bytes, decimal or 0x hexadecimal.")]
TraceOption = Annotated[
    Path | None,
    typer.Option("--trace", metavar="FILE", help="All commands on the wire, where the time went; .jsonl: JSON."),
]
OverrideOption = Annotated[
    list[str] | None, typer.Option("--override", metavar="RULE", help="Rule of the image guard to let off; recorded.")
]


@dataclass(frozen=True)
class Sectors:
    """How many of the planned ones were erased or programmed, as counted on the wire."""

    planned: int
    touched: int


def _finish(
    result: FlashResult, as_json: bool, plan: Plan | None = None, sectors: Sectors | None = None,
    cut_off_before: str | None = None,
) -> None:  # fmt: skip
    if as_json:
        planned: dict[str, object] = {} if plan is None else {
            "note": plan.note, "notes": list(plan.notes), "overrides": list(plan.overrides), "mac": plan.mac,
        }  # fmt: skip
        if sectors is not None:
            planned |= {"sectors": asdict(sectors), "cut_off_before": cut_off_before}
        say_json({"ok": result.ok, "said": result.said, "seconds": result.seconds, "bytes": result.size,
                  "retries": list(result.retries), **planned})  # fmt: skip
    else:
        say(f"{'ok' if result.ok else 'FAILED'}: {result.said} in {result.seconds:.1f} s")
        if sectors is not None:
            say(f"Sectors of 4 KiB touched: {sectors.touched}, of {sectors.planned} planned")
    raise typer.Exit(int(Exit.GOOD if result.ok else Exit.FAILED))


def _number(text: str, what: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise UsageProblem(f"--{what} {text}: not a number (4096, 0x1000)") from None
    if value < 0:
        raise UsageProblem(f"--{what} {text}: not below 0")
    return value


def _range(slot: Slot, start: str, length: str | None) -> tuple[int, int]:
    """(offset, length) inside the flash."""
    offset = _number(start, "start")
    size = slot.product.flash_size - offset if length is None else _number(length, "length")
    if size <= 0 or offset + size > slot.product.flash_size:
        raise UsageProblem(
            f"0x{offset:x}+0x{max(size, 0):x} is not inside the flash of 0x{slot.product.flash_size:x} bytes"
        )
    return offset, size


@app.command(help="What is in the slot: chip, flash, MAC. Example: rig flash info --bench b.toml --slot A")
def info(bench: BenchOption = "bench.toml", slot: SlotOption = None, flasher: FlasherOption = "native",
         trace: TraceOption = None, as_json: JsonOption = False) -> None:  # fmt: skip
    with taken(bench, slot, flasher, trace=trace) as work, flash_progress() as progress:
        who = work.flasher.identify(work.used.link, progress)
    rows = {
        "chip": who.chip,
        "chip_id": f"0x{who.chip_id:x}" if who.chip_id is not None else None,
        "flash_id": who.flash_id.hex() if who.flash_id else None,
        "flash_size": who.flash_size,
        "mac": who.mac,
        "identity": identity_of(who),
    }
    if as_json:
        say_json(rows)
        return
    for name, value in rows.items():
        say(f"{name:<11} {value if value is not None else 'not known'}")


@app.command(help="Read flash into a file (0600). Example: rig flash read dump.bin --bench b.toml --slot A")
def read(file: Path, bench: BenchOption = "bench.toml", slot: SlotOption = None, flasher: FlasherOption = "native",
         start: Number = "0", length: Annotated[str | None, typer.Option(help="Bytes; default: to the end.")] = None,
         trace: TraceOption = None, as_json: JsonOption = False) -> None:  # fmt: skip
    if file.exists():
        raise UsageProblem(f"{file} is there already: a dump never replaces a file")
    check_file(file)
    with taken(bench, slot, flasher, trace=trace) as work, flash_progress() as progress:
        offset, size = _range(work.slot, start, length)
        result = check = work.flasher.read(work.used.link, offset, size, progress)
        if result.data is not None and work.flasher is not work.rom:
            check = work.rom.verify(work.used.link, [(offset, result.data)], progress)
    if not check.ok:
        raise UnitFailed("backup-mismatch", f"{check.said} ({flasher} said: {result.said})")
    if result.data is not None and result.ok:
        write_durably(file, result.data, private=True)
    _finish(result, as_json)


@app.command(help="Write an image, after a backup. Example: rig flash write image.bin --bench b.toml --slot A")
def write(file: Path, bench: BenchOption = "bench.toml", slot: SlotOption = None, flasher: FlasherOption = "native",
          start: Annotated[str | None, typer.Option(help="Flash offset; default: where the image belongs.")] = None,
          differential: Annotated[
              bool, typer.Option("--differential", help="Only sectors that differ, found by CRC; native only.")
          ] = False,
          override: OverrideOption = None,
          mac: Annotated[str | None, typer.Option(help="For a board whose own MAC is lost.")] = None,
          out: RunsOption = Path("runs"), trace: TraceOption = None,
          as_json: JsonOption = False) -> None:  # fmt: skip
    if differential and flasher != "native":
        raise UsageProblem(f"--differential is the rig's own flasher's: leave --flasher {flasher} out")
    at = None if start is None else _number(start, "start")
    image = ImageFile(file, read_image(file), at, tuple(override or ()), mac)
    check_folder(out / "backups")
    with taken(bench, slot, flasher, image.first_look, trace=trace) as work, flash_progress() as progress:
        work.used.tap.section("identify and backup")
        who, backup = _backed_up(work, out, progress)
        before = _told_of_cut_off(out, backup.identity)
        plan, board = _plan_for(work, who, backup, image, progress)
        _tell(plan)
        pieces = plan.contents(image.data)
        also = carry_over(BackupStore(out / "backups"), backup, plan, image.data, board, who.efuse)
        _keep_held(work, out, backup, plan.ranges, progress)
        if differential and before:
            err.print("All of it is written, not only what differs: half-written cells may agree today.")
            differential = False
        begun = record_write(
            out, backup.identity, file.name, image.sha256, plan,
            also=also.identity if also else None, differential=differential,
        )  # fmt: skip
        work.used.guard.allow_writes(plan.ranges)
        work.release()
        work.used.tap.section(f"write by {flasher}")
        first = len(work.used.tap.commands)
        if differential:
            result = check = work.rom.update(work.used.link, pieces, progress)  # verified by what it is
        else:
            result = work.flasher.write(work.used.link, pieces, progress)
            work.used.tap.section("verify by the rig")
            check = judge_write(work.rom, work.used.link, pieces, progress)
        touched = touched_sectors(work.used.tap.commands[first:], work.slot.product.flash_size)
        if check.ok:
            record_end(out, begun)
    if not check.ok:
        raise UnitFailed("verify-failed", f"{check.said} ({flasher} said: {result.said})")
    _finish(result, as_json, plan, Sectors(len(Content(pieces).sectors), len(touched)), before)


@app.command(help="Compare flash with a file by the chip's CRC. Example: rig flash verify image.bin --bench b.toml")
def verify(file: Path, bench: BenchOption = "bench.toml", slot: SlotOption = None,
           start: Annotated[str | None, typer.Option(help="Flash offset; default: where the image belongs.")] = None,
           override: OverrideOption = None, out: RunsOption = Path("runs"),
           as_json: JsonOption = False) -> None:  # fmt: skip
    """Compares with the plan `write` makes, not with the file; with --start, what no plan allows byte by byte."""
    at = None if start is None else _number(start, "start")
    image = ImageFile(file, read_image(file), at, tuple(override or ()))
    plan: Plan | None = None
    with taken(bench, slot, "native", image.first_look if at is None else None) as work, flash_progress() as progress:
        if at is not None:
            at, _ = _range(work.slot, hex(at), str(len(image.data)))
        who = work.rom.identify(work.used.link, progress)
        store = BackupStore(out / "backups")
        identity = identity_of(who)
        backup = store.first(identity) if identity else None
        _told_of_cut_off(out, identity)
        try:
            plan, _ = _plan_for(work, who, backup, image, progress)
        except ImageRefused as problem:
            if at is None:
                raise
            err.print(f"No plan writes it there ({problem}); compared byte by byte.", markup=False, soft_wrap=True)
            pieces = [(at, image.data)]
        else:
            _tell(plan)
            pieces = plan.contents(image.data)
        result = work.rom.verify(work.used.link, pieces, progress)
    _finish(result, as_json, plan)


@app.command(help="Erase whole sectors, after a backup. Example: rig flash erase --start 0x1D1000 --length 0x1000")
def erase(start: Number, length: Number, bench: BenchOption = "bench.toml", slot: SlotOption = None,
          flasher: FlasherOption = "native", override: OverrideOption = None, out: RunsOption = Path("runs"),
          as_json: JsonOption = False) -> None:  # fmt: skip
    check_folder(out / "backups")
    with taken(bench, slot, flasher) as work, flash_progress() as progress:
        offset, size = _range(work.slot, start, length)
        if offset % 0x1000 or size % 0x1000:
            raise UsageProblem(f"an erase covers whole sectors of 0x1000 bytes, not 0x{offset:x}+0x{size:x}")
        product = work.slot.product
        let = plan_erase(offset, size, Board(product.chip, product.flash_size), override or ())
        _, backup = _backed_up(work, out, progress)
        _say((*(f"Overridden: {said}" for said in let.said), *let.unused))
        _keep_held(work, out, backup, [(offset, size)], progress)
        _told_of_cut_off(out, backup.identity)
        begun = record_erase(out, backup.identity, offset, size, let.said)
        work.used.guard.allow_writes([(offset, size)])
        work.release()
        result = work.flasher.erase(work.used.link, offset, size, progress)
        check = judge_write(work.rom, work.used.link, [(offset, b"\xff" * size)], progress)
        if check.ok:
            record_end(out, begun)
    if not check.ok:
        raise UnitFailed("erase-failed", f"{check.said} ({flasher} said: {result.said})")
    _finish(result, as_json)


def _backed_up(work: Work, runs: Path, progress: Progress) -> tuple[ChipIdentity, Backup]:
    """The board and its backup: its first one, or the one taken now. Without it nothing is written."""
    link = work.used.link
    who = work.rom.identify(link, progress)
    require_chip(who, work.slot.product)
    identity = identity_of(who)
    if identity is None:
        raise UnitFailed(
            "unreadable",
            "this board tells neither UID nor MAC, so no backup could be found again; rig recover gives it a MAC",
        )
    store = BackupStore(runs / "backups")
    backup = store.first(identity)
    if backup is not None:
        backup.content()
        err.print(f"Backup: {backup.path} (taken earlier)", markup=False, soft_wrap=True)
    else:
        err.print("Backup: reading the whole flash first ...")
        data = work.rom.read(link, 0, work.slot.product.flash_size, progress).data
        assert data is not None
        backup = store.keep(identity, data)
        err.print(f"Backup: {backup.path}", markup=False, soft_wrap=True)
    return who, backup


def _told_of_cut_off(runs: Path, identity: str | None) -> str | None:
    """On the terminal too, if the board's last write was cut off."""
    said = cut_off(runs, identity)
    if said:
        err.print(f"{said[:1].upper()}{said[1:]}.", style="bold yellow", markup=False, soft_wrap=True)
    return said


def _keep_held(work: Work, runs: Path, backup: Backup, ranges: Sequence[tuple[int, int]], progress: Progress) -> None:
    """What the board holds by now is kept beside its first backup where that would not bring it back: its calibration
    or storage is to be written and is another by now, or it is known by its MAC, which another board may have."""
    own = flashmap.identity_ranges(work.slot.product.chip)
    touched = any(at < end and start < at + length for at, length in ranges for start, end in own)
    if not touched and not backup.identity.startswith("mac-"):
        return
    first, link = backup.content(), work.used.link
    if all(work.rom.crc(link, start, end - start) == crc32(first[start:end]) for start, end in own):
        return
    err.print("Calibration or storage is not as in its backup: reading what the board holds ...")
    held = _held(work, first, work.slot.product.flash_size, progress)
    kept = BackupStore(runs / "backups").keep(backup.identity, held)
    err.print(f"Kept too: {kept.path}", markup=False, soft_wrap=True)


def _plan_for(
    work: Work, who: ChipIdentity, backup: Backup | None, image: ImageFile, progress: Progress
) -> tuple[Plan, Board]:
    """The plan for the board in the slot: by its efuse, and by what its flash holds now where that decides."""
    product, first = work.slot.product, backup.content() if backup else None
    board = board_of(product, efuse=who.efuse, held=None, backup=first, mac=image.mac)
    try:
        plan = image.plan(board)
    except ImageRefused as problem:
        if problem.rule != "unknown-key":  # its own bootloader may prove the key
            raise
    else:
        if not plan.leans_on:
            return plan, board
    err.print("Looking at what the board's flash holds ...")
    held = _held(work, first, product.flash_size, progress)
    board = board_of(product, efuse=who.efuse, held=held, backup=first, mac=image.mac)
    return image.plan(board), board


def _held(work: Work, known: bytes | None, size: int, progress: Progress) -> bytes:
    """All of the flash as it is now. Blocks that agree with `known`, by the chip's CRC, are not read again."""
    rom, link = work.rom, work.used.link
    if known is None or len(known) != size:
        known = b""
    blocks = []
    for at in range(0, size, BLOCK):
        block: bytes | None = known[at : at + BLOCK]
        if not block or rom.crc(link, at, len(block)) != crc32(block):
            block = rom.read(link, at, min(BLOCK, size - at)).data
        assert block is not None
        rom.know(at, block)
        blocks.append(block)
        progress("read", at + len(block), size)
    return b"".join(blocks)


def _tell(plan: Plan) -> None:
    _say((plan.note, *plan.notes, *(f"Overridden: {said}" for said in plan.overrides)))


def _say(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        err.print(sentence[:1].upper() + sentence[1:] + ".", markup=False, soft_wrap=True)
