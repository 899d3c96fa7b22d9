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
    run = RunFolder.named(where, runs)
    found, _ = read_journal(run.journal)
    units = {event.unit for event in found if isinstance(event, BackupKept | UnitEnded)}
    if unit not in units:
        raise UsageProblem(f"--from {spec}: run {run.id} has no unit {unit!r}; {nearest(unit, units)}")
    kept = [event for event in found if isinstance(event, BackupKept) and event.unit == unit]
    if not kept:
        raise UsageProblem(f"--from {spec}: no backup of unit {unit} was kept in run {run.id}")
    own = [event for event in kept if event.attempt == kept[0].attempt][-1]  # by the name it got, if it got one
    if not all(_same_board(own, attempt) for attempt in _attempts(kept)):
        boards = ", ".join(dict.fromkeys(event.identity for event in kept))
        raise UsageProblem(
            f"--from {spec}: unit {unit} was more than one board in that run ({boards}), so which backup is meant "
            "cannot be told"
        )
    names = dict.fromkeys(event.identity for event in kept if event.sha256 == own.sha256)  # the rest: of its twin
    names.pop(own.identity)
    backup = Backup(own.identity, (run.path / own.path).resolve(), own.sha256, own.size)
    ended = [event for event in found if isinstance(event, UnitEnded) and event.unit == unit and event.mac]
    return KeptBackup(run, unit, backup, ended[0].mac if ended else None, tuple(names))


def _attempts(kept: list[BackupKept]) -> list[list[BackupKept]]:
    """By attempt: within one no board is changed, so what is kept then is all of one board."""
    return [[event for event in kept if event.attempt == attempt] for attempt in {event.attempt for event in kept}]


def _same_board(own: BackupKept, attempt: list[BackupKept]) -> bool:
    """Whether the board of `attempt` is that of `own`: by a name, or by its content if it is known by its MAC only,
    which may be another by now."""
    by_mac = not any(event.identity.startswith("uid-") for event in (own, *attempt))
    return any(event.identity == own.identity or (by_mac and event.sha256 == own.sha256) for event in attempt)
