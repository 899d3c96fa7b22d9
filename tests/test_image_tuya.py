"""Tuya's storage: of our own making, damaged in every way, and of real dumps."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.image import beken
from rig.image.contents.tuya import DataPoint, TuyaStorage, read_storage
from tests.image_files import FIRMWARE_DIR, patched, real_images
from tests.tuya_storage import BLOCK, SIZE, quoteless, storage

AT = 0x1EE000
PARAMETERS = {"module": "CB3S", "rl1_pin": 24, "rl1_lv": 1, "bt1_pin": "08", "ch_dpid1": 1, "jv": "1.0.1"}
ENTRIES = {
    "gw_bi": {"uuid": "8333bd70", "psk_key": "PSKPSK", "auth_key": "AUTHAUTH", "ap_ssid": "Smart", "ap_passwd": None},
    "user_param_key": quoteless(PARAMETERS),
    "gw_di": {"id": "bf0123456789", "swv": "1.2.1", "pk": "keyjnuy4", "firmk": "keyjnuy4", "s_id": "000003abcd"},
    "gw_wsm": {"ssid": "somebody's home", "passwd": "hunter2hunter2", "token": None, "region": "EU", "random": 0},
    "000003abcd": [
        {"mode": "rw", "property": {"type": "bool"}, "id": 1, "type": "obj"},
        {"mode": "ro", "type": "raw", "id": 21},
    ],
    "baud_cfg": {"baud": 115200},
}  # fmt: skip
VALUES = ("PSKPSK", "AUTHAUTH", "somebody's home", "hunter2hunter2")


def dump(content: bytes, at: int = AT, app: bytes = b"") -> bytes:
    data = b"\xff" * at + content
    return patched(data, 0x11000, app) if app else data


def read(content: bytes) -> TuyaStorage:
    found = read_storage(dump(content))
    assert found is not None
    return found


def test_what_it_says() -> None:
    found = read(storage(ENTRIES))
    assert (found.offset, found.problem, found.module) == (AT, None, "CB3S")
    assert found.keys == tuple(ENTRIES)
    assert found.pins == PARAMETERS | {"bt1_pin": 8}
    assert found.dps == (DataPoint(1, "ch_dpid1", "bool", "rw"), DataPoint(21, "", "raw", "ro"))
    expected = {"uuid": "8333bd70", "firmware version": "1.2.1", "product key": "keyjnuy4", "baud": "115200"}
    assert expected.items() <= found.device.items()
    assert found.activated


def test_secrets_are_named_and_not_told() -> None:
    found = read(storage(ENTRIES))
    assert found.credentials == ("gw_bi.psk_key", "gw_bi.auth_key", "gw_wsm.ssid", "gw_wsm.passwd")
    assert found.secrets == {}
    assert not any(value in f"{found!r} {found.device}" for value in VALUES)
    asked = read_storage(dump(storage(ENTRIES)), secrets=True)
    assert tuple(asked.secrets.values()) == VALUES
    assert not any(value in repr(asked) for value in VALUES)


def test_found_anywhere_and_nowhere() -> None:
    content = storage(ENTRIES)
    for at in (0, 0x1234, 0x1ED000):
        found = read_storage(dump(content, at))
        assert (found.offset, found.problem) == (at, None)
    for data in (b"", b"\xff" * 100, content[32:], content[40:], bytes(SIZE)):
        assert read_storage(data) is None


def test_blocks_that_were_never_used_are_no_damage() -> None:
    found = read(storage(ENTRIES, empty_blocks=1))
    assert (found.problem, found.keys) == (None, tuple(ENTRIES))


@pytest.mark.parametrize("number", range(8))
def test_a_damaged_block_is_named_and_the_rest_read(number: int) -> None:
    content = bytearray(storage(ENTRIES))
    content[number * BLOCK + (10 if number == 0 else 700)] ^= 0x10
    found = read(bytes(content))
    assert f"0x{AT + number * BLOCK:X}" in found.problem
    lost = tuple(ENTRIES)[number - 1 : number]
    assert found.keys == (() if number == 0 else tuple(key for key in ENTRIES if key not in lost))


def test_two_damaged_blocks() -> None:
    content = bytearray(storage(ENTRIES))
    for number in (2, 5):
        content[number * BLOCK + 5] ^= 1
    found = read(bytes(content))
    assert found.problem == "the blocks at 0x1F0000, 0x1F3000 cannot be read"
    assert found.pins == {}


def test_a_value_in_a_damaged_block_is_not_half_read() -> None:
    content = bytearray(storage({"a": b"1", "b": b"22", "c": b"3"}, elsewhere={"a": 2}))
    assert read(bytes(content)).keys == ("a", "b", "c")
    content[2 * BLOCK + 700] ^= 1
    found = read(bytes(content))
    assert found.problem == "the block at 0x1F0000 cannot be read; its entry a cannot be read"
    assert found.keys == ("c",)


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 100, 3 * BLOCK, SIZE - 1])
def test_a_storage_cut_short(size: int) -> None:
    found = read(storage(ENTRIES)[:size])
    assert f"{size:,} of 32,768" in found.problem
    assert found.keys == tuple(ENTRIES)[: max(0, size // BLOCK - 1)]


def test_an_entry_that_cannot_be_parsed_is_named() -> None:
    found = read(storage(ENTRIES | {"user_param_key": b"{a:b:c}"}))
    assert found.problem == "its entry user_param_key cannot be read"
    assert found.pins == {}
    assert "gw_bi" in found.keys


def app_with(text: bytes) -> bytes:
    code = bytes.fromhex("0e0000ea") + bytes.fromhex("14f09fe5") * 7 + b"\0" * 100 + text + b"\0" * 2000
    return beken.frame(beken.crypt(code, 0x10000, beken.TUYA_KEY))


def test_parameters_in_the_app_where_the_storage_has_none() -> None:
    bare = storage({"gw_bi": ENTRIES["gw_bi"]})
    parameters = quoteless({"rl1_pin": 26, "module": "CB2S", "crc": 3})
    found = read_storage(dump(bare, app=app_with(parameters)))
    assert (found.module, found.pins["rl1_pin"], found.problem) == ("CB2S", 26, None)
    given_app = read_storage(bare, app=b"\0\0" + parameters + b"\0")
    assert given_app.pins == found.pins
    for text in (b"x" * 5000 + b",module:1", b"{,module:", b"\xff\xfe,crc:1"):
        assert read_storage(dump(bare, app=app_with(text))).pins == {}


def test_nothing_of_it_reaches_a_terminal(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    handlers = list(logging.getLogger().handlers)
    twice = storage({"a": b"1", "b": b"2"})
    doubled = (
        twice[: 2 * BLOCK] + storage({"x": b"1", "a": b"2"})[2 * BLOCK :]
    )  # two entries of one name: a warning there
    hostile = {"gw_di": {"id": "\x1b[31mred\n", "swv": "9" * 900}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(doubled).keys == ("a",)
        shown = read(storage(hostile)).device
    assert shown["device id"] == "\\x1b[31mred\\x0a"
    assert len(shown["firmware version"]) == 200
    assert logging.getLogger().handlers == handlers
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 255)), max_size=6), st.integers(0, SIZE))
def test_damage_is_a_problem_or_in_bytes_that_nobody_reads(flips: list[tuple[int, int]], size: int) -> None:
    content = bytearray(storage(ENTRIES))
    for at, bits in flips:
        content[at] ^= bits
    found = read_storage(bytes(content[:size]))
    assert found is None or found.problem or found == read_storage(storage(ENTRIES))


# --- real dumps ---------------------------------------------------------------------------------------------------


def real(name: str) -> TuyaStorage:
    found = read_storage((Path(FIRMWARE_DIR or "") / name).read_bytes())
    assert found is not None
    assert found.problem is None
    assert found.offset == AT
    return found


@real_images
def test_a_four_channel_switch() -> None:
    found = real("tywb_4ch_rf_switch_CB3S_1.2.1.bin")
    assert found.keys == ("gw_bi", "user_param_key", "gw_di", "gw_wsm", "wf_start_md", "gw_ai")
    assert (found.module, found.pins["ch_num"], found.device["firmware version"]) == ("CB3S", 4, "1.2.1")
    assert [found.pins[f"rl{number}_pin"] for number in (1, 2, 3, 4)] == [24, 6, 26, 14]
    assert [point.id for point in found.dps] == [1, 2, 3, 4, 9, 10, 11, 12, 42, 43, 44, 49, 50]
    assert found.credentials == ("gw_bi.psk_key", "gw_bi.auth_key", "gw_bi.fac_pin")
    assert not found.activated


@real_images
def test_a_switch_never_activated_and_one_of_the_other_chip() -> None:
    virgin = real("smartled_8044_1gang_CBU_virgin.bin")
    assert (virgin.module, len(virgin.keys), virgin.activated) == ("CBU", 3, False)
    other = real("ds101jl_4gang_switch_WB3S_1.1.5.bin")
    assert (other.module, other.pins["rl1_pin"], other.device["firmware version"]) == ("WB3S", 6, "1.1.5")


@real_images
def test_an_image_without_a_storage() -> None:
    assert read_storage((Path(FIRMWARE_DIR or "") / "OpenBK7231N_QIO_1.18.300.bin").read_bytes()) is None
