"""What rig-station@.service starts: goes on with the batch's run if one was left, else begins it.

A run is left while units are, however it ended: by a power cut, the watchdog, a stop of the service. This process
then becomes `rig run`, which systemd goes on hearing.

    python rig_station.py --bench /etc/rig/bench.toml --batch /etc/rig/batches/2026-w48.toml --out /var/lib/rig/runs
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rig.bench.bench import read_bench
from rig.errors import RigError
from rig.line.batch import read_batch
from rig.line.job import job_from_dict
from rig.line.resume import units_left
from rig.records.events import RunStarted
from rig.records.journal import read_journal
from rig.records.run import RunFolder, list_runs


def unfinished(runs: Path, batch: str, bench: Path) -> RunFolder | None:
    """The batch's newest run, if units are left in it. Raises UsageProblem for a journal or a bench that cannot be
    read: beginning anew beside a run that nobody can tell of would be a guess."""
    for run in reversed(list_runs(runs)):
        found, _ = read_journal(run.journal)
        started = next((event for event in found if isinstance(event, RunStarted)), None)
        if started is None or started.batch != batch or not started.job:
            continue
        job, slots = job_from_dict(started.job), read_bench(bench).slots
        left = units_left(found, job, [slots[name] for name in job.slots if name in slots])
        return run if left else None
    return None


def words(bench: Path, batch: Path, runs: Path) -> list[str]:
    """The command: somebody is at the panel, since nobody is at a terminal."""
    common = ["--bench", str(bench), "--out", str(runs), "--attended"]
    run = unfinished(runs, read_batch(batch).name, bench)
    return ["rig", "run", *(["--batch", str(batch)] if run is None else ["--resume", run.id]), *common]


def main() -> int:
    parser = argparse.ArgumentParser(description="A batch, or what is left of it.")
    for name in ("--bench", "--batch", "--out"):
        parser.add_argument(name, type=Path, required=True)
    told, more = parser.parse_known_args()
    try:
        command = [*words(told.bench, told.batch, told.out), *more]
    except RigError as problem:
        print(f"rig: {problem}", file=sys.stderr)  # noqa: T201 - it has no other voice
        return int(problem.exit_code)
    return os.execv(sys.executable, [sys.executable, "-m", "rig.cli", *command[1:]])


if __name__ == "__main__":
    sys.exit(main())
