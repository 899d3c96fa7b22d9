"""Provisioning: the table and its mistakes, its secrets, the command, and what real OpenBeken makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rig.bench.product import load_product
from rig.cli.image import app
from rig.errors import ImageRefused, RigError, UsageProblem
from rig.image.contents import openbeken
from rig.image.contents.openbeken import ObkConfig, config_sector, crc8_unsigned, read_config, write_config
from rig.image.contents.provision import Provision, load_provision
from rig.image.contents.tuya import read_storage
from rig.scrub import scrub
from tests.image_files import FIRMWARE_DIR, demo, dump, patched, real_images

MAC = "c8:47:8c:01:59:f7"
TUYA_DUMP = "tywb_4ch_rf_switch_CB3S_1.2.1.bin"
WIFI, BROKER = "correct-horse-7", "battery-staple-8"
FULL = """
[provision]
name = "DS-121 {mac6}"
short_name = "ds121-{serial}"
flags = ["automatic-hass-discovery", 29]
startup = "echo provisioned"
web_password = { file = "web.txt" }

[provision.pins]
24 = "Rel 1"
P8 = "btn 1 2"
22 = "WifiLED_n"

[provision.wifi]
ssid = "factory floor"
password = { env = "RIG_TEST_WIFI" }

[provision.mqtt]
host = "broker.lan"
port = 8883
user = "switches"
password = { env = "RIG_TEST_BROKER" }
group = "hall-3"
"""


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RIG_TEST_WIFI", WIFI)
    monkeypatch.setenv("RIG_TEST_BROKER", BROKER)
    private(tmp_path / "web.txt", "web-secret\n")


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def written(tmp_path: Path, text: str = FULL) -> Path:
    path = tmp_path / "provision.toml"
    path.write_text(text)
    return path


def table(tmp_path: Path, body: str) -> Provision:
    return load_provision(written(tmp_path, f"[provision]\n{body}"))


def test_a_unit_gets_all_of_it(tmp_path: Path) -> None:
    config = load_provision(written(tmp_path)).config("SN-7", MAC.upper(), None)
    assert read_config(write_config(config)) == config
    assert (config.long_name, config.short_name, config.mac) == ("DS-121 0159F7", "ds121-SN-7", MAC)
    assert (config.ssid, config.password, config.web_password) == ("factory floor", WIFI, "web-secret")
    assert (config.mqtt_host, config.mqtt_port, config.mqtt_user, config.mqtt_password) == (
        "broker.lan", 8883, "switches", BROKER,
    )  # fmt: skip
    assert (config.mqtt_client, config.mqtt_group, config.startup) == ("ds121-SN-7", "hall-3", "echo provisioned")
    assert [str(pin) for pin in config.pins] == [
        "P8 Btn (channel 1, 2)", "P22 WifiLED_n (channel 0)", "P24 Rel (channel 1)"
    ]  # fmt: skip
    assert config.flags == {10, 27, 29}


def test_names_are_set_even_where_nothing_is_said(tmp_path: Path) -> None:
    config = table(tmp_path, "").config("1", MAC, None)
    made = write_config(config)
    assert (config.long_name, config.short_name, config.mqtt_client) == (
        "OpenBK7231N_8C0159F7", "obk8C0159F7", "obk8C0159F7",
    )  # fmt: skip
    assert made[0x4B8:0x4BB] == bytes((3, 10, 5))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('name = ""', "cannot be empty"),
        ('name = "x {mac7}"', "no field {mac7}; did you mean 'mac"),
        ('name = "x {mac6:>9}"', "takes no format"),
        ('name = "x {mac6"', "not a template"),
        ('name = "{}"', "no field {}"),
        ('name = "{serial[0]}"', "no field {serial[0]}"),
        ('short_name = "switch"', "the same MQTT client"),
        ('nam = "x"', "unknown key 'provision.nam'; did you mean 'name'"),
        ('flags = ["hass"]', "no flag 'hass'"),
        ('flags = ["automatic-hass-discovry"]', "did you mean 'automatic-hass-discovery'"),
        ("flags = [64]", "0 to 63"),
        ('pins = "tasmota"', 'pins are "tuya"'),
        ('pins = { 29 = "Rel 1" }', "'29' is no pin"),
        ('pins = { 8 = "Rell 1" }', "no role 'Rell'; did you mean 'Rel'"),
        ('pins = { 8 = "Rel 64" }', "0 to 63"),
        ('pins = { 8 = "Rel x" }', "one or two channels"),
        ('pins = { 8 = "Btn 1 2 3" }', "one or two channels"),
        ('pins = { 8 = "" }', "no role ''"),
        ('pins = { 8 = "Rel 1", P8 = "Btn 1" }', "named twice"),
        ('wifi = { ssid = "" }', "cannot be empty"),
        (f'wifi = {{ ssid = "{"ä" * 17}" }}', "at most 32 bytes"),
        ('wifi = { ssid = "a\\u0007" }', "control characters"),
        ('wifi = { ssid = "a", password = { env = "A", file = "b" } }', "one of the two"),
        ('wifi = { ssid = "a", password = {} }', "one of the two"),
        ('wifi = { ssid = "a", password = { value = "hunter2hunter2" } }', "unknown key"),
        ('mqtt = { host = "two words" }', "pattern"),
        ('mqtt = { host = "h", port = 0 }', "this must be 1 or more"),
        ('mqtt = { host = "h", client = "all" }', "the same MQTT client"),
        ('mqtt = { host = "h", group = "a/b" }', "pattern"),
        (f'startup = "{"x" * 1568}"', "at most 1567 bytes"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, body: str, told: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        table(tmp_path, body)
    sentence = str(caught.value)
    assert told in sentence
    assert sentence.startswith(str(tmp_path / "provision.toml"))
    assert "\n" not in sentence
    assert "hunter2" not in sentence


@pytest.mark.parametrize(
    "body",
    [
        'wifi = { ssid = "a", password = "hunter2hunter2" }',
        'web_password = "hunter2hunter2"',
        "web_password = 41414141",
        'mqtt = { host = "a", password = ["hunter2hunter2"] }',
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, body: str) -> None:
    with pytest.raises(UsageProblem, match="a secret never stands in this file") as caught:
        table(tmp_path, body)
    assert "hunter2" not in str(caught.value)
    assert "4141" not in str(caught.value)
    assert scrub(str(caught.value)) == str(caught.value)  # as it is shown: nothing in it looks like a secret


def test_a_file_without_the_table(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="unknown key 'name'"):
        load_provision(written(tmp_path, 'name = "x"'))
    with pytest.raises(UsageProblem, match=r"table \[provision\] is missing"):
        load_provision(written(tmp_path, ""))
    with pytest.raises(UsageProblem, match="no provisioning file at"):
        load_provision(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "serial", "told"),
    [
        ("x{serial}", "a/b", "called with '/'"),
        ("x{serial}", "a\nb", "called with '\\\\n'"),
        ('x{serial}', 'a"b', "called with '\"'"),
        ("{serial} ", "a", "begins or ends with a blank"),
        ("{serial}", "", "which is empty"),
        ("{unit}", "x" * 33, "33 characters, and 32 fit"),
        ("{serial}", "ä", "called with 'ä'"),
    ],
)  # fmt: skip
def test_a_name_that_a_unit_makes_wrong(tmp_path: Path, name: str, serial: str, told: str) -> None:
    provision = table(tmp_path, f"name = '{name}'\nshort_name = 'x{{mac}}'")
    with pytest.raises(UsageProblem, match=told):
        provision.config(serial, MAC, None)


def test_what_a_board_does_not_tell(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match=r"MAC is not known: \{mac8\} stays open"):
        table(tmp_path, "").config("1", None, None)
    own = table(tmp_path, 'name = "n{serial}"\nshort_name = "s{serial}"\npins = "tuya"')
    with pytest.raises(UsageProblem, match="needs the Tuya storage of the board"):
        own.config("1", None, None)
    with pytest.raises(UsageProblem, match="no MAC"):
        own.config("1", "12:34", None)
    assert table(tmp_path, 'name = "n{serial}"\nshort_name = "s{serial}"').config("1", None, None).mac is None


# --- secrets ------------------------------------------------------------------------------------------------------


def test_every_secret_is_known_to_those_who_hide_them(tmp_path: Path) -> None:
    provision = load_provision(written(tmp_path))
    assert provision.secrets() == (WIFI, BROKER, "web-secret")
    config = provision.config("1", MAC, None)
    shown = f"{provision!r} {config!r} {provision.model_dump_json()}"
    assert not any(secret in shown for secret in provision.secrets())
    assert WIFI not in scrub(f"joining with {WIFI}", provision.secrets())


@pytest.mark.parametrize(
    ("mode", "content", "told"),
    [
        (0o640, "secret-7\n", "others can read"),
        (0o604, "secret-7\n", "others can read"),
        (0o600, "", "is empty"),
        (0o600, "\n", "is empty"),
        (0o600, "one\ntwo\n", "more than one line"),
        (0o600, "a\tb", "control characters"),
        (0o600, "x" * 2000, "no text of one line"),
        (0o600, "x" * 34, "34 bytes, and OpenBeken takes 32"),
    ],
)
def test_a_secrets_file_that_is_not_taken(tmp_path: Path, mode: int, content: str, told: str) -> None:
    private(tmp_path / "web.txt", content, mode)
    with pytest.raises(UsageProblem, match=told) as caught:
        load_provision(written(tmp_path)).secrets()
    assert "secret-7" not in str(caught.value)
    assert scrub(str(caught.value)) == str(caught.value)


def test_secrets_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provision = load_provision(written(tmp_path))
    (tmp_path / "web.txt").unlink()
    with pytest.raises(UsageProblem, match=r"web_password\): cannot read .*web.txt: No such file"):
        provision.secrets()
    (tmp_path / "web.txt").mkdir()
    with pytest.raises(UsageProblem, match="Is a directory"):
        provision.secrets()
    monkeypatch.setenv("RIG_TEST_BROKER", "")
    with pytest.raises(UsageProblem, match="the environment's RIG_TEST_BROKER, which is empty"):
        provision.config("1", MAC, None)
    monkeypatch.delenv("RIG_TEST_WIFI")
    with pytest.raises(UsageProblem, match=r"wifi.password\) is to come from .*RIG_TEST_WIFI, which is not set"):
        provision.secrets()


@pytest.mark.parametrize(
    ("password", "good"), [("short77", False), ("x" * 63, True), ("x" * 64, False), ("aB" * 32, True)]
)
def test_a_wpa_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str, good: bool) -> None:
    monkeypatch.setenv("RIG_TEST_WIFI", password)
    provision = load_provision(written(tmp_path))
    if good:
        config = read_config(write_config(provision.config("1", MAC, None)))
        assert config.password == password
        return
    with pytest.raises(UsageProblem, match="8 to 63") as caught:
        provision.secrets()
    assert password not in str(caught.value)


# --- in a product, and as a command -------------------------------------------------------------------------------


def test_a_product_may_bring_it(tmp_path: Path) -> None:
    product = (Path(openbeken.__file__).parents[2] / "products" / "ds-121.toml").read_text()
    assert load_product("ds-121").provision is None
    (tmp_path / "mine.toml").write_text(product + FULL)
    mine = load_product("mine", [tmp_path]).provision
    assert mine is not None
    assert mine.secrets() == (WIFI, BROKER, "web-secret")  # web.txt lies beside the product
    (tmp_path / "mine.toml").write_text(product + FULL.replace('{ env = "RIG_TEST_WIFI" }', '"hunter2hunter2"'))
    with pytest.raises(UsageProblem, match=r"a secret never stands .* \(provision.wifi.password\)") as caught:
        load_product("mine", [tmp_path])
    assert "hunter2" not in str(caught.value)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def command(tmp_path: Path, *more: object) -> Result:
    # A callback makes typer keep the command's name also while it is the only one.
    only = len(app.registered_commands) == 1
    name = [] if only else ["provision"]
    return run(*name, "--config", written(tmp_path), "--serial", "SN-7", *more)


def test_the_command_writes_a_sector(tmp_path: Path) -> None:
    out = tmp_path / "sector.bin"
    result = command(tmp_path, "--mac", MAC, "--out", out)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == config_sector(load_provision(written(tmp_path)).config("SN-7", MAC, None))
    assert out.stat().st_mode & 0o777 == 0o600
    assert "DS-121 0159F7" in result.output
    assert not any(secret in result.output for secret in (WIFI, BROKER, "web-secret"))
    assert result.output.count(" set\n") == 3
    again = command(tmp_path, "--mac", MAC, "--out", out)
    assert isinstance(again.exception, UsageProblem)
    assert "not overwritten" in str(again.exception)


def test_the_command_as_json(tmp_path: Path) -> None:
    result = command(tmp_path, "--mac", MAC, "--out", tmp_path / "sector.bin", "--json")
    rows: dict[str, Any] = json.loads(result.stdout)
    assert (rows["bytes"], rows["password"], rows["password2"], rows["ssid"]) == (4096, "set", None, "factory floor")
    assert rows["flags"][1] == "27 automatic-hass-discovery"
    assert "Using SSID [factory floor]" in rows["log must say"]


def refusal(result: Result) -> str:
    assert isinstance(result.exception, RigError), result.output
    return str(result.exception)


def test_what_the_command_refuses(tmp_path: Path) -> None:
    out = tmp_path / "out.bin"
    for name, content in (("qio.bin", demo()), ("dump.bin", dump())):
        (tmp_path / name).write_bytes(content)
        result = command(tmp_path, "--mac", MAC, "--into", tmp_path / name, "--out", out)
        assert "only OpenBeken for BK7231N" in refusal(result)
        assert isinstance(result.exception, ImageRefused)
    assert "MAC is not known" in refusal(command(tmp_path, "--out", out))
    assert "there is no such file" in refusal(command(tmp_path, "--from-dump", tmp_path / "none", "--out", out))
    assert "cannot write" in refusal(command(tmp_path, "--mac", MAC, "--out", "/proc/none/out.bin"))
    assert not out.exists()


# --- with real images, and on the executing chip ------------------------------------------------------------------


def real(name: str) -> Path:
    return Path(FIRMWARE_DIR or "") / name


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    from tests.real_boots import openbeken_on_tuya

    path = tmp_path / "converted.bin"
    path.write_bytes(openbeken_on_tuya())
    return path


@real_images
def test_a_dump_gives_mac_and_pins_and_takes_the_configuration(tmp_path: Path, converted: Path) -> None:
    text = FULL.replace('[provision.pins]\n24 = "Rel 1"\nP8 = "btn 1 2"\n22 = "WifiLED_n"\n', "")
    path = written(tmp_path, text.replace("[provision]", '[provision]\npins = "tuya"'))
    name = [] if len(app.registered_commands) == 1 else ["provision"]
    sector, new = tmp_path / "sector.bin", tmp_path / "new.bin"
    common = [*name, "--config", path, "--serial", "SN-7", "--from-dump", real(TUYA_DUMP)]
    first = run(*common, "--out", sector)
    assert first.exit_code == 0, first.output
    assert "P10 (Btn) and P11 (Btn): UART1" in first.output
    assert "P24 Rel (channel 1)" in first.output
    assert "c8:47:8c:01:59:f7" in first.output
    assert run(*common, "--into", converted, "--out", new).exit_code == 0
    before, after = converted.read_bytes(), new.read_bytes()
    at = openbeken.OFFSET
    assert after == before[:at] + sector.read_bytes() + before[at + 0x1000 :]
    result = run(*common, "--into", real("OpenBK7231N_QIO_1.18.300.bin"), "--out", tmp_path / "other.bin")
    assert "before 0x1D1000" in refusal(result)


def booted(config: bytes, ms: float) -> Any:
    pytest.importorskip("unicorn", reason="the executing model needs unicorn (extra: sim)")
    from tests.real_boots import boot, openbeken_on_tuya

    flash = openbeken_on_tuya()
    return boot(patched(bytes(flash), openbeken.OFFSET, config), ms)


def full_unit(tmp_path: Path, serial: str) -> tuple[Provision, ObkConfig]:
    provision = load_provision(written(tmp_path, FULL.split("[provision.pins]")[0] + 'pins = "tuya"\n[provision.wifi]'
                                       + FULL.split("[provision.wifi]")[1]))  # fmt: skip
    storage = read_storage(real(TUYA_DUMP).read_bytes())
    return provision, provision.config(serial, MAC, storage)


@real_images
def test_real_openbeken_comes_up_as_each_unit(tmp_path: Path) -> None:
    logs = []
    for serial in ("SN-7", "SN-8"):
        provision, config = full_unit(tmp_path, serial)
        bench = booted(config_sector(config), 1500)
        said = bench.text()
        for text in provision.expected(config):
            assert text in said, text
        assert f"Using Pass [{WIFI}]" in said
        assert "Info:CMD:provisioned" in said  # the start-up command ran
        assert bytes(bench.flash.data)[openbeken.OFFSET :][: openbeken.SIZE] == write_config(config)  # as it was
        logs.append(said)
    assert "bT ds121-SN-7/" not in logs[1]


@real_images
def test_without_a_network_its_own_one_has_the_long_name(tmp_path: Path) -> None:
    provision = table(tmp_path, 'name = "DS-121 {mac6}"\nshort_name = "ds-{serial}"')
    config = provision.config("9", MAC, None)
    said = booted(config_sector(config), 7500).text()
    assert "Boot complete" in said
    assert "ssid:DS-121 0159F7 key:" in provision.expected(config)
    for text in provision.expected(config):
        assert text in said.split("Boot complete")[0], text


@real_images
def test_an_unsigned_checksum_is_refused_by_the_firmware_as_by_us(tmp_path: Path) -> None:
    provision, config = full_unit(tmp_path, "SN-7")
    data = write_config(config)
    wrong = patched(data, 3, bytes((crc8_unsigned(data[4:]),)))
    assert wrong != data
    assert not read_config(wrong).crc_ok
    said = booted(wrong, 1500).text()
    assert "Config crc or ident mismatch" in said
    assert "Using SSID []" in said
    assert not all(text in said for text in provision.expected(config))


@real_images
def test_the_firmwares_own_default_is_ours() -> None:
    flash = booted(b"\xff" * 0x1000, 1000).flash
    own = bytes(flash.data)[openbeken.OFFSET :][: openbeken.SIZE]
    assert own == write_config(openbeken.default_config(MAC))


@real_images
@pytest.mark.parametrize(
    ("version", "size", "taken"), [(3, 2016, True), (3, 3584, False), (4, 3584, True), (2, 2016, False)]
)
def test_which_checksum_a_format_needs(version: int, size: int, taken: bool) -> None:
    data = bytearray(write_config(openbeken.default_config(MAC)))
    data[4] = version
    data[3] = openbeken.crc8(bytes(data[4:size]))
    assert read_config(bytes(data)).crc_ok is taken
    assert ("Correct config has been loaded" in booted(bytes(data), 950).text()) is taken


BUTTON, HIGH = 0x3D, 0x3  # an input with its pull-up, high; an output driven high
GPIO = 0x2800  # in the range of registers


@real_images
def test_pins_do_what_their_roles_say(tmp_path: Path) -> None:
    """Inverted relays: off, their pins are driven high, while a pin never touched is not."""
    roles = {24: "Rel_n 1", 6: "Rel_n 2", 8: "Btn 1", 11: "Btn 4", 22: "WifiLED_n", 9: "Rel 3"}
    pins = "\n".join(f'{pin} = "{role}"' for pin, role in roles.items())
    config = table(tmp_path, f"[provision.pins]\n{pins}").config("1", MAC, None)
    registers = booted(config_sector(config), 3000).soc._buses[0]
    words = {pin: registers.read(GPIO + 4 * pin, 4) for pin in (*roles, 26)}
    assert words == {24: HIGH, 6: HIGH, 8: BUTTON, 11: BUTTON, 22: HIGH, 9: 0, 26: 0}
