"""A bench: its slots with what they need, whether on a table or simulated.

`open_bench("bench.toml")` reads a file; `open_bench("sim:2")` starts a simulated bench of two boards for as long
as the context lasts, `open_bench("sim:2@50+witness")` one with an oscilloscope on each board, 50 times faster than
real. Nothing above this module knows which it is, but for `speed`, which results carry.
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
from typing import TYPE_CHECKING

from rig.bench.config import BenchConfig, SlotTable, SupplyTable, WitnessTable, load_bench, profile_folders
from rig.bench.product import Product, load_product
from rig.errors import UsageProblem
from rig.labgrid.spec import is_place
from rig.toml import nearest

if TYPE_CHECKING:
    from rig.labgrid.tenure import Tenure

DEFAULT_SPEED = 20.0  # of a simulated bench that was not started by hand
_SIM = re.compile(r"sim(?::(?P<boards>\d+))?(?:@(?P<speed>\d+(?:\.\d+)?))?(?P<more>(?:\+[a-z-]+(?:=[^+]+)?)*)")
_SIM_OPTIONS = {"witness": False, "supply": True, "source": True, "constants": True, "seed": True}  # with a value?


@dataclass(frozen=True)
class Slot:
    """One place for a board: its wiring, its supply and its product."""

    name: str
    table: SlotTable
    supply: SupplyTable
    product: Product
    dialect_dirs: tuple[Path, ...] = ()
    witness: WitnessTable | None = None
    witness_dirs: tuple[Path, ...] = ()
    speed: float = 1.0  # the bench's
    neighbours: tuple[Slot, ...] = field(default=(), repr=False, compare=False)  # the bench's other slots


@dataclass(frozen=True)
class Bench:
    """A whole bench as read from its file. `speed` is 1 on a real one."""

    config: BenchConfig
    slots: dict[str, Slot] = field(default_factory=dict)
    tenure: Tenure | None = field(default=None, repr=False, compare=False)  # of a bench that labgrid lends

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
    witnesses = tuple(profile_folders(config, "witnesses"))
    products = profile_folders(config, "products")
    simulated = config.bench.simulated_speed is not None
    slots = {
        name: Slot(
            name,
            table,
            config.supply[table.supply],
            load_product(table.product, products, simulated=simulated),
            dialects,
            witness=config.witness[table.witness] if table.witness else None,
            witness_dirs=witnesses,
            speed=config.bench.simulated_speed or 1.0,
        )
        for name, table in config.slot.items()
    }
    alone = list(slots.values())
    for slot in alone:
        slots[slot.name] = replace(slot, neighbours=tuple(one for one in alone if one is not slot))
    return Bench(config, slots)


@contextlib.contextmanager
def open_bench(spec: str) -> Iterator[Bench]:
    """A bench by file name or `sim[:BOARDS][@SPEED][+OPTION…]`; a simulated one lives as long as the context.
    `labgrid:PLACE[@HOST:PORT]` is one that labgrid lends, for as long as the context.

    An option is one of `rig sim`: `+witness`, `+supply=NAME`, `+source=NAME`, `+constants=FILE`, `+seed=N`.
    """
    if is_place(spec):
        from rig.labgrid.lent import open_place

        with open_place(spec) as (lent, tenure):
            yield replace(read_bench(lent), tenure=tenure)
        return
    match = _SIM.fullmatch(spec)
    if match is None:
        if spec.startswith(("sim:", "sim@", "sim+")) and not Path(spec).exists():
            raise UsageProblem(
                f"--bench {spec}: a simulated bench is sim, sim:BOARDS or sim:BOARDS@SPEED, and +OPTION of rig sim "
                f"behind it ({', '.join(_SIM_OPTIONS)})"
            )
        if not Path(spec).exists():
            raise UsageProblem(f"no bench file at {spec}: rig bench init writes one; --bench sim is simulated")
        yield read_bench(Path(spec))
        return
    options = _sim_options(spec, match["more"])
    with _simulated(int(match["boards"] or 1), float(match["speed"] or DEFAULT_SPEED), options) as path:
        yield read_bench(path)


def _sim_options(spec: str, more: str) -> list[str]:
    """`+witness+supply=rigol-dp832` as words of `rig sim`."""
    words = []
    for option in filter(None, more.split("+")):
        name, equals, value = option.partition("=")
        if name not in _SIM_OPTIONS:
            near = nearest(name, _SIM_OPTIONS)
            raise UsageProblem(f"--bench {spec}: no option {name!r} of a simulated bench; {near}")
        if bool(equals) != _SIM_OPTIONS[name]:
            how = f"+{name}=VALUE" if _SIM_OPTIONS[name] else f"+{name}, without a value"
            raise UsageProblem(f"--bench {spec}: it is {how}")
        words += [f"--{name}", value] if equals else [f"--{name}"]
    return words


@contextlib.contextmanager
def _simulated(boards: int, speed: float, options: list[str]) -> Iterator[Path]:
    """A simulated bench as a process of its own, that ends when our end of its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rig.sim", "--owned", "--boards", str(boards), "--speed", f"{speed:g}", *options],
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
