"""`rig image compare`: what differs between two files, in words first."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import FIRMWARE_DIR, demo, dump, patched, real_images
from image_mutations import converted

from rig.image import flashmap
from rig.image.compare import compare
from rig.image.contents.counters import read_counters
from rig.image.identify import read_image
from rig.sim import firmware
from tests import obk_config
from tests.sim_process import rig_inside


def told(a: bytes, b: bytes) -> dict[str, str]:
    return {change.about: change.sentence for change in compare(a, b).changes}


def test_a_file_and_itself() -> None:
    found = compare(dump(), dump())
    assert found.identical
    assert found.same_meaning
    assert found.summary == "The two are identical."


def test_a_conversion_changes_the_app_and_adds_a_configuration() -> None:
    found = compare(dump(), converted())
    assert {change.region for change in found.changes} == {"app", "net"}
    (app,) = [change.sentence for change in found.changes if change.region == "app"]
    assert app == "the app changed from rig-factory 0.9.3 for BK7231N to rig-demo 1.0.0 for BK7231N"
    assert "the app changed" in found.summary


def test_two_boards_differ_by_mac_and_storage_only() -> None:
    other = firmware.factory_dump(8)
    found = compare(dump(), other)
    assert {change.about for change in found.changes} >= {"MAC"}
    assert {item.region for item in found.differences} == {"calibration", "storage"}
    assert firmware.mac(7).hex(":") in told(dump(), other)["MAC"]
    assert firmware.mac(8).hex(":") in told(dump(), other)["MAC"]


def test_bytes_are_counted_and_placed() -> None:
    (item,) = compare(dump(), patched(dump(), 0x140000, b"abc\xff\xffd")).differences
    assert (item.region, item.bytes, item.first, item.last) == ("ota", 4, 0x140000, 0x140005)


def test_an_app_alone_is_laid_where_it_belongs() -> None:
    found = compare(demo(), demo()[flashmap.APP :])
    assert [(item.region, item.only) for item in found.differences] == [("bootloader", "a")]
    assert found.differences[0].bytes == flashmap.APP


def test_settings_by_name_and_secrets_without_their_values() -> None:
    names = {"short_name": "x", "long_name": "y"}
    a = patched(dump(), obk_config.AT, obk_config.config(ssid="one", password="aaaaaaaa1", **names))
    b = patched(dump(), obk_config.AT, obk_config.config(ssid="two", password="bbbbbbbb2", **names))
    changes = told(a, b)
    assert changes["setting ssid"] == "OpenBeken's ssid changed from 'one' to 'two'"
    assert changes["setting password"] == "OpenBeken's password changed"
    assert "aaaaaaaa1" not in str(changes)
    assert "setting short name" not in changes


def test_a_configuration_whose_crc_went_wrong() -> None:
    config = obk_config.config(ssid="one", short_name="x", long_name="y")
    a = patched(dump(), obk_config.AT, config)
    assert "rejects it" in told(a, patched(a, obk_config.AT + 3, bytes((config[3] ^ 1,))))["configuration"]


def test_boot_counters() -> None:
    def counted(boots: int) -> bytes:
        record = struct.pack("<HH", boots, 1) + bytes(59) + b"\x40"
        return patched(dump(), 0x1D3000, b"\xfe" * 4 + record)

    assert told(counted(2), counted(7))["boot counters"] == (
        "boots: 2, 1 of them since the last good start before; 7, 6 of them since the last good start after"
    )
    assert told(dump(), counted(2))["boot counters"].startswith("boots: not counted before; 2,")


def _node(state: int, boots: int, good: int) -> bytes:
    """An EasyFlash node as OpenBeken writes it."""
    value = struct.pack("<HH", boots, good) + bytes(60)
    body = struct.pack("<B3sI", 6, b"\xff" * 3, len(value)) + b"OBK_FV" + value
    return bytes((state,)) + b"\xff" * 3 + b"KV40" + struct.pack("<II", 24 + len(body), zlib.crc32(body)) + body


def test_the_newest_whole_counter_counts() -> None:
    def read(*nodes: bytes) -> tuple[int, int] | None:
        found = read_counters(patched(dump(), 0x1E5014, b"".join(nodes)))
        return (found.boots, found.good) if found else None

    replaced, written, half = _node(0x0F, 3, 3), _node(0x3F, 4, 3), _node(0x7F, 5, 3)
    assert read(replaced, written) == (4, 3)
    assert read(replaced, written, half) == (4, 3)
    assert read(replaced, written, patched(_node(0x3F, 6, 3), 40, b"?")) == (4, 3)
    assert read(replaced, half) is None
    assert read_counters(patched(dump(), 0x1E5014, written)[: 0x1E5014 + len(written) - 1]) is None


def test_a_damaged_block() -> None:
    broken = patched(demo(), 0x11000 + 34 * 30 + 5, b"?")
    assert "0 before, 1 after" in told(demo(), broken)["damage"]


def test_files_that_are_no_flash() -> None:
    found = compare(b"one text\n", b"another\n")
    assert not found.identical
    assert found.differences[0].region == "file"
    assert compare(b"\x7fELF" + bytes(999), demo()).changes[0].about == "kind"
    assert compare(b"", b"").identical


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0x1FFFFF), st.binary(min_size=1, max_size=9)), max_size=4))
def test_the_bytes_add_up(patches: list[tuple[int, bytes]]) -> None:
    """Whatever is changed: the differences are exactly the bytes that differ, and there is one if there are any."""
    changed = dump()
    for at, new in patches:
        changed = patched(changed, at, new)[: len(dump())]
    found = compare(dump(), changed)
    differing = [at for at, new in patches for at in range(at, min(at + len(new), len(changed)))
                 if changed[at] != dump()[at]]  # fmt: skip
    assert sum(item.bytes for item in found.differences) == len(set(differing))
    assert found.identical == (not differing)
    back = compare(changed, dump())
    assert [(item.region, item.bytes, item.first, item.last) for item in back.differences] == [
        (item.region, item.bytes, item.first, item.last) for item in found.differences
    ]


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(dump())
    (tmp_path / "b.bin").write_bytes(converted())
    done = rig_inside("image", "compare", "a.bin", "b.bin", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["same_meaning"]
    assert found["changes"][0]["region"] == "app"
    text = rig_inside("image", "compare", "a.bin", "b.bin", cwd=tmp_path)
    assert text.returncode == 0
    assert "the app changed from rig-factory 0.9.3" in " ".join(text.stdout.split())
    assert rig_inside("image", "compare", "a.bin", "b.bin", "--check", cwd=tmp_path).returncode == 1
    assert rig_inside("image", "compare", "a.bin", "a.bin", "--check", cwd=tmp_path).returncode == 0
    done = rig_inside("image", "compare", "a.bin", "none.bin", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


# --- real images --------------------------------------------------------------------------------------------------


def _real(name: str) -> bytes:
    return read_image(Path(str(FIRMWARE_DIR)) / name)


@real_images
def test_two_real_switches() -> None:
    changes = told(_real("tywb_4ch_rf_switch_CB3S_1.2.1.bin"), _real("smartled_8044_1gang_CBU_virgin.bin"))
    assert changes["firmware"] == "the app changed from Tuya 1.2.1 for BK7231N to Tuya 1.0.2 for BK7231N"
    assert "MAC" in changes
    assert any(about.startswith("key ") for about in changes)
    assert "bootloader" not in changes


@real_images
def test_a_real_conversion_keeps_what_is_the_boards_own() -> None:
    before, image = _real("tywb_4ch_rf_switch_CB3S_1.2.1.bin"), _real("OpenBK7231N_QIO_1.18.300.bin")
    found = compare(before, image + before[len(image) :])
    (change,) = found.changes
    assert change.sentence == "the app changed from Tuya 1.2.1 for BK7231N to OpenBeken 1.18.300 for BK7231N"


@real_images
def test_counters_that_openbeken_itself_wrote() -> None:
    """The board executes OpenBeken until it counts its boot, twice."""
    pytest.importorskip("unicorn")
    from rig.sim.flash import NorFlash
    from rig.sim.soc import Soc
    from rig.sim.soc.clock import SECOND

    flash = NorFlash(_real("OpenBK7231N_QIO_1.18.300.bin"))
    assert read_counters(bytes(flash.data)) is None
    for boots in (1, 2):
        soc = Soc(flash, firmware.efuse(7), on_uart=lambda *what: None)
        soc.power_on()
        assert soc.start()
        soc.run(SECOND)
        found = read_counters(bytes(flash.data))
        assert found is not None
        assert (found.boots, found.failures) == (boots, boots)
