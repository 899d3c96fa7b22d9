"""Faults planted in a box of simulated boards: which board has which, by a seed, and where its unit has to end.

`Box` is the box beside the table; its `change` command (this module, run) takes the board in a slot out, keeps what
it holds, heals what its fault left behind at jig, adaptor and supply, puts the board of the next unit in and plants
that board's fault.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rig.sim.hands import hand

PASS = ("pass", None)
Ending = tuple[str, str | None]  # outcome, failure code


@dataclass(frozen=True)
class Kind:
    """One kind of fault as it is planted: its name in rig/sim/faults.py and options, how its unit ends (one of these
    ways, where the moment decides whether it does harm at all), and when it begins: as the board is put in, or as the
    unit reads its backup (what only hits connections that are there). `noted`: what the record of a unit says that it
    did no harm to."""

    name: str
    ends: tuple[Ending, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    strikes: Literal["put-in", "backup"] = "put-in"
    noted: str = ""


BACKED_UP = 2_117_000  # bytes on the flash line until the backup is read: 512 sectors with their frames, CRCs, efuse
RARELY = {"rate": 8e-7, "after": 10_000}  # a few bytes of a unit, which its client asks for again
OFTEN = {"rate": 2e-4, "after": 10_000}  # no sector passes unharmed

KINDS = (
    Kind("dead", (("fail", "no-link"),)),
    Kind("short", (("fail", "short"),)),
    Kind("open-pin", (("blocked", "no-current"),), {"pin": "3v3"}),
    Kind("open-pin", (("blocked", "no-current"),), {"pin": "gnd"}),
    Kind("open-pin", (("fail", "no-link"),), {"pin": "rx1"}),
    Kind("open-pin", (("fail", "no-link"),), {"pin": "tx1"}),
    Kind("worn-needle", (("blocked", "weak-supply"),), {"ohms": 8}),  # its power goes as the radio calibrates
    # the ROM runs; the die erases and programs nothing
    Kind("worn-needle", (("fail", "verify-failed"),), {"ohms": 30}),
    Kind("rx1-driver", (("fail", "no-link"),), {"kind": "touch"}),
    Kind("rx1-driver", (("fail", "no-link"),), {"kind": "tuyamcu"}),
    Kind("tx2-open", (("fail", "log-silent"),)),
    Kind("late", (PASS,), {"ms": 3}),
    Kind("late", (("blocked", "link-lost"),), {"ms": 8000, "after": 100_000}),
    Kind("doubled", (PASS,), {"of": "all"}),
    Kind("flip", (PASS,), RARELY),
    Kind("flip", (("fail", "backup-mismatch"), ("blocked", "contact")), OFTEN),  # enough strays give the line away
    Kind("lose", (PASS,), RARELY),
    Kind("lose", (("blocked", "link-lost"),), {"rate": 1.0, "after": 100_000}),
    # a byte between two commands does no harm, a damaged reply is asked for again: then it is told all the same
    Kind(
        "noise", (("blocked", "contact"), PASS), {"after": 100_000}, noted="bytes came on the flash line that nobody"
    ),
    Kind("unplug", (("blocked", "port-lost"),), {"after": BACKED_UP + 20_000}),
    Kind("unplug", (("blocked", "port-lost"),), {"port": "log", "after": 100}),
    Kind("supply-hung", (("blocked", "supply-lost"),), {"seconds": 4.0}, "backup"),
    Kind("supply-half-open", (("blocked", "supply-lost"),), {}, "backup"),
    Kind("supply-drop", (("blocked", "supply-lost"),), {}, "backup"),
    Kind("supply-late", (("blocked", "supply-lost"),), {}, "backup"),
    Kind("supply-one-client", (PASS,)),
    Kind("supply-split", (PASS,)),
    Kind("supply-error-queue-full", (PASS,)),
    Kind("supply-slow-meter", (PASS,)),
    Kind("supply-trailing-nul", (PASS,)),
    Kind("supply-trailing-comma", (("blocked", "supply-refused"),)),
    Kind("supply-coalesced", (PASS, ("blocked", "supply-lost"))),
    Kind("supply-hurried", (PASS, ("blocked", "supply-lost"))),
)


def plan(units: Sequence[str], kinds: Sequence[Kind], seed: int, slots: int = 0) -> dict[str, Kind | None]:
    """Which unit's board has which fault: each of `kinds` once, at places that the seed says. A supply falls ill no
    sooner than with the second unit of its slot: one that is ill before the batch refuses it: another test's."""
    draw = random.Random(seed)
    late = [kind for kind in kinds if kind.name.startswith("supply-")]
    places = dict(zip(draw.sample(units[slots:], len(late)), late, strict=True))
    early = [kind for kind in kinds if kind not in late]
    left = [unit for unit in units if unit not in places]
    places |= dict(zip(draw.sample(left, len(early)), early, strict=True))
    return {unit: places.get(unit) for unit in units}


@dataclass(frozen=True)
class PutIn:
    """A unit's board was put into a slot."""

    slot: str
    unit: str


class Box:
    """The box of boards beside the bench whose control socket is `control`: a board for each unit, its own for good.
    One that was in a slot before is put in again as it came out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = json.loads((folder / "box.json").read_text())
        self.control = Path(found["control"])
        self.kinds = {unit: None if index is None else KINDS[index] for unit, index in found["kinds"].items()}

    @classmethod
    def filled(cls, folder: Path, control: Path, kinds: Mapping[str, Kind | None]) -> Box:
        """A new box in `folder`; `kinds`: which unit's board has which fault."""
        folder.mkdir()
        listed = {unit: None if kind is None else KINDS.index(kind) for unit, kind in kinds.items()}
        (folder / "box.json").write_text(json.dumps({"control": str(control), "kinds": listed}))
        (folder / "put-in.jsonl").touch()
        return cls(folder)

    def as_change(self, bench_toml: str) -> str:
        """The bench file with this box's command as every slot's `change`."""
        command = json.dumps([sys.executable, "-m", "tests.line_faults", str(self.folder)])
        return re.sub(r"^change = .*$", lambda _: f"change = {command}", bench_toml, flags=re.MULTILINE)

    def put_in(self, slot: str, unit: str) -> None:
        """The unit's board into `slot`, in place of the one there; what that one's fault left behind is healed."""
        self.keep(slot)
        self._ask(slot, "heal")
        self._ask(slot, "supply-heal")
        came = self.flash_of(unit)
        own = {"flash": str(came), "efuse": came.with_suffix(".efuse").read_text()} if came.exists() else {}
        self._ask(slot, "change", **own)
        if not own:
            self._ask(slot, "dump", path=str(self._factory(unit)))
        self._note(slot, unit)
        kind = self.kinds.get(unit)
        if kind is not None and kind.strikes == "put-in":
            self.strike(slot, kind)

    def strike(self, slot: str, kind: Kind) -> None:
        """The fault begins."""
        bare = kind.name.removeprefix("supply-")
        op = "fault" if bare == kind.name else "supply-fault"
        self._ask(slot, op, name=bare, options=dict(kind.options))

    def keep(self, slot: str) -> None:
        """What the board in `slot` holds now, to be looked at or put in again."""
        inside = [each.unit for each in self.so_far() if each.slot == slot]
        if inside:
            path = self.flash_of(inside[-1])
            answer = self._ask(slot, "dump", path=str(path))
            path.with_suffix(".efuse").write_text(answer["efuse"])

    def flash_of(self, unit: str) -> Path:
        """What the unit's board held when it was last looked at."""
        return self.folder / f"{unit}.flash"

    def factory(self, unit: str) -> bytes:
        """What it held when it came."""
        return self._factory(unit).read_bytes()

    def _factory(self, unit: str) -> Path:
        return self.folder / f"{unit}.factory"

    def so_far(self) -> list[PutIn]:
        """Every board in the order they were put in."""
        lines = (self.folder / "put-in.jsonl").read_text().splitlines()
        return [PutIn(**json.loads(line)) for line in lines]

    def _note(self, slot: str, unit: str) -> None:
        with (self.folder / "put-in.jsonl").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps({"slot": slot, "unit": unit}) + "\n")

    def _ask(self, slot: str, op: str, **more: Any) -> dict[str, Any]:
        answer = hand(self.control, slot, op, **more)
        if "error" in answer:
            raise SystemExit(f"{op} {slot}: {answer['error']}")
        return answer


if __name__ == "__main__":
    Box(Path(sys.argv[1])).put_in(os.environ["RIG_SLOT"], os.environ["RIG_UNIT"])
