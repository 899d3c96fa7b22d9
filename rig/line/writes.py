"""What `rig flash` wrote and erased, and whether a board's last write was cut off: by `rig flash` or in a run.

    runs/flash-writes.jsonl    one JSON object a line, oldest first, 0600

A line is durable before the first byte is erased, another one once all of it was verified: `{"ended": ID}`. A write
that has none was cut off, by a power cut or kill -9 too, and whoever works on the board next is told. Runs have their
journals, which say the same of theirs.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rig.chip.frames import SECTOR
from rig.errors import UsageProblem
from rig.files import fsync_dir
from rig.image.planning.plan import Plan
from rig.records.backups import BackupStore
from rig.records.run import RunFolder, list_runs

NAME = "flash-writes.jsonl"


def record_write(
    runs: Path,
    identity: str,
    name: str,
    sha256: str,
    plan: Plan,
    *,
    also: str | None = None,
    differential: bool = False,
) -> str:
    """What is to be written to the board `identity`, `also` called so once it is; gives the ID to end it by.

    UsageProblem where it cannot be kept.
    """
    return _begun(runs, {
        "identity": identity, **({"also": also} if also else {}), "image": name, "image_sha256": sha256,
        "ranges": [list(span) for span in plan.ranges], "note": plan.note, "notes": list(plan.notes),
        "overrides": list(plan.overrides), "mac": plan.mac, "differential": differential,
    })  # fmt: skip


def record_erase(runs: Path, identity: str, offset: int, length: int, overrides: tuple[str, ...]) -> str:
    """What is to be erased of the board `identity`; gives the ID to end it by."""
    return _begun(runs, {"identity": identity, "erased": [[offset, length]], "overrides": list(overrides)})


def record_end(runs: Path, begun: str) -> None:
    """All of it was verified."""
    _append(runs, {"ended": begun})


def cut_off(runs: Path, identity: str | None) -> str | None:
    """A sentence on the last write of this board, if that was cut off; None where it ended well or there was none.

    A line of the record that cannot be read is passed over: it is the one that a crash tore.
    """
    if identity is None:
        return None
    last = max((*_by_hand(runs, identity), *_in_runs(runs, identity)), key=lambda one: one.utc, default=None)
    if last is None or last.ended:
        return None
    spans = ", ".join(f"0x{at:x}+0x{length:x}" for at, length in last.ranges) or "nothing"
    said = f"the last write to this board was cut off ({last.what}, {last.utc:.16}, {spans}): it is half written"
    if mixed := shared_sectors(last.ranges):
        beside = ", ".join(f"0x{sector:x}" for sector in mixed)
        backup = BackupStore(runs / "backups").first(identity)
        said += f"; what stood beside that in the sectors at {beside} may be in its backup only"
        said += f", {backup.path}" if backup else ""
    return said


def shared_sectors(ranges: Sequence[tuple[int, int]]) -> list[int]:
    """Addresses of the sectors that (offset, length) `ranges` cover in part: what else they hold is read, erased and
    written back."""
    covered: dict[int, int] = {}
    for at, length in ranges:
        for sector in range(at // SECTOR * SECTOR, at + length, SECTOR):
            part = min(at + length, sector + SECTOR) - max(at, sector)
            covered[sector] = covered.get(sector, 0) + part
    return sorted(sector for sector, size in covered.items() if size < SECTOR)


@dataclass(frozen=True)
class _Write:
    utc: str
    what: str
    ranges: tuple[tuple[int, int], ...]
    ended: bool


def _by_hand(runs: Path, identity: str) -> Iterator[_Write]:
    path = runs / NAME
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    rows = [row for row in map(_parsed, lines) if row is not None]
    ended = {row["ended"] for row in rows if "ended" in row}
    for row in rows:
        if "id" in row and identity in (row.get("identity"), row.get("also")):
            spans = row.get("ranges") or row.get("erased") or []
            what = f"rig flash, {row.get('image') or 'an erase'}"
            yield _Write(str(row["utc"]), what, tuple((at, length) for at, length in spans), row["id"] in ended)


def _in_runs(runs: Path, identity: str) -> Iterator[_Write]:
    """The last run's that wrote to this board."""
    for run in reversed(list_runs(runs)):
        found = list(_in_run(run, identity))
        if found:
            yield found[-1]
            return


def _in_run(run: RunFolder, identity: str) -> Iterator[_Write]:
    """Only lines that say something of it are parsed: a journal may be long, and there may be many."""
    text = run.journal.read_text(errors="replace")
    if identity not in text:
        return
    begun: dict[tuple[str, int], dict[str, Any]] = {}
    mine: set[tuple[str, int]] = set()
    ended: set[tuple[str, int]] = set()
    for line in text.splitlines():
        if not any(f'"{kind}"' in line for kind in ("backup-kept", "write-begun", "write-ended")):
            continue
        row = _parsed(line)
        if row is None or row.get("kind") not in ("backup-kept", "write-begun", "write-ended"):
            continue
        who = (row["unit"], row["attempt"])
        if row["kind"] == "backup-kept" and row["identity"] == identity:
            mine.add(who)
        elif row["kind"] == "write-begun":
            begun[who] = row
        elif row["kind"] == "write-ended" and row["verified"]:
            ended.add(who)
    for who, row in begun.items():
        if who in mine:
            spans = tuple((at, length) for at, length in row["ranges"])
            yield _Write(str(row["utc"]), f"unit {who[0]} of run {run.id}", spans, who in ended)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _begun(runs: Path, line: dict[str, object]) -> str:
    name = secrets.token_hex(8)
    _append(runs, {"id": name, **line})
    return name


def _append(runs: Path, line: dict[str, object]) -> None:
    path = runs / NAME
    text = json.dumps({"utc": datetime.now(UTC).isoformat(), **line}) + "\n"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "r+b", buffering=0) as file:
            size = os.fstat(fd).st_size
            torn = size and os.pread(fd, 1, size - 1) != b"\n"  # a crash tore the last line: this one is its own
            file.write(b"\n" * bool(torn) + text.encode())
            os.fsync(fd)
        fsync_dir(runs)
    except OSError as problem:
        raise UsageProblem(f"cannot write {path}: {problem.strerror or problem}") from None
