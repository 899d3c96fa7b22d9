"""Where a boot that failed came to its end, by the markers of phases in its kept log: "RF calibration"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from reports.power import names
from reports.power.evidence import activity_of, text_of
from reports.power.gathered import Run, several
from rig.image.firmware import LogPhase, load_profiles
from rig.power.trial import Trial

_ORDER: tuple[LogPhase, ...] = ("boot", "rf-calibration", "access-point", "running")


def told(run: Run, trials: Sequence[Trial]) -> str:
    """Like "at RF calibration in the 3 whose log is kept"; "" where no log tells, or they do not agree."""
    found = [phase for trial in trials if (phase := stopped(run, trial)) is not None]
    if not found or len(set(found)) > 1:
        return ""
    where = names.PHASE[several(found)[0]]
    return f"at {where} in the {len(found)} whose log is kept" if len(found) > 1 else f"at {where} in a kept log"


def stopped(run: Run, trial: Trial) -> LogPhase | None:
    """The furthest phase that its log shows, by the markers of the firmwares that the rig knows; None: no log, no
    marker, or it came up."""
    text, _ = activity_of(text_of(run.folder, trial.log))
    if not text:
        return None
    reached: LogPhase | None = None
    for phase in _ORDER:
        if any(marker in text for marker in _markers(phase)):
            reached = phase
    return None if reached == "running" else reached


@cache
def _markers(phase: LogPhase) -> tuple[str, ...]:
    return tuple(dict.fromkeys(marker for profile in load_profiles() for marker in profile.log.phase(phase)))
