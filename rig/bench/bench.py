"""A bench: its slots with what they need, whether on a table or simulated.

`open_bench("bench.toml")` reads a file; `open_bench("sim:2")` starts a simulated bench of two boards for as long
as the context lasts. Nothing above this module knows which it is, but for `speed`, which results carry.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rig.bench.config import BenchConfig, SlotTable, SupplyTable, load_bench, profile_folders
from rig.bench.product import Product, load_product
from rig.errors import UsageProblem
from rig.toml import nearest

DEFAULT_SPEED = 20.0  # of a simulated bench that was not started by hand
_SIM = re.compile(r"sim(?::(?P<boards>\d+))?(?:@(?P<speed>\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Slot:
    """One place for a board: its wiring, its supply and its product."""

    name: str
    table: SlotTable
    supply: SupplyTable
    product: Product
    dialect_dirs: tuple[Path, ...] = ()
    neighbours: tuple[Slot, ...] = field(default=(), repr=False, compare=False)  # the bench's other slots


@dataclass(frozen=True)
class Bench:
    """A whole bench as read from its file. `speed` is 1 on a real one."""

    config: BenchConfig
    slots: dict[str, Slot] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.config.bench.name

    @property
    def path(self) -> Path:
        return self.config.path

    @property
    def simulated(self) -> bool:
        return self.config.bench.simulated_speed is not None

    @property
    def speed(self) -> float:
        return self.config.bench.simulated_speed or 1.0

    @property
    def image(self) -> Path | None:
        image = self.config.bench.image
        return None if image is None else self.path.parent / image

    def slot(self, name: str) -> Slot:
        """Raises UsageProblem naming the nearest slot."""
        if name not in self.slots:
            raise UsageProblem(f"{self.path}: no slot {name!r}; {nearest(name, self.slots)}")
        return self.slots[name]

    def profiles(self, kind: str) -> list[Path]:
        return profile_folders(self.config, kind)


def read_bench(path: Path) -> Bench:
    """The bench described by a file. Raises UsageProblem in one sentence."""
    config = load_bench(path)
    dialects = tuple(profile_folders(config, "dialects"))
    products = profile_folders(config, "products")
    slots = {
        name: Slot(name, table, config.supply[table.supply], load_product(table.product, products), dialects)
        for name, table in config.slot.items()
    }
    alone = list(slots.values())
    for slot in alone:
        slots[slot.name] = replace(slot, neighbours=tuple(one for one in alone if one is not slot))
    return Bench(config, slots)


@contextlib.contextmanager
def open_bench(spec: str) -> Iterator[Bench]:
    """A bench by file name or `sim[:BOARDS][@SPEED]`; a simulated one lives as long as the context."""
    match = _SIM.fullmatch(spec)
    if match is None:
        if spec.startswith("sim:"):
            raise UsageProblem(f"--bench {spec}: a simulated bench is sim, sim:BOARDS or sim:BOARDS@SPEED")
        if not Path(spec).exists():
            raise UsageProblem(f"no bench file at {spec}: rig bench init writes one; --bench sim is simulated")
        yield read_bench(Path(spec))
        return
    with _simulated(int(match["boards"] or 1), float(match["speed"] or DEFAULT_SPEED)) as path:
        yield read_bench(path)


@contextlib.contextmanager
def _simulated(boards: int, speed: float) -> Iterator[Path]:
    """A simulated bench as a process of its own, that ends when our end of its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rig.sim", "--owned", "--boards", str(boards), "--speed", f"{speed:g}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise UsageProblem(f"the simulated bench of {boards} board(s) did not start: its message is above")
        yield Path(json.loads(line)["bench_file"])
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
