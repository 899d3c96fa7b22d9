"""Finding a unit's backup again: RUN/UNIT, as a person names it, to the board and the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rig.errors import UsageProblem
from rig.records.backups import Backup
from rig.records.events import BackupKept, UnitEnded
from rig.records.journal import read_journal
from rig.records.run import RunFolder
from rig.toml import nearest


@dataclass(frozen=True)
class KeptBackup:
    """The backup of the board that was `unit` in `run`. `mac`: what it was told by then, None if it told none.
    `also`: what else the board was called in that run, since it got a MAC there."""

    run: RunFolder
    unit: str
    backup: Backup
    mac: str | None = None
    also: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        return self.backup.identity

    @property
    def identities(self) -> tuple[str, ...]:
        return (self.identity, *self.also)

    @property
    def name(self) -> str:
        """For people: which board's backup this is."""
        return f"the backup of {self.identity} (unit {self.unit} of {self.run.id})"


def find_kept(spec: str, runs: Path) -> KeptBackup:
    """The backup that RUN/UNIT names: RUN a run's folder, or the name of one in `runs`.

    Raises UsageProblem when the run, the unit or its backup is not there, and when the unit was two boards.
    """
    where, _, unit = spec.rstrip("/").rpartition("/")
    if not where or not unit:
        raise UsageProblem(f"--from {spec}: name a run and a unit in it, like {runs}/20261122-171500-ab12/SN001")
    run = RunFolder.open(Path(where) if Path(where).is_dir() else runs / where)
    found, _ = read_journal(run.journal)
    units = {event.unit for event in found if isinstance(event, BackupKept | UnitEnded)}
    if unit not in units:
        raise UsageProblem(f"--from {spec}: run {run.id} has no unit {unit!r}; {nearest(unit, units)}")
    kept = [event for event in found if isinstance(event, BackupKept) and event.unit == unit]
    if not kept:
        raise UsageProblem(f"--from {spec}: no backup of unit {unit} was kept in run {run.id}")
    boards = list(dict.fromkeys(event.identity for event in kept))
    renamed = len({event.sha256 for event in kept}) == 1 and not any(name.startswith("uid-") for name in boards)
    if len(boards) > 1 and not renamed:  # a board that is known by its MAC only, and got another, is still one
        raise UsageProblem(
            f"--from {spec}: unit {unit} was more than one board in that run ({', '.join(boards)}), so which backup "
            "is meant cannot be told"
        )
    first = kept[0]
    backup = Backup(first.identity, (run.path / first.path).resolve(), first.sha256, first.size)
    ended = [event for event in found if isinstance(event, UnitEnded) and event.unit == unit and event.mac]
    return KeptBackup(run, unit, backup, ended[0].mac if ended else None, tuple(boards[1:]))
