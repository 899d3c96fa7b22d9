"""Two files compared by what they mean: another app, another MAC, a changed setting; then how many bytes differ.

Both are laid over the flash where they belong (an app alone at 0x11000), and each region is read as what it holds.
What cannot be laid over a flash is compared byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rig.image import flashmap
from rig.image.beken import FRAMED
from rig.image.bootloader import bootloader_crc
from rig.image.code import Code
from rig.image.contents.calibration import Calibration, read_calibration
from rig.image.contents.counters import read_counters
from rig.image.contents.openbeken import ObkConfig, read_config
from rig.image.contents.settings import PRESENT, secrets, settings
from rig.image.contents.tuya import read_storage
from rig.image.flashmap import Region
from rig.image.identify import identify
from rig.image.identity import Identity, Kind
from rig.image.printable import printable

# Where a file of a kind belongs in flash.
_STARTS = {
    Kind.FULL_DUMP: 0, Kind.QIO: 0, Kind.BOOTLOADER: 0, Kind.APP: flashmap.APP,
    Kind.CALIBRATION: flashmap.CALIBRATION["BK7231N"], Kind.OBK_CONFIG: flashmap.OBK_CONFIG["BK7231N"],
    Kind.STORAGE: flashmap.region("storage").start,
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One difference in meaning: its `region`, `about` what ("firmware", "MAC", "key gw_bi"), and a `sentence`."""

    region: str
    about: str
    sentence: str


@dataclass(frozen=True)
class Difference:
    """How many bytes of a region differ, `first` and `last` of them in flash; `only`: "a" or "b" alone has it."""

    region: str
    start: int
    end: int
    bytes: int
    first: int
    last: int
    only: str | None = None


@dataclass(frozen=True)
class Comparison:
    """`a`, `b`: what each file is. `changes`: differences in meaning. `differences`: in bytes, region by region."""

    a: Identity
    b: Identity
    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]

    @property
    def identical(self) -> bool:
        """Whether both hold the same bytes at the same places."""
        return not self.differences

    @property
    def same_meaning(self) -> bool:
        """Whether nothing differs in meaning: what differs is unused or unexplained bytes."""
        return not self.changes

    @property
    def summary(self) -> str:
        """The comparison in one sentence."""
        if self.identical:
            return "The two are identical."
        if self.same_meaning:
            return "The two mean the same; bytes differ where nothing is read from them."
        regions = list(dict.fromkeys(change.region for change in self.changes))
        return f"They differ in {', '.join(regions)}: {self.changes[0].sentence}"


@dataclass(frozen=True)
class _Side:
    """A file laid over a flash. `flash`: its bytes, beginning at flash offset `start`."""

    data: bytes
    identity: Identity
    start: int

    def at(self, region: Region) -> bytes:
        """The region's bytes, as far as the file has them."""
        first, end = max(region.start - self.start, 0), max(region.end - self.start, 0)
        return self.data[first:end] if region.end > self.start else b""


def compare(a: bytes, b: bytes) -> Comparison:
    """How file `b` differs from file `a`. Never raises, whatever the bytes."""
    one, other = _side(a), _side(b)
    if one is None or other is None:
        return _unlaid(a, b)
    chip = one.identity.chip if one.identity.chip == other.identity.chip else None
    regions = flashmap.REGIONS.get(chip or "BK7231N", flashmap.REGIONS["BK7231N"])
    changes: list[Change] = []
    differences: list[Difference] = []
    for region in regions:
        here, there = one.at(region), other.at(region)
        if here == there:
            continue
        found = _bytes(region, max(region.start, one.start), here, max(region.start, other.start), there)
        differences.append(found)
        changes += [Change(region.name, *told) for told in _meaning(region, one, other, here, there)]
    differences += _beyond(regions[-1].end, one, other)
    return Comparison(one.identity, other.identity, tuple(changes), tuple(differences))


def _side(data: bytes) -> _Side | None:
    found = identify(data)
    # A whole flash that holds nothing known is a flash still: that is what a broken board's dump looks like.
    start = 0 if len(data) == flashmap.FLASH_SIZE else _STARTS.get(found.kind)
    return _Side(data, found, start) if start is not None else None


def _unlaid(a: bytes, b: bytes) -> Comparison:
    one, other = identify(a), identify(b)
    changes = [] if one.what == other.what else [Change("file", "kind", f"{one.what}, then {other.what}")]
    whole = Region("file", 0, max(len(a), len(b)), "")
    differences = () if a == b else (_bytes(whole, 0, a, 0, b),)
    return Comparison(one, other, tuple(changes), differences)


def _bytes(region: Region, at_a: int, a: bytes, at_b: int, b: bytes) -> Difference:
    if not a or not b:
        start, length = (at_b, len(b)) if not a else (at_a, len(a))
        return Difference(region.name, region.start, region.end, length, start, start + length - 1, "a" if a else "b")
    start = min(at_a, at_b)
    end = max(at_a + len(a), at_b + len(b))
    low, high = max(at_a, at_b), min(at_a + len(a), at_b + len(b))
    if low >= high:
        return Difference(region.name, region.start, region.end, len(a) + len(b), start, end - 1)
    common_a = np.frombuffer(a, dtype=np.uint8)[low - at_a : high - at_a]
    common_b = np.frombuffer(b, dtype=np.uint8)[low - at_b : high - at_b]
    where = np.flatnonzero(common_a != common_b)
    count = len(where) + (low - start) + (end - high)
    first = start if start < low else low + int(where[0]) if len(where) else high
    last = end - 1 if end > high else low + int(where[-1])
    return Difference(region.name, region.start, region.end, count, first, last)


def _beyond(end: int, one: _Side, other: _Side) -> list[Difference]:
    """What is past the last region of the map: flashes larger than 2 MiB."""
    tail = Region("beyond", end, max(one.start + len(one.data), other.start + len(other.data)), "")
    here, there = one.at(tail), other.at(tail)
    return [] if here == there else [_bytes(tail, end, here, end, there)]


Told = tuple[str, str]  # (about, sentence)


def _meaning(region: Region, one: _Side, other: _Side, here: bytes, there: bytes) -> Iterator[Told]:
    if not here or not there:
        yield "extent", f"only the {'second' if there else 'first'} file reaches the {region.name} region"
        return
    reader: dict[str, Callable[[], Iterator[Told]]] = {
        "bootloader": lambda: _bootloaders(one, other),
        "app": lambda: _apps(one.identity, other.identity, here, there),
        "calibration": lambda: _calibrations(here, there),
        "net": lambda: _configs(here, there),
        "vars": lambda: _counters(one, other, region),
        "easyflash": lambda: _counters(one, other, region),
        "storage": lambda: _storages(here, there),
    }
    yield from reader.get(region.name, lambda: _fill(region.name, here, there))()


def _fill(name: str, here: bytes, there: bytes) -> Iterator[Told]:
    """A region that nothing is read from: blank or not is all there is to say."""
    before, after = _blank(here), _blank(there)
    if before != after:
        yield "content", f"{name}: {before or 'content'} before, {after or 'content'} after"


def _blank(data: bytes) -> str | None:
    if not data.strip(b"\xff"):
        return "erased"
    return "zeros" if not data.strip(b"\0") else None


def _bootloaders(one: _Side, other: _Side) -> Iterator[Told]:
    before, after = one.identity, other.identity
    names = [side.identity.bootloader or f"of CRC-32 {bootloader_crc(side.data) or 0:08X}" for side in (one, other)]
    if names[0] != names[1]:
        yield "bootloader", f"the bootloader changed from {names[0]} to {names[1]}"
    elif _plain(before.boot) != _plain(after.boot):
        yield "bootloader", f"the bootloader's code differs, though both are {names[0]}"


def _plain(code: Code | None) -> bytes | None:
    return code.plain if code else None


def _apps(before: Identity, after: Identity, here: bytes, there: bytes) -> Iterator[Told]:
    names = [_app_name(side, data) for side, data in ((before, here), (after, there))]
    if names[0] != names[1]:
        yield "firmware", f"the app changed from {names[0]} to {names[1]}"
    elif _plain(before.app) != _plain(after.app):
        yield "firmware", f"the app's code differs, though both are {names[0]}"
    damage = [len(side.app.bad_blocks) if side.app else 0 for side in (before, after)]
    if damage[0] != damage[1]:
        yield "damage", f"code blocks of {FRAMED} bytes with a wrong CRC-16: {damage[0]} before, {damage[1]} after"


def _app_name(found: Identity, data: bytes) -> str:
    if found.app is None:
        blank = _blank(data)
        return f"none ({blank})" if blank else "none that can be read"
    name = " ".join(part for part in (found.firmware, found.version) if part) or "unknown firmware"
    chip = found.app.chip or found.chip
    return f"{name} for {chip}" if chip else name


def _calibrations(here: bytes, there: bytes) -> Iterator[Told]:
    before, after = read_calibration(here), read_calibration(there)
    if before is None or after is None:
        if (before is None) != (after is None):
            names = ["sound calibration" if side else "no calibration" for side in (before, after)]
            yield "calibration", f"{names[0]} before, {names[1]} after"
        return
    if before.mac != after.mac:
        yield "MAC", f"the MAC changed from {before.mac or 'none'} to {after.mac or 'none'}"
    changed = _changed(_values(before), _values(after))
    changed.pop("MAC", None)
    if changed:
        yield "calibration", f"radio calibration: {_listed(changed)}"
    if before.problems != after.problems:
        yield "calibration", f"its damage: {_or_none(before.problems)} before, {_or_none(after.problems)} after"


def _values(found: Calibration) -> dict[str, object]:
    return {entry.name: entry.data for entry in found.entries}


def _configs(here: bytes, there: bytes) -> Iterator[Told]:
    before, after = read_config(here), read_config(there)
    if before is None or after is None:
        yield from _appeared("OpenBeken configuration", before, after, here, there)
        return
    if before.crc_ok != after.crc_ok:
        state = {True: "right", False: "wrong, so the firmware rejects it"}
        yield "configuration", f"its CRC-8 is {state[after.crc_ok]} after, {state[before.crc_ok]} before"
    for name, how in _changed(_settings(before), _settings(after)).items():
        shown = [settings(side).get(name, PRESENT) for side in (before, after)]
        told = f" from {shown[0]!r} to {shown[1]!r}" if how == "changed" and PRESENT not in shown else ""
        yield f"setting {name}", f"OpenBeken's {name} {how}{told}"


def _settings(config: ObkConfig) -> dict[str, object]:
    """Each setting by name, secrets by their value: that one changed is told, and neither value shown."""
    return settings(config) | secrets(config) | {f"P{pin.pin}": pin for pin in config.pins}


def _counters(one: _Side, other: _Side, region: Region) -> Iterator[Told]:
    before, after = (read_counters(side.data) if side.start == 0 else None for side in (one, other))
    if before != after and any(side and region.start <= side.offset < region.end for side in (before, after)):
        yield "boot counters", f"boots: {before or 'not counted'} before; {after or 'not counted'} after"


def _storages(here: bytes, there: bytes) -> Iterator[Told]:
    before, after = read_storage(here), read_storage(there)
    if before is None or after is None:
        yield from _appeared("Tuya storage", before, after, here, there)
        return
    if before.problem != after.problem:
        yield "storage", f"its state: {before.problem or 'readable'} before, {after.problem or 'readable'} after"
    for name, how in _changed(before.raw, after.raw).items():
        fields = _changed(_fields(before.raw.get(name)), _fields(after.raw.get(name)))
        which = f": {_listed(fields)}" if how == "changed" and fields else ""
        yield f"key {name}", f"Tuya's key {name} {how}{which}"


def _fields(value: object) -> Mapping[str, object]:
    return {printable(str(name)): inner for name, inner in value.items()} if isinstance(value, dict) else {}


def _appeared(what: str, before: object, after: object, here: bytes, there: bytes) -> Iterator[Told]:
    if (before is None) != (after is None):
        yield what, f"{what}: {_there(before, here)} before, {_there(after, there)} after"
    elif _blank(here) != _blank(there):
        yield what, f"no {what} in either: {_filling(here)} before, {_filling(there)} after"


def _there(found: object, data: bytes) -> str:
    return "present" if found is not None else f"none ({_filling(data)})"


def _filling(data: bytes) -> str:
    return _blank(data) or "other data"


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, str]:
    """How each name differs: "added", "removed", "changed"."""
    how = {}
    for name in dict.fromkeys((*before, *after)):
        if name not in before:
            how[name] = "added"
        elif name not in after:
            how[name] = "removed"
        elif before[name] != after[name]:
            how[name] = "changed"
    return how


def _listed(changed: Mapping[str, str]) -> str:
    groups: dict[str, list[str]] = {}
    for name, how in changed.items():
        groups.setdefault(how, []).append(name)
    return "; ".join(f"{', '.join(names)} {how}" for how, names in groups.items())


def _or_none(problems: tuple[str, ...]) -> str:
    return " and ".join(problems) or "none"
