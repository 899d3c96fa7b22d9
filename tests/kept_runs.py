"""Runs with evidence that is really there, for tests of the records: logs in the store, backups of boards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthetic_journals import SyntheticRun

from rig.records.backups import BackupStore
from rig.records.events import ArtifactKept, BackupKept
from rig.records.store import FOLDER, ArtifactStore


class KeptRun(SyntheticRun):
    """A run in `runs` whose units leave a boot log and a backup."""

    def unit(self, unit: str, outcome: str = "pass", *, log: bytes | None = None, **told: Any) -> dict[str, Any]:
        who = self.attempt(unit, outcome, identity=None, **told)
        runs = self.folder.path.parent
        folder = self.folder.new_unit_dir(unit, who["attempt"])
        path = folder / "boot.log"
        path.write_bytes(log if log is not None else f"{self.folder.id} {unit} {who['attempt']}".encode())
        digest = ArtifactStore(runs / FOLDER).put(path)
        self.write(ArtifactKept, **who, name="boot-log", path=self.folder.relative(path), sha256=digest)
        (folder / "power.csv").write_text("mono_ns,volts,amps,mode\n")  # on no record
        backup = BackupStore(runs / "backups").keep(f"uid-{unit}", unit.encode() * 500)
        self.write(
            BackupKept,
            **who,
            identity=backup.identity,
            path=f"../backups/{backup.identity}/{backup.path.name}",
            sha256=backup.sha256,
            size=backup.size,
        )
        return who


def kept_run(path: Path, *units: str, **told: Any) -> KeptRun:
    """A whole run with these units, closed."""
    with KeptRun(path, **told) as run:
        for unit in units:
            run.unit(unit)
        run.end()
    return run
