"""A simulated bench under a supply study: its slots' boards made as a test wants them, each trial through the rig."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rig.bench.bench import Bench, read_bench
from rig.bench.slot import use_slot
from rig.power.subject import Subject
from rig.records.run import RunFolder
from rig.sim.bench import SimBench
from rig.sim.hands import hand
from rig.sim.spec import SimOptions


class PowerBench:
    """`constants`: TOML over the shipped ones. Use as a context manager; `runs` is below `folder`."""

    def __init__(self, folder: Path, constants: str = "", **options: Any) -> None:
        own = folder / "constants.toml"
        own.write_text(constants)
        self.runs = folder / "runs"
        self.sim = SimBench(SimOptions(constants=own, **options))

    def __enter__(self) -> PowerBench:
        self.sim.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.sim.stop()

    @property
    def bench(self) -> Bench:
        return read_bench(self.sim.bench_file)

    @property
    def image(self) -> Path:
        return self.sim.folder / "rig-demo_QIO.bin"

    def hand(self, slot: str, op: str, **more: Any) -> dict[str, Any]:
        answer = hand(self.sim.folder / "control", slot, op, **more)
        assert "error" not in answer, answer
        return answer

    def flash(self, slot: str) -> bytes:
        path = self.runs.parent / f"{slot}.bin"
        self.hand(slot, "dump", path=str(path))
        return path.read_bytes()

    @contextmanager
    def subject(self, slot: str, image: Path | None = None, **more: Any) -> Iterator[Subject]:
        """The slot's board, begun, in a run of its own."""
        place = self.bench.slot(slot)
        run = RunFolder.create(self.runs).path
        with (
            use_slot(place, holder="a test") as used,
            Subject(
                used, self.runs, run, place.product, image or self.image, speed=self.sim.options.speed, **more
            ) as subject,
        ):
            subject.begin()
            yield subject
