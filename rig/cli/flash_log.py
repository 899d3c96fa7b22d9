"""The record of `rig flash`: a line for each write and erase, durable before the first byte is erased.

    runs/flash-writes.jsonl    one JSON object a line, oldest first, 0600

A whole run has its journal; single operations have this, so that an overridden rule is found again.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from rig.errors import UsageProblem
from rig.files import fsync_dir
from rig.image.planning.plan import Plan

NAME = "flash-writes.jsonl"


def record_write(runs: Path, identity: str, name: str, sha256: str, plan: Plan) -> None:
    """What is to be written to the board `identity`: UsageProblem where that cannot be kept."""
    _append(runs, {
        "identity": identity, "image": name, "image_sha256": sha256,
        "ranges": [list(span) for span in plan.ranges], "note": plan.note, "notes": list(plan.notes),
        "overrides": list(plan.overrides), "mac": plan.mac,
    })  # fmt: skip


def record_erase(runs: Path, identity: str, offset: int, length: int, overrides: tuple[str, ...]) -> None:
    """What is to be erased of the board `identity`."""
    _append(runs, {"identity": identity, "erased": [[offset, length]], "overrides": list(overrides)})


def _append(runs: Path, line: dict[str, object]) -> None:
    path = runs / NAME
    text = json.dumps({"utc": datetime.now(UTC).isoformat(), **line}) + "\n"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        fsync_dir(runs)
    except OSError as problem:
        raise UsageProblem(f"cannot write {path}: {problem.strerror or problem}") from None
