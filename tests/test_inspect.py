"""`rig inspect`: what it says of a file, in the terminal, as JSON, as a page."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from image_files import FIRMWARE_DIR, demo, dump, patched, real_images, zero_key_demo
from image_mutations import ota, ug

from rig.cli import COMMANDS, terminal
from rig.image import flashmap
from rig.image.health.findings import DAMAGES
from rig.image.inspection import Inspection, schema_text
from rig.sim import firmware
from tests import obk_config
from tests.sim_process import rig, rig_inside

ROOT = Path(__file__).parent.parent


def inspected(path: Path, *options: str | Path) -> dict[str, Any]:
    """Its JSON, checked against the model the schema is made from."""
    done = rig_inside("inspect", path, "--json", *options, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    Inspection.model_validate_json(done.stdout, strict=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shown(path: Path, *options: str | Path) -> str:
    done = rig_inside("inspect", path, *options, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "demo_QIO.bin"
    path.write_bytes(demo())
    return path


@pytest.fixture
def flash(tmp_path: Path) -> Path:
    path = tmp_path / "board.bin"
    path.write_bytes(dump())
    return path


# --- what it says -------------------------------------------------------------------------------------------------


def test_an_image_may_go_to_two_places(image: Path) -> None:
    told = inspected(image)
    assert told["schema_version"] == 1
    assert told["plan"]["allowed"]
    assert [place["start"] for place in told["plan"]["places"]] == [0, flashmap.APP]
    assert told["diagnosis"]["bootable"] is True
    assert told["file"]["size"] == len(demo())
    text = shown(image)
    assert "It may go onto a BK7231N board: whole at 0x0, or its app part at 0x11000" in text
    assert text.index("It may go onto") < text.index("Flash map") < text.index("How that is known")


def test_another_boards_dump_leaves_identity_alone(flash: Path) -> None:
    told = inspected(flash)
    spans = [(at["flash_offset"], at["flash_offset"] + at["length"]) for at in told["plan"]["places"][0]["pieces"]]
    assert spans == [(0, 0x1D0000), (0x1D1000, 0x1ED000)]
    assert told["contents"]["calibration"]["mac"] == firmware.mac(7).hex(":")
    assert firmware.mac(7).hex(":") in shown(flash)


def test_onto_a_board_whose_flash_is_known(image: Path, flash: Path, tmp_path: Path) -> None:
    told = inspected(flash, "--onto", flash)
    assert "rig-factory" in told["board"]["holds"]
    app = tmp_path / "app.bin"
    app.write_bytes(demo()[flashmap.APP :])
    assert inspected(app, "--onto", flash)["plan"]["allowed"]
    dead = tmp_path / "dead.bin"
    dead.write_bytes(patched(dump(), 0, b"\xff" * flashmap.APP))
    told = inspected(app, "--onto", dead)
    assert told["plan"]["refusal"]["rule"] == "no-bootloader"
    assert "[no-bootloader]" in shown(app, "--onto", dead)


def test_the_boards_key_from_its_efuse(image: Path, tmp_path: Path) -> None:
    efuse = tmp_path / "efuse.bin"
    efuse.write_bytes(bytes(32 - 6) + b"\x02\x52\x49\0\0\1")
    told = inspected(image, "--efuse", efuse)
    assert told["board"]["key"] == "zero"
    assert told["plan"]["refusal"]["rule"] == "wrong-key"
    efuse.write_bytes(firmware.efuse(7))
    assert inspected(image, "--efuse", efuse)["plan"]["allowed"]
    efuse.write_bytes(bytes(31))
    done = rig_inside("inspect", image, "--efuse", efuse, cwd=tmp_path)
    assert done.returncode == 2
    assert "31 bytes" in done.stderr


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (lambda: zero_key_demo(), "qio", "not encrypted"),
        (lambda: patched(dump(), 0, b"\xff" * 0x11000), "full-dump", "erased"),
        (lambda: ug(ota(demo()[:4096])), "ug", "over-the-air"),
        (lambda: ota(demo()[:4096]), "rbl", "over-the-air"),
        (lambda: firmware.efuse(7), "efuse", "efuse"),
        (lambda: b"readme\n" * 900, "text", "text"),
        (lambda: b"\xff" * 0x200000, "blank", "erased"),
        (lambda: b"\x7fELF" + bytes(5000), "elf", "ELF"),
    ],
)
def test_what_may_not_be_written_says_why_and_check_ends_with_2(make, kind: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(make())
    told = inspected(path)
    assert told["identity"]["kind"] == kind
    assert not told["plan"]["allowed"]
    assert told["plan"]["refusal"]["reason"] in told["verdict"]
    assert told["plan"]["refusal"]["instead"] in told["verdict"]
    assert says.lower() in told["verdict"].lower()
    text = shown(path)
    assert "Not onto a BK7231N board: it is " in text
    assert f"[{told['plan']['refusal']['rule']}]" in text
    done = rig_inside("inspect", path, "--check", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == ""


def test_check_passes_what_may_be_written(image: Path) -> None:
    assert rig_inside("inspect", image, "--check", cwd=image.parent).returncode == 0


def test_a_damaged_block_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(patched(demo(), 0x11000 + 34 * 30 + 5, b"?"))
    (damage,) = [one for one in inspected(path)["diagnosis"]["damages"] if one["name"] == "block-crc"]
    assert damage["offset"] == 0x11000 + 34 * 30
    assert "block-crc" in shown(path)


def test_secrets_are_only_named_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    config = obk_config.config(ssid="AcmeNet", password="hunter2hunter2", short_name="a", long_name="b")
    path.write_bytes(patched(dump(), obk_config.AT, config))
    told = inspected(path)
    assert "OpenBeken's password" in told["contents"]["credentials"]
    assert told["contents"]["secrets"] is None
    assert told["contents"]["config"]["accepted"]
    for options in ((), ("--json",)):
        said = rig_inside("inspect", path, *options, cwd=tmp_path).stdout
        assert "hunter2" not in said
        assert "present" in said
        assert "hunter2" in rig_inside("inspect", path, "--show-secrets", *options, cwd=tmp_path).stdout
    page = tmp_path / "with.html"
    assert rig_inside("inspect", path, "--show-secrets", "--html", page, cwd=tmp_path).returncode == 0
    assert "hunter2" in page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600
    page = tmp_path / "without.html"
    assert rig_inside("inspect", path, "--html", page, cwd=tmp_path).returncode == 0
    assert "hunter2" not in page.read_text()


def test_boot_counters_are_shown(tmp_path: Path) -> None:
    record = struct.pack("<HH", 9, 6) + bytes(59) + b"\x40"
    path = tmp_path / "x.bin"
    path.write_bytes(patched(dump(), 0x1D3000, b"\xfe" * 4 + bytes(64) + record))
    assert inspected(path)["contents"]["counters"] == {"boots": 9, "failures": 3}
    assert "started 9 times, 3 of them since the last good start" in shown(path)


# --- how it says it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["80", "40", "200"])
def test_it_fits_the_terminal_and_has_no_colour_where_it_is_piped(
    columns: str, flash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal.out, "width", int(columns))
    done = rig_inside("inspect", flash, cwd=flash.parent)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= int(columns)


def test_nothing_in_a_file_or_its_name_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J\u202e[bold]x:smile:\udcff.bin"
    evil = "\x1b[31m<b>[red]:smile:\u202e"
    config = obk_config.config(ssid=evil, short_name=evil, long_name="b", startup=evil)
    path.write_bytes(patched(dump(), obk_config.AT, config))
    page = tmp_path / "p.html"
    done = rig("inspect", path, "--html", page, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for said in (done.stdout, rig_inside("inspect", path, "--json", cwd=tmp_path).stdout):
        assert "[bold]x:smile:" in said
        assert all(line.isprintable() for line in said.splitlines())
    text = page.read_text()
    assert "<b>[red]" not in text
    assert "&lt;b&gt;[red]:smile:" in text
    assert "\x1b" not in text


def test_a_page_and_a_picture_need_nothing_else(flash: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "p.html", tmp_path / "p.svg"
    done = rig_inside("inspect", flash, "--html", page, "--svg", picture, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.count("<svg") >= 1
    for outside in ("src=", "@import", "url(http", "<script", 'href="http'):
        assert outside not in text
    assert "prefers-color-scheme: dark" in text
    assert "A4" in text
    assert picture.read_text().lstrip().startswith(("<svg", "<?xml"))


def test_outputs_never_replace_a_file(image: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for option in ("--html", "--svg"):
        for name in ("kept", "link", "demo_QIO.bin"):
            done = rig_inside("inspect", image, option, tmp_path / name, cwd=tmp_path)
            assert done.returncode == 2
            assert "there already" in done.stderr
    assert kept.read_text() == "mine"
    done = rig_inside("inspect", image, "--html", "/proc/x/y.html", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nothing.bin",), "no such file"),
        ((".",), "is a folder"),
        (("empty.bin",), "is empty"),
        (("demo_QIO.bin", "--onto", "demo_QIO.bin"), "--onto takes a dump"),
        (("demo_QIO.bin", "--html", "a", "--svg", "a"), "both name"),
    ],
)
def test_mistakes(words: tuple[str, ...], says: str, image: Path) -> None:
    (image.parent / "empty.bin").write_bytes(b"")
    done = rig_inside("inspect", *words, cwd=image.parent)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- the schema ---------------------------------------------------------------------------------------------------


def test_the_schema_in_the_documentation_is_the_models() -> None:
    written = (ROOT / "docs" / "inspect.schema.json").read_text(encoding="utf-8")
    assert written == schema_text()
    printed = subprocess.run(
        [sys.executable, "-m", "rig.image.inspection"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert printed.stdout == written


def test_every_field_of_the_schema_is_there_and_no_other(image: Path) -> None:
    """Without the package jsonschema: the schema forbids more, and asks for all, at every level."""
    schema = json.loads((ROOT / "docs" / "inspect.schema.json").read_text())
    told = inspected(image)
    for name, part in (("Inspection", schema), *schema["$defs"].items()):
        assert part["additionalProperties"] is False, name
        assert set(part["required"]) == set(part["properties"]), name
    assert set(told) == set(schema["properties"])
    assert set(told["plan"]) == set(schema["$defs"]["PlanFacts"]["properties"])


def test_the_documentation_names_every_damage() -> None:
    page = (ROOT / "docs" / "inspecting.md").read_text(encoding="utf-8")
    for name, meaning in DAMAGES.items():
        assert f"| `{name}` | {meaning} |" in page


# --- real files ---------------------------------------------------------------------------------------------------

# What MANIFEST.tsv says: kind, chip, may it be written as it is, by which rule not, words of why and what instead.
MANIFEST = {
    "OpenBK7231N_QIO_1.18.300.bin": ("qio", "BK7231N", True, None, ("whole at 0x0", "its app part at 0x11000")),
    "OpenBK7231T_QIO_1.18.300.bin": ("qio", "BK7231T", False, "wrong-chip", (
        "wrong chip", "OpenBK7231N_QIO_1.18.300.bin")),
    "OpenBeken-v1.18.219_bk7231n.ug.bin": ("ug", None, False, "not-an-image", (
        "over-the-air", "OpenBK7231N_QIO_1.18.219.bin")),
    "OpenBK7231N_1.18.219_from_ug.rbl": ("rbl", None, False, "not-an-image", (
        "over-the-air", "OpenBK7231N_QIO_1.18.219.bin")),
    "OpenBK7231N_1.18.219_synthetic.uf2": ("uf2", "BK7231N", True, None, ("UF2", "unpacked, its blocks")),
    "OpenBK7231N_QIO_1.18.300_obkStartupCommand_setPinRolePWM3700.bin": (
        "qio", "BK7231N", False, "erases-calibration", ("radio calibration",)),
    "tywb_4ch_rf_switch_CB3S_1.2.1.bin": ("full-dump", "BK7231N", True, None, ("at 0x0 (a restore",)),
    "smartled_8044_1gang_CBU_virgin.bin": ("full-dump", "BK7231N", True, None, ("at 0x0 (a restore",)),
    "ds101jl_4gang_switch_WB3S_1.1.5.bin": ("full-dump", "BK7231T", False, "wrong-chip", ("wrong chip",)),
    "ltchiptool_bk72xx_2024-11-07_11-42-46_efuse.bin": ("efuse", None, False, "not-an-image", (
        "efuse", "OpenBK7231N_QIO_")),
    "esp8266_deepsleep.bin": ("esp", None, False, "not-an-image", ("Espressif", "OpenBK7231N_QIO_")),
    "esp_idf_blink_esp32s2.bin": ("esp", None, False, "not-an-image", ("Espressif", "OpenBK7231N_QIO_")),
    "one_kb.bin": ("too-small", None, False, "not-an-image", ("too small", "OpenBK7231N_QIO_")),
}  # fmt: skip


@real_images
@pytest.mark.parametrize("name", MANIFEST)
def test_the_manifest(name: str) -> None:
    kind, chip, allowed, rule, words = MANIFEST[name]
    path = Path(str(FIRMWARE_DIR)) / name
    told = inspected(path)
    assert told["identity"]["kind"] == kind
    if chip is not None:
        assert told["identity"]["chip"] == chip
    assert told["plan"]["allowed"] is allowed
    assert (told["plan"]["refusal"] or {"rule": None})["rule"] == rule
    text = shown(path)
    for word in words:
        assert word in told["verdict"]
        assert word in text


@real_images
def test_the_manifest_names_every_file() -> None:
    table = (Path(str(FIRMWARE_DIR)) / "MANIFEST.tsv").read_text().splitlines()[1:]
    assert {name for line in table for name in line.split("\t")[0].split(", ")} == set(MANIFEST)


@real_images
def test_a_four_gang_switch_tells_its_pins() -> None:
    told = inspected(Path(str(FIRMWARE_DIR)) / "tywb_4ch_rf_switch_CB3S_1.2.1.bin")
    storage = told["contents"]["storage"]
    assert storage["module"] == "CB3S"
    assert sum(" Rel" in pin for pin in storage["template"]) == 4
    assert told["diagnosis"]["forecast"] == "boots"


def test_a_password_in_a_start_up_command_is_a_secret(tmp_path: Path) -> None:
    path, before = tmp_path / "x.bin", tmp_path / "before.bin"
    startup = "backlog SSID1 AcmeNet; Password1 hunter2hunter2; MqttPassword swordfish99"
    path.write_bytes(patched(dump(), obk_config.AT, obk_config.config(ssid="AcmeNet", startup=startup)))
    before.write_bytes(
        patched(dump(), obk_config.AT, obk_config.config(ssid="AcmeNet", startup="Password1 12345678"))
    )
    page = tmp_path / "x.html"
    done = rig_inside("image", "compare", before, path, cwd=tmp_path)
    everything = shown(path, "--html", page) + page.read_text() + json.dumps(inspected(path)) + done.stdout
    assert "Password1 ***; MqttPassword ***" in everything
    for secret in ("hunter2hunter2", "swordfish99", "12345678"):
        assert secret not in everything
    told = inspected(path, "--show-secrets")["contents"]
    assert "OpenBeken's startup" in told["credentials"]
    assert told["secrets"]["OpenBeken's startup"] == startup


def test_what_holds_nothing_to_start_is_said_so_and_damage_is_in_the_verdict(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(firmware.efuse(7))
    text = shown(path)
    assert "Boots nothing in it to start" in text
    assert "Damage" not in text
    path.write_bytes(patched(dump(), flashmap.CALIBRATION["BK7231N"], b"\xff" * flashmap.SECTOR))
    told = inspected(path)
    assert told["plan"]["allowed"]
    assert "Damaged in it: the radio calibration at 0x1D0000 is gone" in told["verdict"]


def test_a_command_loads_what_it_needs_and_no_more(tmp_path: Path) -> None:
    """Start-up was most of the time that `rig inspect` takes while every command's module was imported first."""
    path = tmp_path / "x.bin"
    path.write_bytes(demo())
    heavy = {"numpy", "pyvisa", "pandas", "serial", "rig.bench", "rig.supply", "rig.line", "rig.flashers"}
    for words, without in ((["--help"], heavy), (["inspect", str(path)], heavy - {"numpy", "serial"})):
        program = (
            f"import sys; from rig.cli import main; sys.argv[1:] = {words!r}\ntry: main()\n"
            "finally: print('LOADED', *sys.modules, file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert not without & set(done.stderr.rpartition("LOADED")[2].split()), words


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "sim"])  # that one becomes another program
def test_every_command_in_the_list_is_there(name: str) -> None:
    done = rig_inside(name, "--help", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Example: rig " in done.stdout
