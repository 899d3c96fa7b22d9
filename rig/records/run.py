"""The folder of a run: where its journal, its units' evidence and its report are.

runs/20261122-171500-ab12/
    journal.jsonl
    units/<unit>/<attempt>/boot.log wire.jsonl power.csv backup.bin.zst unit.html pytest.log
    report/
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rig.errors import UsageProblem
from rig.files import fsync_dir

JOURNAL = "journal.jsonl"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run. Nothing is created by asking for a path."""

    path: Path

    @classmethod
    def create(cls, runs: Path) -> RunFolder:
        """Make a new run's folder in `runs`; its id is the UTC time and four random hex digits.

        UTC, so that names sort by time through a change to winter time. Raises UsageProblem when `runs` cannot
        be written.
        """
        while True:
            folder = runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
            try:
                runs.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
                (folder / "units").mkdir(mode=0o700)  # logs and backups hold Wi-Fi passwords
                fsync_dir(folder)
                fsync_dir(runs)
            except FileExistsError:
                if folder.is_dir():
                    continue
                raise UsageProblem(f"Runs cannot be kept in {runs}: it is not a folder.") from None
            except OSError as error:
                raise UsageProblem(f"Runs cannot be kept in {runs}: {error.strerror}.") from error
            return cls(folder)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run that is there. Raises UsageProblem, naming the nearest run beside it, when it is not."""
        if (path / JOURNAL).is_file():
            return cls(path)
        beside = [run.id for run in list_runs(path.parent)]
        near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)
        hint = f" Did you mean {path.parent / near[0]}?" if near else ""
        if not path.exists():
            raise UsageProblem(f"There is no run {path}.{hint}")
        raise UsageProblem(f"{path} is not a run's folder: it has no {JOURNAL}.{hint}")

    @classmethod
    def named(cls, spec: str | Path, runs: Path) -> RunFolder:
        """A run by its folder, or by its id among `runs`. Raises as `open` does."""
        path = Path(spec)
        return cls.open(path if path.is_dir() or path.parent != Path() else runs / path)

    @property
    def id(self) -> str:
        return self.path.resolve().name

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    @property
    def units(self) -> Path:
        return self.path / "units"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def unit_dir(self, unit: str, attempt: int) -> Path:
        """Where one attempt's evidence is kept (not created here)."""
        return self.units / safe_name(unit) / str(attempt)

    def new_unit_dir(self, unit: str, attempt: int) -> Path:
        """Create an attempt's folder (0700). Every attempt is kept: raises UsageProblem if it is there already."""
        folder = self.unit_dir(unit, attempt)
        try:
            self.units.mkdir(mode=0o700, exist_ok=True)
            folder.parent.mkdir(exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            raise UsageProblem(f"Attempt {attempt} of unit {unit} is on record already in {folder}.") from None
        fsync_dir(folder.parent)
        fsync_dir(self.units)
        return folder

    def drop_unbegun(self) -> None:
        """Remove the folder of a run that came to nothing before its first word. One with a journal stays."""
        with contextlib.suppress(OSError):
            if not self.journal.stat().st_size:
                self.journal.unlink()
        if not self.journal.exists():
            with contextlib.suppress(OSError):  # something else is in it
                self.units.rmdir()
                self.path.rmdir()

    def relative(self, path: Path) -> str:
        """A path inside this run as events carry it: relative to the run's folder, with slashes."""
        return path.resolve().relative_to(self.path.resolve()).as_posix()


def safe_name(unit: str) -> str:
    """A serial number as a folder's name, the same for the same serial and different for another.

    Anything but letters, digits, dot, dash and underscore becomes =XX, so no serial can leave the run's folder.
    """
    name = _UNSAFE.sub(lambda hit: "".join(f"={byte:02X}" for byte in hit[0].encode(errors="replace")), unit)
    if not name or name.startswith("."):
        name = f"=2E{name[1:]}" if name else "="
    if len(name) > 100:
        name = f"{name[:80]}=={hashlib.sha256(unit.encode(errors='replace')).hexdigest()[:12]}"
    return name


def list_runs(runs: Path) -> list[RunFolder]:
    """All runs kept in `runs`, oldest first. A folder without a journal is none."""
    if not runs.is_dir():
        return []
    return [RunFolder(path) for path in sorted(runs.iterdir()) if (path / JOURNAL).is_file()]


def latest(runs: Path) -> RunFolder:
    """The newest run in `runs`. Raises UsageProblem when there is none."""
    found = list_runs(runs)
    if not found:
        raise UsageProblem(f"There is no run in {runs} yet.")
    return found[-1]
