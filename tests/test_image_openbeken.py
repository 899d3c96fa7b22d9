"""OpenBeken's configuration as bytes. Its judges: the firmware's own program, and what it writes and takes itself."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.image import beken
from rig.image.contents import openbeken
from rig.image.contents.openbeken import (
    ObkConfig,
    PinRole,
    crc8,
    crc8_unsigned,
    default_config,
    read_config,
    write_config,
)
from rig.image.contents.openbeken_names import FLAGS, ROLES, flag_name, role_name
from tests import obk_config
from tests.image_files import FIRMWARE_DIR, patched, real_images

OBK = "OpenBK7231N_QIO_1.18.300.bin"
MAC = "c8:47:8c:01:59:f7"
quick = settings(max_examples=60, deadline=None, derandomize=True)


def text(size: int) -> st.SearchStrategy[str]:
    letters = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
    return st.text(letters, max_size=size)


pins = st.builds(PinRole, st.integers(0, 28), st.integers(1, len(ROLES) - 1), st.integers(0, 63), st.integers(0, 63))
configs = st.builds(
    ObkConfig,
    short_name=text(31),
    long_name=text(63),
    ssid=text(63),
    password=text(64),
    ssid2=text(63),
    password2=text(67),
    mqtt_host=text(255),
    mqtt_port=st.integers(-(2**31), 2**31 - 1),
    mqtt_user=text(63),
    mqtt_password=text(127),
    mqtt_client=text(63),
    mqtt_group=text(63),
    web_password=text(32),
    startup=text(1567),
    pins=st.lists(pins, max_size=8, unique_by=lambda role: role.pin).map(
        lambda found: tuple(sorted(found, key=lambda role: role.pin))
    ),
    flags=st.frozensets(st.integers(0, 63)),
    mac=st.sampled_from([None, MAC]),
    changes=st.integers(0, 0xFFFF),
)


@quick
@given(configs)
def test_what_is_written_is_what_is_read(config: ObkConfig) -> None:
    data = write_config(config)
    found = read_config(data)
    assert found == config
    assert found.crc_ok
    assert found.problems == ()
    assert len(data) == openbeken.SIZE
    assert write_config(found) == data


@quick
@given(st.binary(max_size=200))
def test_both_checksums(data: bytes) -> None:
    assert crc8(data) == obk_config.crc8(data)  # bit by bit, as the firmware goes
    assert crc8_unsigned(b"123456789") == 0xA1  # the check value of CRC-8/MAXIM-DOW


@quick
@given(st.binary(max_size=openbeken.SIZE + 40), st.integers(0, openbeken.SIZE - 1))
def test_any_bytes_are_read_without_a_fault(data: bytes, at: int) -> None:
    config = read_config(b"CFG" + data)
    assert config is not None
    assert (len(data) + 3 < openbeken.SIZE) == any("bytes are here" in problem for problem in config.problems)
    assert str(config).isprintable()
    if not data.startswith(b"CFG"):
        assert read_config(data) is None
    good = write_config(default_config(MAC))
    damaged = patched(good, at, bytes((good[at] ^ 0x40,)))
    found = read_config(damaged)
    if at < 3:
        assert found is None
    else:
        assert not found.crc_ok
        assert "checksum" in found.problems[0]


def test_what_it_does_not_know_survives() -> None:
    data = bytearray(write_config(default_config(MAC)))
    known_texts = [(0x14, 64), (0x2FE, 64)]
    for at in (0x41E, 0x4C0, 0x527, 0x537, 0xCA5, 0xD00, 0x39E, *(start + size - 3 for start, size in known_texts)):
        data[at] = 0xA5  # start values, loggers, fixed address, remap, TLS, fast connect, channel types, behind texts
    data[3] = crc8(bytes(data[4:]))
    config = read_config(bytes(data))
    assert write_config(config) == bytes(data)
    renamed = write_config(replace(config, long_name="another"))
    assert [at for at in range(4, len(data)) if renamed[at] != data[at] and not 0x2FE <= at < 0x33E] == []
    assert renamed[0x2FE:0x33E] == b"another".ljust(64, b"\0")


def test_a_checksum_of_unsigned_bytes_is_told_apart() -> None:
    data = write_config(replace(default_config(MAC), ssid="factory floor"))
    wrong = crc8_unsigned(data[4:])
    assert wrong != data[3]
    found = read_config(patched(data, 3, bytes((wrong,))))
    assert not found.crc_ok
    assert "unsigned bytes" in found.problems[0]
    other = next(value for value in range(256) if value not in (wrong, data[3]))
    assert "unsigned" not in read_config(patched(data, 3, bytes((other,)))).problems[0]


def old_config(version: int, startup: bytes = b"backlog echo 1") -> bytearray:
    data = bytearray(write_config(replace(default_config(MAC), mqtt_client="", ssid="floor"))[: openbeken.OLD_SIZE])
    struct.pack_into("<i", data, 4, version)
    data[0x5E0 : 0x5E0 + len(startup)] = startup
    data[3] = crc8(bytes(data[4:]))
    return data + b"\xff" * (openbeken.SIZE - openbeken.OLD_SIZE)


def test_formats_before_4_are_shorter() -> None:
    found = read_config(bytes(old_config(3)))
    assert (found.crc_ok, found.version, found.startup, found.ssid2) == (True, 3, "backlog echo 1", "")
    assert found.problems == ()
    new = read_config(write_config(found))
    assert (new.version, new.crc_ok, new.startup, new.web_password) == (5, True, "backlog echo 1", "")
    oldest = read_config(bytes(old_config(2)))
    assert not oldest.crc_ok
    assert "2,016 bytes" in oldest.problems[0]
    assert read_config(write_config(oldest)).mqtt_client == "obk8C0159F7"


def test_secrets_are_not_in_its_representation() -> None:
    config = ObkConfig(password="hunter22", password2="hunter23", mqtt_password="hunter24", web_password="hunter25")
    assert "hunter" not in repr(config)
    assert "hunter" not in str(read_config(write_config(config)))


@pytest.mark.parametrize(
    "wrong",
    [{"long_name": "x" * 64}, {"short_name": "ä" * 16}, {"ssid": "a\0b"}, {"pins": (PinRole(29, 1),)},
     {"pins": (PinRole(2, 1, 300),)}],
)  # fmt: skip
def test_what_does_not_fit_is_not_written(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"fit|outside"):
        write_config(replace(default_config(MAC), **wrong))


def test_an_unfinished_text_and_a_strange_format_are_problems() -> None:
    data = bytearray(write_config(default_config(MAC)))
    data[0x14:0x54] = b"x" * 64
    data[0x54:0x94] = b"a" * 64  # a WPA key of 64 digits: no end needed
    data[0x2DE] = 0x07
    struct.pack_into("<i", data, 4, 9)
    data[3] = crc8(bytes(data[4:]))
    found = read_config(bytes(data))
    assert found.crc_ok
    assert found.problems == ("its format is 9, and those known are 1 to 5", "its ssid has no end")
    assert found.password == "a" * 64
    assert found.short_name.startswith("\\x07")


def test_names_of_numbers() -> None:
    assert (role_name(1), role_name(9), role_name(200)) == ("Rel", "WifiLED_n", "role 200")
    assert (flag_name(27), flag_name(60)) == ("automatic-hass-discovery", "flag 60")
    assert str(PinRole(24, 3, 1, 2)) == "P24 Btn (channel 1, 2)"


# --- the firmware's own program -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program() -> bytes:
    stored, _ = beken.unframe((Path(FIRMWARE_DIR or "") / OBK).read_bytes()[0x11000:])
    return beken.crypt(stored, 0x10000, beken.TUYA_KEY)


def pointed_at(program: bytes, first: bytes, count: int) -> list[str]:
    """The texts that a table of `count` pointers names, the first of them `first`."""
    start = struct.pack("<I", 0x10000 + program.index(b"\0" + first) + 1)
    at = program.index(start)
    texts = []
    for number in range(count):
        address = struct.unpack_from("<I", program, at + 4 * number)[0] - 0x10000
        texts.append(program[address : program.index(b"\0", address)].decode())
    return texts


@real_images
def test_role_numbers_are_those_of_the_firmware(program: bytes) -> None:
    told = pointed_at(program, b"Rel\0", len(ROLES))
    assert told[:-1] == list(ROLES[1:])
    assert told[-1] == "error"  # behind the last role


@real_images
def test_flag_numbers_are_those_of_the_firmware(program: bytes) -> None:
    told = pointed_at(program, b"[MQTT] Broadcast led params together", len(FLAGS) + 1)
    assert told[-1] == "error"
    for name, words in {
        "mqtt-broadcast-led-params-together": "Broadcast led params together",
        "btn-instant-touch": "Instant touch",
        "mqtt-broadcast-self-state-on-connect": "Broadcast self state on MQTT connect",
        "slow-pwm": "600hz",
        "led-remember-last-state": "Remember LED driver state",
        "tuyamcu-always-publish-channels": "Always publish channels used by TuyaMCU",
        "mqtt-retain-power-channels": "Retain power channels",
        "use-secondary-uart": "alternate UART",
        "automatic-hass-discovery": "HomeAssistant discovery",
        "use-short-device-name-as-hostname": "short device name as a hostname",
        "do-tasmota-tele-publishes": "Tasmota TELE",
        "cmd-accept-uart-commands": "UART command line",
        "mqtt-hass-add-relays-as-lights": "relays as lights",
        "drv-disable-autostart": "Deactivate Autostart",
        "wifi-fast-connect": "Quick connect",
        "mqtt-energy-in-kwh": "kWh",
        "button-disable-all": "child lock",
        "http-disable-auth-in-safe-mode": "Disable authentication in safe mode",
        "mqtt-never-append-get": "Never add GET",
        "wifi-enhanced-fast-connect": "Enhanced fast connect",
    }.items():
        assert words in told[FLAGS.index(name)], name


@real_images
def test_a_published_configuration() -> None:
    name = "OpenBK7231N_QIO_1.18.300_obkStartupCommand_setPinRolePWM3700.bin"
    found = read_config((Path(FIRMWARE_DIR or "") / name).read_bytes()[openbeken.OFFSET :])
    assert found.crc_ok
    assert found.startup.startswith("backlog PWMFrequency 3700; SetPinChannel 8 1; SetPinRole 8 PWM")


@real_images
def test_leftovers_in_its_place_are_no_configuration() -> None:
    for name in ("tywb_4ch_rf_switch_CB3S_1.2.1.bin", "smartled_8044_1gang_CBU_virgin.bin"):
        assert read_config((Path(FIRMWARE_DIR or "") / name).read_bytes()[openbeken.OFFSET :]) is None
