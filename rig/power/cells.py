"""From the values of a part's axes to the cell that a board is put through."""

from __future__ import annotations

from collections.abc import Mapping

from rig.errors import UsageProblem
from rig.power.jobs import staircase_levels
from rig.power.record import Place, Played
from rig.power.study import Part, Study, Wave
from rig.power.trial import Cell, Phase
from rig.supply import waveform

POINTS = 20  # of a wave with slopes, where its part does not say


def cell_of(
    study: Study, part: Part, place: Place, source: Played | None, phase: Phase | None, x: Mapping[str, float]
) -> Cell:
    """A trial of `part` at `x`. The supply is the part's, else the source's, else the product's.

    A staircase's volts are shares of the product's (1: all). Raises UsageProblem for volts above its maximum.
    """
    own = {name: value for name, value in x.items() if part.owner(name) == "supply"}
    volts = own.get("volts") or part.volts or (source.volts if source else place.volts)
    amps = own.get("amps") or part.amps or (source.amps if source else place.amps)
    if volts > place.maximum_volts:
        raise UsageProblem(
            f"part {part.name} asks for {volts:g} V, and {place.product} takes {place.maximum_volts:g} V at most"
        )
    numbers = {name: value for name, value in x.items() if part.owner(name) == "wave"}
    shown = dict(x)
    drawn = None
    if part.staircase is not None:
        stairs = part.staircase
        levels = waveform.staircase(volts, stairs.fraction, stairs.hold_s, stairs.rest_s)
        drawn = levels[staircase_levels(stairs.fraction).index(numbers["volts"])]
        shown = {"volts": drawn.volts_least or 0.0}
    elif part.wave is not None:
        drawn = wave_of(part.wave, numbers, volts)
    return Cell(
        study=f"{study.name}/{part.name}",
        activity=part.activity,
        phase=phase,
        waveform=None if drawn is None else drawn.plain(),
        volts=volts,
        amps=amps,
        source=source.name if source else None,
        x=shown,
        nth=int(x.get("nth", part.nth)),
        delay_s=float(x.get("delay_s", part.delay_s)),
    )


def reference_of(study: Study, part: Part, place: Place) -> Cell:
    """The same activity with nothing done to the product's supply."""
    return Cell(study=f"{study.name}/{part.name}", activity=part.activity, volts=place.volts, amps=place.amps)


def wave_of(wave: Wave, numbers: Mapping[str, float], nominal: float) -> waveform.Waveform:
    """`wave` with the values of its axes, on a supply that stands at `nominal` volts. Raises UsageProblem."""
    given = wave.given | dict(numbers)
    points = int(given.get("points", POINTS))
    match wave.kind:
        case "dip":
            return waveform.dip(given["volts"], given["seconds"])
        case "interruption":
            return waveform.interruption(given["seconds"])
        case "sag":
            times = given["fall_s"], given["hold_s"], given["rise_s"]
            return waveform.sag(given["volts"], *times, points, nominal=nominal)
        case "ramp":
            return waveform.ramp(given["start"], given["end"], given["seconds"], points)
        case "starve":
            return waveform.starve(given["amps"], given["seconds"])
        case "soft-start":
            return waveform.soft_start(given["volts"], given["seconds"], points)
