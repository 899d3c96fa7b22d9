"""Fill an `Inspection`: identify a file, diagnose it, plan its way onto a board, list what it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rig.errors import ImageRefused
from rig.image import flashmap
from rig.image.contents.counters import read_counters
from rig.image.contents.openbeken import ObkConfig
from rig.image.contents.settings import secrets as config_secrets
from rig.image.contents.settings import settings
from rig.image.contents.template import pin_template
from rig.image.contents.tuya import TuyaStorage, read_storage
from rig.image.firmware import FirmwareProfile
from rig.image.health.diagnosis import Diagnosis, diagnose
from rig.image.identify import identify
from rig.image.identity import Identity, Kind, Statement
from rig.image.inspection import (
    BoardFacts,
    CalibrationFacts,
    ConfigFacts,
    ContentFacts,
    CountersFacts,
    DamageFacts,
    DiagnosisFacts,
    EvidenceFacts,
    FileFacts,
    IdentityFacts,
    InsideFacts,
    Inspection,
    PieceFacts,
    PlaceFacts,
    PlanFacts,
    RefusalFacts,
    RegionFacts,
    StatementFacts,
    StorageFacts,
)
from rig.image.planning.board import Board
from rig.image.planning.guard import plan_write
from rig.image.planning.plan import Plan
from rig.image.planning.rules import RULES
from rig.image.printable import printable


def inspect_image(
    data: bytes,
    name: str,
    *,
    board: Board | None = None,
    efuse_read: bool = False,
    secrets: bool = False,
    profiles: Sequence[FirmwareProfile] | None = None,
    diagnosis: Diagnosis | None = None,
) -> Inspection:
    """All that is known of the file `data`, called `name`, for this `board` (a BK7231N with Tuya's key by default).

    `efuse_read`: `board.key` was told by its efuse. `secrets`: tell Wi-Fi passwords and keys, not only that they are
    there. `diagnosis`: the file's, to save making it again. Never raises, whatever the bytes.
    """
    board = board or Board()
    name = printable(name)
    if diagnosis is None:
        diagnosis = diagnose(data, identify(data, name, profiles), chip=board.chip, key=board.key)
    found = diagnosis.identity
    plan = _plan(data, name, found, board, profiles)
    return Inspection(
        verdict=_verdict(found, plan, board, diagnosis),
        file=FileFacts(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest()),
        identity=_identity(found),
        board=_board(board, efuse_read, profiles),
        diagnosis=_diagnosis(diagnosis),
        plan=plan,
        contents=_contents(data, diagnosis, secrets),
    )


def _verdict(found: Identity, plan: PlanFacts, board: Board, diagnosis: Diagnosis) -> str:
    if plan.refusal is None:
        ways = ", or ".join(_way(place, found) for place in plan.places)
        return f"{_sentence(found.what)} It may go onto a {board.chip} board: {ways}.{_damaged(diagnosis)}"
    why, instead = plan.refusal.reason, plan.refusal.instead
    verdict = f"Not onto a {board.chip} board: " + (f"it is {why}; {instead}." if instead else plan.refusal.sentence)
    if plan.places:
        verdict += f" What may be written of it: {', or '.join(_way(place, found) for place in plan.places)}."
    return verdict


def _damaged(diagnosis: Diagnosis) -> str:
    """What a file that may be written has of damage: it is no reason against that, and is to be known."""
    if not diagnosis.damages:
        return ""
    more = len(diagnosis.damages) - 1
    return f" Damaged in it: {diagnosis.damages[0].sentence}" + (f", and {more} more." if more else ".")


def _way(place: PlaceFacts, found: Identity) -> str:
    at = f"at 0x{place.start:X}"
    if found.kind is Kind.FULL_DUMP:
        return f"{at} (a restore: calibration, MAC and Tuya's keys of the board stay its own)"
    if found.kind is Kind.QIO:
        return f"whole {at}" if place.start == 0 else f"its app part {at}, behind the board's own bootloader"
    if found.kind is Kind.UF2:
        return f"unpacked, its blocks from 0x{place.start:X}"
    return f"{at}, behind the board's own bootloader" if place.start == flashmap.APP else at


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _plan(
    data: bytes, name: str, found: Identity, board: Board, profiles: Sequence[FirmwareProfile] | None
) -> PlanFacts:
    places: list[PlaceFacts] = []
    refusal: RefusalFacts | None = None
    for start in (None, flashmap.APP) if found.kind is Kind.QIO else (None,):
        try:
            plan = plan_write(data, name, board=board, start=start, profiles=profiles)
        except ImageRefused as problem:
            refusal = refusal or (_refusal(problem) if start is None else None)
        else:
            places.append(_place(plan))
    return PlanFacts(allowed=refusal is None, places=tuple(places), refusal=refusal)


def _refusal(problem: ImageRefused) -> RefusalFacts:
    rule = RULES.get(problem.rule)
    return RefusalFacts(
        rule=problem.rule, sentence=str(problem), reason=problem.reason, instead=problem.instead,
        overridable=rule is not None and rule.overridable,
    )  # fmt: skip


def _place(plan: Plan) -> PlaceFacts:
    pieces = tuple(
        PieceFacts(flash_offset=at.flash_offset, length=at.length, source_offset=at.source_offset, what=at.what)
        for at in plan.pieces
    )
    start = min((piece.flash_offset for piece in pieces), default=0)
    return PlaceFacts(start=start, note=plan.note, notes=plan.notes, size=plan.size, pieces=pieces)


def _identity(found: Identity) -> IdentityFacts:
    return IdentityFacts(
        kind=found.kind.value, what=found.what, chip=found.chip, key=found.key, firmware=found.firmware,
        version=found.version, bootloader=found.bootloader,
        statements=tuple(_statement(item) for item in found.statements),
        inside=tuple(InsideFacts(name=printable(name), kind=one.kind.value, what=one.what)
                     for name, one in found.inside),
    )  # fmt: skip


def _statement(item: Statement) -> StatementFacts:
    evidence = tuple(
        EvidenceFacts(offset=one.offset, data=one.data.hex(), meaning=one.meaning) for one in item.evidence
    )
    return StatementFacts(about=item.about, value=item.value, confidence=item.confidence.value, evidence=evidence)


def _board(board: Board, efuse_read: bool, profiles: Sequence[FirmwareProfile] | None) -> BoardFacts:
    holds = identify(board.held, "", profiles).what if board.held is not None else None
    return BoardFacts(
        chip=board.chip, flash_size=board.flash_size, key=board.key, efuse_read=efuse_read, holds=holds
    )  # fmt: skip


def _diagnosis(diagnosis: Diagnosis) -> DiagnosisFacts:
    regions = tuple(
        RegionFacts(name=at.region.name, start=at.region.start, end=at.region.end, state=at.state.value,
                    what=at.what, used=at.used)
        for at in diagnosis.regions
    )  # fmt: skip
    damages = tuple(
        DamageFacts(name=one.name, offset=one.offset, length=one.length, sentence=one.sentence)
        for one in diagnosis.damages
    )
    return DiagnosisFacts(
        bootable=diagnosis.bootable, forecast=diagnosis.forecast.value,
        possible=tuple(one.value for one in diagnosis.possible), on_a_board=diagnosis.on_a_board,
        guesses=diagnosis.guesses, regions=regions, damages=damages,
    )  # fmt: skip


def _contents(data: bytes, diagnosis: Diagnosis, secrets: bool) -> ContentFacts:
    calibration, storage = diagnosis.calibration, diagnosis.storage
    counters = read_counters(data)
    told = None
    if secrets:
        told = _secrets(data, diagnosis)
    return ContentFacts(
        calibration=CalibrationFacts(
            mac=calibration.mac,
            entries=tuple(dict.fromkeys(entry.name for entry in calibration.entries)),
            problems=calibration.problems,
        ) if calibration else None,
        config=_config(diagnosis.config) if diagnosis.config else None,
        storage=_storage(storage) if storage else None,
        counters=CountersFacts(boots=counters.boots, failures=counters.failures) if counters else None,
        credentials=_credentials(diagnosis),
        secrets=told,
    )  # fmt: skip


def _config(config: ObkConfig) -> ConfigFacts:
    return ConfigFacts(
        accepted=config.crc_ok, problems=config.problems, fields=settings(config),
        pins=tuple(str(pin) for pin in config.pins),
    )  # fmt: skip


def _storage(storage: TuyaStorage) -> StorageFacts:
    template = pin_template(storage)
    return StorageFacts(
        offset=storage.offset, problem=storage.problem, module=storage.module, keys=storage.keys,
        device={name: str(value) for name, value in storage.device.items()},
        pins={name: str(value) for name, value in storage.pins.items()},
        data_points=tuple(" ".join(filter(None, (str(one.id), one.name, one.type, one.mode))) for one in storage.dps),
        template=tuple(str(pin) for pin in template.pins), startup=template.startup, notes=template.notes,
    )  # fmt: skip


def _credentials(diagnosis: Diagnosis) -> tuple[str, ...]:
    config, storage = diagnosis.config, diagnosis.storage
    ours = [f"OpenBeken's {name}" for name in config_secrets(config)] if config else []
    return (*(storage.credentials if storage else ()), *ours)


def _secrets(data: bytes, diagnosis: Diagnosis) -> dict[str, str]:
    config = diagnosis.config
    told = {f"OpenBeken's {name}": value for name, value in config_secrets(config).items()} if config else {}
    storage = read_storage(data, secrets=True) if diagnosis.storage else None
    return (storage.secrets if storage else {}) | told
