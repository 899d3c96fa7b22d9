"""Flashers: one interface for the rig's own client and for releases of external tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rig.errors import UsageProblem
from rig.flashers.base import Flasher
from rig.flashers.native import NativeFlasher


def load_flasher(spec: str, *, folders: Sequence[Path] = (), work: Path | None = None) -> Flasher:
    if spec == "native":
        return NativeFlasher()
    raise UsageProblem(f"no flasher called {spec!r}")
