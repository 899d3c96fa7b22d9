"""All that is known of a file before it touches a board, as one value: for the terminal, a page, and programs.

`Inspection` is the schema of `rig inspect --json`; docs/inspect.schema.json is generated from it:
`python -m rig.image.inspection > docs/inspect.schema.json`. `rig.image.inspector` fills it.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )


class FileFacts(_Part):
    name: str
    """Without its folder; characters that cannot be shown are written as escapes."""
    size: int
    """Bytes."""
    sha256: str
    """Of all of its bytes, in hexadecimal."""


class EvidenceFacts(_Part):
    offset: int | None
    """Byte of the file; null: the file as a whole."""
    data: str
    """The bytes there, in hexadecimal; empty where they would say nothing."""
    meaning: str


class StatementFacts(_Part):
    """One thing said of the file."""

    about: str
    """"kind", "chip", "key", "firmware", "version", "bootloader", "family", "size", ..."""
    value: str
    confidence: str
    """"certain": a checksum agrees, or nothing else has those bytes; "likely"; "guess"."""
    evidence: tuple[EvidenceFacts, ...]


class InsideFacts(_Part):
    """A file inside an archive or package."""

    name: str
    kind: str
    what: str


class IdentityFacts(_Part):
    """What the file is, told from its content alone."""

    kind: str
    """"full-dump", "qio", "app", "bootloader", "ug", "rbl", "uf2", "esp", "elf", "efuse", "text", "unknown", ..."""
    what: str
    """The file in one phrase."""
    chip: str | None
    """The chip it was made for; null where nothing in it says so."""
    key: str | None
    """The cipher key its code is stored with: "tuya", "zero" (not encrypted), "unknown"."""
    firmware: str | None
    version: str | None
    bootloader: str | None
    statements: tuple[StatementFacts, ...]
    inside: tuple[InsideFacts, ...]


class BoardFacts(_Part):
    """The board the file is judged for."""

    chip: str
    flash_size: int
    key: str | None
    """The cipher key of its chip; null where its efuse does not tell."""
    efuse_read: bool
    """Whether the key was told by the board's efuse; false: taken to be the one every Tuya board has."""
    holds: str | None
    """What is in its flash now, in one phrase; null where that is not known."""


class RegionFacts(_Part):
    """A region of the flash, and what the file has for it."""

    name: str
    start: int
    end: int
    """One past its last byte."""
    state: str
    """"good", "damaged", "erased", "zero", "foreign", "absent" (the file does not reach it), "data" (no checksum)."""
    what: str
    used: int
    """Bytes that are not erased."""


class DamageFacts(_Part):
    name: str
    """Stable; the list is in docs/inspecting.md."""
    offset: int
    """Byte of the flash."""
    length: int
    sentence: str


class DiagnosisFacts(_Part):
    """What a board would do with it."""

    bootable: bool | None
    """Null where that cannot be told, or the file is nothing a board starts from."""
    forecast: str
    """"boots", "silent", "bootloader-only", "boot-loop", "not-a-flash", "unknown"."""
    possible: tuple[str, ...]
    """Every forecast that may come true."""
    on_a_board: str
    """The forecast in sentences."""
    guesses: tuple[str, ...]
    """What the forecast leans on and nobody has proven; `on_a_board` says it too."""
    regions: tuple[RegionFacts, ...]
    damages: tuple[DamageFacts, ...]


class PieceFacts(_Part):
    flash_offset: int
    length: int
    source_offset: int | None
    """Where it is in the file; null: not from the file, see `what`."""
    what: str


class PlaceFacts(_Part):
    """One way to write the file: where, and which of its bytes."""

    start: int
    note: str
    notes: tuple[str, ...]
    """Choices made for this board."""
    size: int
    """Bytes written in all."""
    pieces: tuple[PieceFacts, ...]


class RefusalFacts(_Part):
    """Why the file may not be written as it is."""

    rule: str
    """By its name in docs/image-rules.md."""
    sentence: str
    reason: str
    instead: str
    """What to use instead; may be empty."""
    overridable: bool


class PlanFacts(_Part):
    allowed: bool
    """Whether the file may be written as it is."""
    places: tuple[PlaceFacts, ...]
    """Every place it may go to, the usual one first."""
    refusal: RefusalFacts | None


class ConfigFacts(_Part):
    """An OpenBeken configuration."""

    accepted: bool
    """Whether the firmware takes it: its CRC-8 is right."""
    problems: tuple[str, ...]
    fields: dict[str, str]
    """By name; secrets only as "present"."""
    pins: tuple[str, ...]


class StorageFacts(_Part):
    """Tuya's storage."""

    offset: int
    """Byte of the file."""
    problem: str | None
    module: str | None
    keys: tuple[str, ...]
    device: dict[str, str]
    pins: dict[str, str]
    """All of its parameters, pins among them."""
    data_points: tuple[str, ...]
    """Each its number, name, type and mode, as far as known."""
    template: tuple[str, ...]
    """The pins as OpenBeken wants them."""
    startup: str
    """Start-up command that belongs to the template."""
    notes: tuple[str, ...]
    """What the template could not take over, and why."""


class CalibrationFacts(_Part):
    """The radio calibration."""

    mac: str | None
    entries: tuple[str, ...]
    problems: tuple[str, ...]


class CountersFacts(_Part):
    """OpenBeken's boot counters."""

    boots: int
    failures: int
    """Boots since the last one that stayed up; over 4, OpenBeken goes into safe mode."""


class ContentFacts(_Part):
    """What the file holds besides code; null for what it does not hold."""

    calibration: CalibrationFacts | None = None
    config: ConfigFacts | None = None
    storage: StorageFacts | None = None
    counters: CountersFacts | None = None
    credentials: tuple[str, ...] = ()
    """Names of the secrets in the file, such as a Wi-Fi password."""
    secrets: dict[str, str] | None = None
    """Their values; null unless asked for with --show-secrets."""


class Inspection(_Part):
    """What `rig inspect FILE --json` prints. Offsets and sizes are bytes."""

    schema_version: Literal[1] = 1
    """Counted up when a field changes its meaning or goes; new fields may come without that."""
    verdict: str
    """What the file is and whether it may go onto the board, for a person."""
    file: FileFacts
    identity: IdentityFacts
    board: BoardFacts
    diagnosis: DiagnosisFacts
    plan: PlanFacts
    contents: ContentFacts


def schema() -> dict[str, Any]:
    """The JSON Schema of the output (every field is always there)."""
    found = Inspection.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def schema_text() -> str:
    """docs/inspect.schema.json."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
