"""`rig flash info|read|write|verify|erase`: one operation on one board, with any flasher, behind the same guard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from rig.bench.bench import Bench, Slot, open_bench
from rig.bench.slot import OpenSlot, use_slot
from rig.cli.terminal import err, flash_progress, say, say_json
from rig.errors import Coded, Exit, UnitFailed, UsageProblem
from rig.files import write_durably
from rig.flashers import load_flasher
from rig.flashers.base import Flasher, FlashResult, Progress
from rig.flashers.fit import require_chip
from rig.flashers.native import NativeFlasher
from rig.image.guard import plan_write
from rig.image.identify import read_image
from rig.line.boot import refined
from rig.records.backups import BackupStore
from rig.target import check_file, check_folder

app = typer.Typer(
    no_args_is_help=True, help="One flash operation on one board. Example: rig flash info --bench b.toml"
)

BenchOption = Annotated[str, typer.Option("--bench", help="Bench file, or sim.")]
SlotOption = Annotated[str | None, typer.Option("--slot", help="Slot; default: the first.")]
FlasherOption = Annotated[str, typer.Option("--flasher", help="native, or NAME==VERSION[,DEPENDENCY==VERSION].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RunsOption = Annotated[Path, typer.Option("--out", help="Where backups are kept (its backups/ folder).")]
Number = Annotated[str, typer.Option(help="Bytes, decimal or 0x hexadecimal.")]


@dataclass
class _Work:
    """One slot and one flasher; `rom` is our own client, which judges whatever the flasher did."""

    bench: Bench
    slot: Slot
    used: OpenSlot
    flasher: Flasher
    rom: NativeFlasher

    def release(self) -> None:
        """The two flashers share a link: our own lets go of it before another one works."""
        if self.flasher is not self.rom:
            self.rom.close()


@contextlib.contextmanager
def _work(bench: str, slot: str | None, flasher: str) -> Iterator[_Work]:
    with open_bench(bench) as opened:
        place = opened.slot(slot or next(iter(opened.slots)))
        if place.product.mains:
            err.print("Mains switch: work on it only unplugged from the mains.")
        rom = NativeFlasher()
        chosen = rom if flasher == "native" else load_flasher(flasher, folders=opened.profiles("flashers"))
        with use_slot(place, holder=f"rig flash, {flasher}") as used:
            try:
                yield _Work(opened, place, used, chosen, rom)
            except Coded as problem:
                raise refined(problem, used.power, place.product) from None
            finally:
                chosen.close()
                rom.close()


def _finish(result: FlashResult, as_json: bool) -> None:
    if as_json:
        say_json({"ok": result.ok, "said": result.said, "seconds": result.seconds, "bytes": result.size,
                  "retries": list(result.retries)})  # fmt: skip
    else:
        say(f"{'ok' if result.ok else 'FAILED'}: {result.said} in {result.seconds:.1f} s")
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
         as_json: JsonOption = False) -> None:  # fmt: skip
    with _work(bench, slot, flasher) as work, flash_progress() as progress:
        who = work.flasher.identify(work.used.link, progress)
    rows = {
        "chip": who.chip,
        "chip_id": f"0x{who.chip_id:x}" if who.chip_id is not None else None,
        "flash_id": who.flash_id.hex() if who.flash_id else None,
        "flash_size": who.flash_size,
        "mac": who.mac,
        "identity": who.identity,
    }
    if as_json:
        say_json(rows)
        return
    for name, value in rows.items():
        say(f"{name:<11} {value if value is not None else 'not known'}")


@app.command(help="Read flash into a file (0600). Example: rig flash read dump.bin --bench b.toml --slot A")
def read(file: Path, bench: BenchOption = "bench.toml", slot: SlotOption = None, flasher: FlasherOption = "native",
         start: Number = "0", length: Annotated[str | None, typer.Option(help="Bytes; default: to the end.")] = None,
         as_json: JsonOption = False) -> None:  # fmt: skip
    if file.exists():
        raise UsageProblem(f"{file} is there already: a dump never replaces a file")
    check_file(file)
    with _work(bench, slot, flasher) as work, flash_progress() as progress:
        offset, size = _range(work.slot, start, length)
        result = work.flasher.read(work.used.link, offset, size, progress)
    if result.data is not None and result.ok:
        write_durably(file, result.data, private=True)
    _finish(result, as_json)


@app.command(help="Write an image, after a backup. Example: rig flash write image.bin --bench b.toml --slot A")
def write(file: Path, bench: BenchOption = "bench.toml", slot: SlotOption = None, flasher: FlasherOption = "native",
          start: Annotated[str | None, typer.Option(help="Flash offset; default: where the image belongs.")] = None,
          out: RunsOption = Path("runs"), as_json: JsonOption = False) -> None:  # fmt: skip
    data = read_image(file)
    check_folder(out / "backups")
    with _work(bench, slot, flasher) as work, flash_progress() as progress:
        at = None if start is None else _number(start, "start")
        product = work.slot.product
        plan = plan_write(data, file.name, chip=product.chip, flash_size=product.flash_size, start=at)
        pieces = plan.contents(data)
        _open_for_writing(work, out, plan.ranges, progress)
        work.release()
        result = work.flasher.write(work.used.link, pieces, progress)
        check = work.rom.verify(work.used.link, pieces, progress)
    if not check.ok:
        raise UnitFailed("verify-failed", f"{check.said} ({flasher} said: {result.said})")
    _finish(result, as_json)


@app.command(help="Compare flash with a file by the chip's CRC. Example: rig flash verify image.bin --bench b.toml")
def verify(file: Path, bench: BenchOption = "bench.toml", slot: SlotOption = None,
           start: Annotated[str | None, typer.Option(help="Flash offset; default: where the image belongs.")] = None,
           as_json: JsonOption = False) -> None:  # fmt: skip
    data = read_image(file)
    with _work(bench, slot, "native") as work, flash_progress() as progress:
        if start is None:
            product = work.slot.product
            plan = plan_write(data, file.name, chip=product.chip, flash_size=product.flash_size)
            pieces = plan.contents(data)
        else:
            offset, _ = _range(work.slot, start, str(len(data)))
            pieces = [(offset, data)]
        result = work.rom.verify(work.used.link, pieces, progress)
    _finish(result, as_json)


@app.command(help="Erase whole sectors, after a backup. Example: rig flash erase --start 0x1D1000 --length 0x1000")
def erase(start: Number, length: Number, bench: BenchOption = "bench.toml", slot: SlotOption = None,
          flasher: FlasherOption = "native", out: RunsOption = Path("runs"),
          as_json: JsonOption = False) -> None:  # fmt: skip
    check_folder(out / "backups")
    with _work(bench, slot, flasher) as work, flash_progress() as progress:
        offset, size = _range(work.slot, start, length)
        if offset % 0x1000 or size % 0x1000:
            raise UsageProblem(f"an erase covers whole sectors of 0x1000 bytes, not 0x{offset:x}+0x{size:x}")
        _open_for_writing(work, out, [(offset, size)], progress)
        work.release()
        result = work.flasher.erase(work.used.link, offset, size, progress)
    _finish(result, as_json)


def _open_for_writing(work: _Work, runs: Path, ranges: list[tuple[int, int]], progress: Progress) -> None:
    """The guard opens only with a backup in hand: the board's first one, or the one taken now."""
    link = work.used.link
    who = work.rom.identify(link, progress)
    require_chip(who, work.slot.product)
    if who.identity is None:
        raise UnitFailed("unreadable", "this board tells neither UID nor MAC, so its backup could not be found again")
    store = BackupStore(runs / "backups")
    backup = store.first(who.identity)
    if backup is not None:
        backup.content()
        err.print(f"Backup: {backup.path} (taken earlier)", markup=False, soft_wrap=True)
    else:
        err.print("Backup: reading the whole flash first ...")
        data = work.rom.read(link, 0, work.slot.product.flash_size, progress).data
        assert data is not None
        backup = store.keep(who.identity, data)
        err.print(f"Backup: {backup.path}", markup=False, soft_wrap=True)
    work.used.guard.allow_writes(ranges)
