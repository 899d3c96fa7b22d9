"""Tuya's storage in a dump: which device it is, its pins, its data points; secrets by name only unless asked for.

The decryption and the format are those of the bk7231tools package (MIT), which is loaded only when a storage is
read. What it raises, warns of or says ends in `problem`; a block that it cannot read is left out and named. It gets
to see the 32 KiB of the storage, and the app once it is decrypted, no more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from rig.image.beken import crypt, unframe
from rig.image.code import KEYS, vectors_key
from rig.image.flashmap import APP, APP_END, APP_LOGICAL

SIZE = 0x8000  # bytes: a block of keys and seven of data
_BLOCK = 0x1000
_PARAMETERS = "user_param_key"
_LONGEST_PARAMETERS = 4096  # characters; those seen have some 300 to 900
_LONGEST_VALUE = 200  # characters of a device field that are kept
# Fields that are secrets, or, as network names, private. Product and firmware keys (pk, firmk) are neither.
_SECRET = re.compile(
    r"passw|^pwd$|psk|^key$|lckey|lock?al_?key|sec_?key|auth|token|secret|reg_key|fac_pin|^pin$|^random$",
    re.IGNORECASE,
)
_NETWORK = re.compile(r"^ssid\d*$|^bssid$", re.IGNORECASE)
_DEVICE_FIELDS = {  # where: {field there: name here}
    "gw_bi": {"uuid": "uuid", "country_code": "country", "ap_ssid": "access point", "bt_mac": "Bluetooth MAC"},
    "gw_di": {
        "id": "device id", "pk": "product key", "firmk": "firmware key", "swv": "firmware version", "bv": "base",
        "pv": "protocol", "cadv": "Wi-Fi SDK", "s_id": "schema",
    },
    "gw_wsm": {"region": "region"},
    "baud_cfg": {"baud": "baud"},
}  # fmt: skip
_DP_KEY = re.compile(r"^(?:(?P<name>\w+?)_?)?(?:dp|dpid)(?P<number>\d*)$")


@dataclass(frozen=True)
class DataPoint:
    """A Tuya data point: `name` as the parameters call it or "" where only the schema has it; `type` (bool, value,
    enum, ...) and `mode` (rw, ro, wr) from the schema, "" where there is none."""

    id: int
    name: str = ""
    type: str = ""
    mode: str = ""


@dataclass(frozen=True)
class TuyaStorage:
    """What a Tuya storage at file offset `offset` says.

    `keys`: the names of its entries. `device`: what identifies the device, no secrets. `pins`: all of its
    parameters (user_param_key), pins among them, from the storage or, where that has none, from the app. `dps`: data
    points. `credentials`: names of secrets and network names that are present, as "gw_wsm.passwd". `problem`: why it,
    or a part of it, cannot be read. `secrets` holds their values, only where they were asked for. `raw`: every entry
    as it is stored, secrets among them: to be compared, never shown.
    """

    offset: int
    keys: tuple[str, ...] = ()
    device: dict[str, str] = field(default_factory=dict)
    pins: dict[str, int | str] = field(default_factory=dict)
    dps: tuple[DataPoint, ...] = ()
    module: str | None = None
    credentials: tuple[str, ...] = ()
    problem: str | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def activated(self) -> bool:
        """Whether it was ever tied to somebody's account: it has a device id, or a network."""
        return "device id" in self.device or "gw_wsm.ssid" in self.credentials


def read_storage(data: bytes, *, secrets: bool = False, app: bytes | None = None) -> TuyaStorage | None:
    """The Tuya storage in `data` (a whole dump, or any bytes); None where there is none. Never raises.

    `app`: the decrypted app, where the caller has it; else, where the storage has no parameters, the app at 0x11000
    is decrypted and searched for them. With `secrets` the values of secrets are kept.
    """
    tools = _tools()
    try:
        found = tools.KVStorage.find_storage(data)
    except Exception:  # noqa: BLE001 -- a parser not ours, on bytes from anywhere
        return None
    if found is None or found[0] < 0:
        return None
    offset, content = found
    values, problem = _values(tools, offset, bytes(content))
    storage = TuyaStorage(offset, keys=tuple(values), problem=problem, raw=values)
    parameters = values.get(_PARAMETERS)
    if not isinstance(parameters, dict):
        parameters = _from_app(tools, app if app is not None else _app_of(data))
    return _filled(storage, values, parameters or {}, secrets)


def _tools() -> Any:
    """bk7231tools' module for storages; its warnings, which would set up logging for all of us, are dropped."""
    import importlib

    tools = importlib.import_module("bk7231tools.analysis.kvstorage")
    tools.__dict__["warning"] = _say_nothing
    return tools


def _say_nothing(*_: object) -> None:
    pass


def _values(tools: Any, offset: int, content: bytes) -> tuple[dict[str, Any], str | None]:
    """Every entry that can be read, and what cannot."""
    whole = content[: len(content) // _BLOCK * _BLOCK]
    cut = f"it is cut short: {len(content):,} of {SIZE:,} bytes are here" if len(content) < SIZE else None
    blocks = [whole[at : at + _BLOCK] for at in range(0, len(whole), _BLOCK)]
    if not blocks:
        return {}, cut
    # A block never used since the last erase is no damage.
    used = [(offset + at * _BLOCK, block) for at, block in enumerate(blocks) if at and block.strip(b"\xff")]
    problems = [cut] if cut else []
    storage = _unpacked(tools, [blocks[0], *(block for _, block in used)])
    if storage is None:
        if _unpacked(tools, blocks[:1]) is None:
            return {}, f"its block of keys at 0x{offset:X} is damaged, so nothing in it can be decrypted"
        good = [(at, block) for at, block in used if _unpacked(tools, [blocks[0], block]) is not None]
        bad = [f"0x{at:X}" for at, _ in used if at not in {place for place, _ in good}]
        problems.append(f"the block{'s' if len(bad) > 1 else ''} at {', '.join(bad)} cannot be read")
        storage = _unpacked(tools, [blocks[0], *(block for _, block in good)])
    values: dict[str, Any] = {}
    for name, index in getattr(storage, "indexes", {}).items():
        try:
            if any(part.block_id not in storage.blocks for part in index.parts_data):
                raise ValueError("a part of it is in a block that cannot be read")
            value = storage.read_value_parsed(index)
        except Exception:  # noqa: BLE001
            problems.append(f"its entry {_shown(name)} cannot be read")
            continue
        values[_shown(name)] = value
    return values, "; ".join(problems) or None


def _unpacked(tools: Any, blocks: list[bytes]) -> Any:
    try:
        return tools.KVStorage.decrypt_and_unpack(b"".join(blocks))
    except Exception:  # noqa: BLE001
        return None


def _app_of(data: bytes) -> bytes:
    key = vectors_key(data, APP, APP_LOGICAL)
    if key not in KEYS:
        return b""
    stored, _ = unframe(data[APP:APP_END])
    return crypt(stored, APP_LOGICAL, KEYS[key])


def _from_app(tools: Any, app: bytes) -> dict[str, Any] | None:
    try:
        found = tools.KVStorage.find_user_param_key(app)
        if found is None or len(found[1]) > _LONGEST_PARAMETERS:
            return None
        parsed = tools.KVStorage.parse_user_param_key(found[1])
    except Exception:  # noqa: BLE001
        return None
    return parsed if isinstance(parsed, dict) else None


def _filled(storage: TuyaStorage, values: dict[str, Any], parameters: dict[str, Any], secrets: bool) -> TuyaStorage:
    pins = {_shown(name): _plain(value) for name, value in parameters.items()}
    private = dict(_private(values))
    module = pins.get("module")
    return replace(
        storage,
        device=_device(values),
        pins=pins,
        dps=_data_points(values, pins),
        module=str(module) if module else None,
        credentials=tuple(private),
        secrets=private if secrets else {},
    )


def _device(values: dict[str, Any]) -> dict[str, str]:
    found = {}
    for where, fields in _DEVICE_FIELDS.items():
        table = values.get(where)
        if not isinstance(table, dict):
            continue
        for name, shown in fields.items():
            value = table.get(name)
            if isinstance(value, str | int) and value != "":
                found[shown] = _shown(value)
    return found


def _private(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of every secret and network name; numbers 0 and empty texts are none."""
    for key, value in values.items():
        if key == _PARAMETERS:
            continue
        for name, leaf in _leaves(value, 4):
            last = name.rpartition(".")[2]
            if leaf and isinstance(leaf, str | int) and (_SECRET.search(last) or _NETWORK.match(last)):
                yield f"{key}.{name}", str(leaf)


def _leaves(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if not depth:
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        if isinstance(inner, dict | list):
            yield from ((f"{_shown(name)}.{below}", leaf) for below, leaf in _leaves(inner, depth - 1))
        else:
            yield _shown(name), inner


def _data_points(values: dict[str, Any], pins: dict[str, int | str]) -> tuple[DataPoint, ...]:
    """By the parameters, which name them, and by the schema, which gives their types."""
    named: dict[int, str] = {}
    for key, value in pins.items():
        found = _DP_KEY.match(key)
        if found and isinstance(value, int) and 0 < value < 256:
            named.setdefault(value, key)
    points = {number: DataPoint(number, name) for number, name in named.items()}
    details = values.get("gw_di")
    schema = values.get(str(details.get("s_id"))) if isinstance(details, dict) else None
    for item in schema if isinstance(schema, list) else ():
        number = item.get("id") if isinstance(item, dict) else None
        if not isinstance(number, int) or not 0 < number < 256:
            continue
        shape = item.get("property")
        kind = shape.get("type") if isinstance(shape, dict) else item.get("type")
        points[number] = DataPoint(number, named.get(number, ""), _shown(kind or ""), _shown(item.get("mode") or ""))
    return tuple(points[number] for number in sorted(points))


def _plain(value: Any) -> int | str:
    """A parameter: a number, a number in quotes, or a text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\d{1,6}", value) else _shown(value)
    return _shown(json.dumps(value))


def _shown(value: object) -> str:
    """Fit for a terminal, whatever the dump holds."""
    text = str(value)[:_LONGEST_VALUE]
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
