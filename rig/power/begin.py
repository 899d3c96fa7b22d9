"""What a study's run begins with: the image, the slots with their supplies, and whether these can do all of it."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from rig.bench.bench import Bench, Slot
from rig.bench.slot import lease_slot, slot_lock
from rig.errors import UsageProblem
from rig.image.identify import identify, read_image
from rig.power.cells import cell_of
from rig.power.jobs import Values, staircase_levels
from rig.power.record import Place, Played, Record
from rig.power.sources import load_sources
from rig.power.study import Part, Study
from rig.power.trial import Cell
from rig.supply.channel import Limits
from rig.supply.means import fit
from rig.supply.waveform import Waveform

_USUAL = "OpenBK7231N_QIO_1.18.300.bin"


def find_image(study: Study, bench: Bench) -> Path:
    """The study's, else OpenBeken's in $RIG_FIRMWARE_DIR, else the bench's. Raises UsageProblem."""
    folder = os.environ.get("RIG_FIRMWARE_DIR")
    usual = Path(folder) / _USUAL if folder else None
    image = study.image or (usual if usual is not None and usual.is_file() else None) or bench.image
    if image is None:
        raise UsageProblem(
            "no image for the boards to run: name an OpenBeken QIO for BK7231N with --image FILE, published at "
            "https://github.com/openshwprojects/OpenBK7231T_App/releases"
        )
    return image


def image_told(image: Path) -> dict[str, str]:
    """For the record. Raises UsageProblem for a file that cannot be read."""
    data = read_image(image)
    found = identify(data, image.name)
    return {
        "name": image.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "firmware": found.firmware or "",
        "version": found.version or "",
    }


def slots_of(study: Study, bench: Bench) -> list[Slot]:
    """Raises UsageProblem naming the nearest slot."""
    return [bench.slot(name) for name in (bench.slots if study.slots == "all" else study.slots)]


def look(study: Study, bench: Bench) -> tuple[list[Place], list[Played]]:
    """The slots as they are, and the weak sources as they are played. Each supply is asked what it can do, its output
    off.

    Raises UsageProblem for a wave that a supply cannot play, in words that say what would do; BenchBlocked for a
    supply that does not answer.
    """
    found = [_place(study, slot, bench.speed) for slot in slots_of(study, bench)]
    names = {name for part in study.parts for name in part.source_names}
    most = min(place.maximum_volts for place in found)
    sources = [
        Played(name, source.title, *source.played(most), source.source)
        for name, source in load_sources().items()
        if name in names
    ]
    return found, sources


def new_record(study: Study, bench: Bench, spec: str, image: Path, run: str) -> Record:
    """What run `run` begins with; not written yet. Raises as `look`."""
    places, sources = look(study, bench)
    told = {"spec": spec, "name": bench.name, "simulated": bench.simulated, "speed": bench.speed}
    return Record(
        id=run,
        utc=datetime.now(UTC).isoformat(timespec="seconds"),
        study=study,
        places=places,
        sources=sources,
        bench=told,
        image=image_told(image),
        rig={"version": _own_version(), "python": platform.python_version(), "machine": platform.platform()},
    )


def require_same(record: Record, bench: Bench) -> None:
    """A study goes on with what it began with; its supply and its board are asked by whoever is at it. Raises
    UsageProblem."""
    if bench.simulated != record.simulated:
        began = "simulated" if record.simulated else "real"
        raise UsageProblem(f"the study began on a {began} bench and this one is not: go on with it there")
    for place in record.places:
        product = bench.slot(place.slot).product
        fed = product.supply.volts, product.supply.current_limit, product.supply.maximum_volts
        if (product.name, *fed) != (place.product, place.volts, place.amps, place.maximum_volts):
            raise UsageProblem(
                f"the product of slot {place.slot}, or how it is supplied, is not as when the study began: begin "
                "another one"
            )


def _place(study: Study, slot: Slot, speed: float) -> Place:
    supplied = slot.product.supply
    with slot_lock(slot), lease_slot(slot, "rig power") as channel:
        limits, instrument = channel.limits, channel.instrument
    return Place(
        slot=slot.name,
        product=slot.product.name,
        volts=supplied.volts,
        amps=supplied.current_limit,
        maximum_volts=supplied.maximum_volts,
        supply={name: str(value) for name, value in asdict(instrument).items() if name != "idn"},
        witness=_witness(slot),
        means=[asdict(means) for means in limits.means],
        sentences=_sentences(study, slot, limits, speed),
    )


def _witness(slot: Slot) -> dict[str, Any] | None:
    name = slot.table.witness
    table = slot.witness
    if name is None or table is None:
        return None
    return {"name": name, "resource": table.resource, "dialect": table.dialect, "channel": table.channel}


def _sentences(study: Study, slot: Slot, limits: Limits, speed: float) -> list[str]:
    """What this supply makes of the study's waves: the first of each part, and each that it widens. Raises
    UsageProblem for one that it cannot play, and for settings beyond it."""
    supplied = slot.product.supply
    place = Place(slot.name, slot.product.name, supplied.volts, supplied.current_limit, supplied.maximum_volts)
    found: list[str] = []
    for part in study.parts:
        for at, cell in enumerate(_extremes(study, part, place)):
            if cell.volts > limits.volts_max or cell.amps > limits.amps_max:
                raise UsageProblem(
                    f"part {part.name}: {limits.name or 'the supply'} of slot {slot.name} gives no {cell.volts:g} V "
                    f"with {cell.amps:g} A"
                )
            if cell.waveform is None:
                continue
            drawn = Waveform.of(cell.waveform)
            if max((step.volts or 0.0 for step in drawn.steps), default=0.0) > supplied.maximum_volts:
                raise UsageProblem(
                    f"part {part.name}: {drawn.words}: {slot.product.name} takes {supplied.maximum_volts:g} V at most"
                )
            told = fit(drawn, limits, study.widen, speed=speed)
            if at == 0 or told.widened:
                found.append(f"{part.name}: {told.sentence}")
    return list(dict.fromkeys(found))


def _extremes(study: Study, part: Part, place: Place) -> Iterator[Cell]:
    """Cells of a part at the ends of its axes, all that a wave's length and depth depend on."""
    if part.confirm is not None:
        return  # within what the part before it may ask
    sources = load_sources()
    names: list[str | None] = [*part.source_names] or [None]
    for name in names:
        source = None
        if name is not None:
            source = Played(name, "", *sources[name].played(place.maximum_volts), "")
        for x in _ends(part):
            yield cell_of(study, part, place, source, part.phases[0] if part.phases else None, x)


def _ends(part: Part) -> Iterable[Values]:
    if part.search is not None:
        return [{part.search.axis: part.search.low}, {part.search.axis: part.search.high}]
    if part.staircase is not None:
        return [{"volts": share} for share in staircase_levels(part.staircase.fraction)]
    table = part.grid or part.series
    assert table is not None
    ends = {name: sorted({min(axis.values), max(axis.values)}) for name, axis in table.axes.items()}
    return [dict(zip(ends, values, strict=True)) for values in product(*ends.values())]


def _own_version() -> str:
    try:
        return version("rig")
    except PackageNotFoundError:
        return "not installed"
