"""Provisioning in a conversion: each unit's own configuration, proven by its own log, and no secret anywhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures.evidence import boot_log_html
from rig.bench.product import load_product
from rig.errors import UnitFailed, UsageProblem
from rig.image.contents.openbeken import ObkConfig, read_config
from rig.image.contents.provision import Provision, load_provision
from rig.image.planning.board import Board
from rig.line.provisioning import config_for, provision_of, require_provisioned
from rig.line.record import judged
from rig.records import events
from rig.uart.bootlog import LogLine
from tests.sim_process import SimProcess, rig, rig_inside
from tests.test_convert import FIRMWARE, OPENBEKEN, needs_firmware, of_kind, one_sentence, run_of

pytest.importorskip("unicorn")

SECRETS = {
    "wifi": "correct horse battery",
    "mqtt": "br0ker-Passw0rd",
    "web": "page-Passw0rd",
}
PROVISION = """
[provision]
name = "Lamp {serial}"
short_name = "lamp-{serial}"
pins = PINS
flags = ["automatic-hass-discovery"]
web_password = { env = "RIG_TEST_WEB" }

[provision.wifi]
ssid = "RIG_TEST_AP"
password = { env = "RIG_TEST_WIFI" }

[provision.mqtt]
host = "10.0.0.9"
user = "lamps"
password = { file = "mqtt.secret" }
"""


def provisioning(folder: Path, pins: str = '{ 24 = "Rel 1" }') -> Path:
    """A provisioning file, with its secrets where it says."""
    secret = folder / "mqtt.secret"
    secret.write_text(SECRETS["mqtt"] + "\n")
    secret.chmod(0o600)
    path = folder / "provision.toml"
    path.write_text(PROVISION.replace("PINS", pins))
    return path


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIG_TEST_WIFI", SECRETS["wifi"])
    monkeypatch.setenv("RIG_TEST_WEB", SECRETS["web"])


# -- before a board has power --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def idle_bench(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A bench on which nothing may ever be switched on."""
    with SimProcess(tmp_path_factory.mktemp("idle"), "--speed", "20") as bench:
        yield bench


def refused(bench: SimProcess, folder: Path, *words: str | Path) -> str:
    done = rig_inside("convert", "--bench", bench.bench_file, *words, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert not (folder / "runs").exists()
    assert bench.status()["resets"] == 0
    return one_sentence(done.stderr)


@pytest.mark.usefixtures("secrets")
def test_an_image_that_is_not_openbeken_is_refused(idle_bench: SimProcess, tmp_path: Path) -> None:
    said = refused(idle_bench, tmp_path, "--provision", provisioning(tmp_path))
    assert "rig-demo" in said
    assert "--no-provision" in said


def test_a_file_that_is_none_and_two_options_that_exclude_each_other(idle_bench: SimProcess, tmp_path: Path) -> None:
    assert "none.toml" in refused(idle_bench, tmp_path, "--provision", "none.toml")
    said = refused(idle_bench, tmp_path, "--provision", provisioning(tmp_path), "--no-provision")
    assert "one of the two" in said


@needs_firmware
def test_what_it_needs_of_the_environment_and_the_serial_number(
    idle_bench: SimProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--image", Path(FIRMWARE or "") / OPENBEKEN, "--provision", provisioning(tmp_path))
    monkeypatch.setenv("RIG_TEST_WEB", SECRETS["web"])
    monkeypatch.delenv("RIG_TEST_WIFI", raising=False)
    assert "RIG_TEST_WIFI" in refused(idle_bench, tmp_path, *words)
    monkeypatch.setenv("RIG_TEST_WIFI", "short")
    said = refused(idle_bench, tmp_path, *words)
    assert "8 to 63" in said
    assert "short" not in said
    monkeypatch.setenv("RIG_TEST_WIFI", SECRETS["wifi"])
    assert "SN/1" in refused(idle_bench, tmp_path, *words, "--serial", "SN/1")
    (tmp_path / "mqtt.secret").chmod(0o644)
    assert "mqtt.secret" in refused(idle_bench, tmp_path, *words)


# -- the parts -----------------------------------------------------------------------------------------------


def test_a_products_own_provisioning_counts_unless_a_file_or_nothing_is_asked_for(tmp_path: Path) -> None:
    own = Provision(name="own-{serial}")
    product = load_product("ds-121").model_copy(update={"provision": own})
    assert provision_of(product, None) is own
    assert provision_of(product, None, off=True) is None
    given = provision_of(product, provisioning(tmp_path))
    assert given is not None
    assert given.name == "Lamp {serial}"
    with pytest.raises(UsageProblem, match="one of the two"):
        provision_of(product, tmp_path / "provision.toml", off=True)


@pytest.mark.usefixtures("secrets")
def test_what_a_board_lacks_is_told_with_a_code_of_its_own(tmp_path: Path) -> None:
    provision = load_provision(provisioning(tmp_path, pins='"tuya"'))
    blank = b"\xff" * 0x200000
    with pytest.raises(UnitFailed, match="Tuya storage") as failed:
        config_for(provision, "SN1", "02:00:00:00:00:05", Board(held=blank))
    assert failed.value.code == "provision-missing"
    with pytest.raises(UnitFailed, match="MAC is not known") as failed:
        config_for(Provision(), "SN1", None, Board(held=blank))
    assert failed.value.code == "provision-missing"


def lines(*texts: str) -> list[LogLine]:
    return [LogLine(at, text) for at, text in enumerate(texts, start=1)]


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("missing", [None, 0, 1, 2])
def test_the_firmwares_own_log_must_say_all_of_it(missing: int | None, tmp_path: Path) -> None:
    provision = load_provision(provisioning(tmp_path))
    config = config_for(provision, "SN1", "02:00:00:00:00:05", Board())
    said = list(provision.expected(config))
    assert any("lamp-SN1" in text for text in said)
    if missing is None:
        require_provisioned(provision, config, lines(*said))
        return
    left_out = said.pop(missing)
    with pytest.raises(UnitFailed, match=re.escape(left_out)) as failed:
        require_provisioned(provision, config, lines(*said, "Using SSID [another]"))
    assert failed.value.code == "provision-refused"


def test_a_secret_in_a_failures_sentence_is_hidden_by_its_value() -> None:
    _, _, sentence = judged(UnitFailed("not-complete", f"it said {SECRETS['web']} and died"), [SECRETS["web"]])
    assert sentence == "it said *** and died"


def test_a_page_shows_no_known_secret_however_it_was_printed(tmp_path: Path) -> None:
    log = tmp_path / "boot.log"
    log.write_text(f"[0.1] who would think that this is one: {SECRETS['web']}\n")
    assert SECRETS["web"] in boot_log_html(log)
    assert SECRETS["web"] not in boot_log_html(log, SECRETS.values())


# -- with OpenBeken ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Two boards with one factory dump, converted with provisioning."""

    said: str
    folder: Path
    events: list[events.Event]
    configs: dict[str, ObkConfig | None]

    def log(self, unit: str) -> str:
        return next(self.folder.glob(f"runs/*/units/{unit}/1/boot.log")).read_text(errors="replace")


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    folder = tmp_path_factory.mktemp("provisioned")
    factory = Path(FIRMWARE or "") / "tywb_4ch_rf_switch_CB3S_1.2.1.bin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIG_TEST_WIFI", SECRETS["wifi"])
        patch.setenv("RIG_TEST_WEB", SECRETS["web"])
        with SimProcess(folder, "--speed", "20", "--boards", "2", "--flash", str(factory)) as bench:
            words = ("--image", Path(FIRMWARE or "") / OPENBEKEN, "--serial", "SN1", "--serial", "SN2")
            file = provisioning(folder, pins='"tuya"')
            done = rig(
                "convert",
                "--bench",
                bench.bench_file,
                "--provision",
                file,
                *words,
                cwd=folder,
                reports=True,
                timeout=180,
            )
            assert done.returncode == 0, done.stderr
            dumps = {unit: bench.dump(folder, slot) for unit, slot in (("SN1", "A"), ("SN2", "B"))}
    for dump in folder.glob("*.dump"):
        dump.unlink()  # ours, not the run's
    configs = {unit: read_config(dump[0x1D1000:0x1D2000]) for unit, dump in dumps.items()}
    return Batch(done.stdout + done.stderr, folder, run_of(folder)[1], configs)


@needs_firmware
def test_each_unit_boots_with_its_own_name_and_says_so(batch: Batch) -> None:
    for unit, other in (("SN1", "SN2"), ("SN2", "SN1")):
        log = batch.log(unit)
        for text in ("Correct config has been loaded", "Using SSID [RIG_TEST_AP]", f"lamp-{unit}/"):
            assert text in log
        assert f"lamp-{other}" not in log
        assert "No TLV header" not in log
        config = batch.configs[unit]
        assert config is not None
        assert config.long_name == f"Lamp {unit}"
        assert {pin.pin for pin in config.pins} >= {6, 14, 24, 26}  # of its own Tuya storage: four relays


@needs_firmware
def test_the_configuration_is_a_piece_of_the_plan(batch: Batch) -> None:
    for planned in of_kind(batch.events, events.Planned):
        (piece,) = [piece for piece in planned.pieces if piece.flash_offset == 0x1D1000]
        assert (piece.length, piece.source_offset, piece.sha256) == (0x1000, None, None)
        assert "config" in piece.what
    assert len(of_kind(batch.events, events.Planned)) == 2


@needs_firmware
def test_no_secret_is_anywhere_but_in_the_raw_boot_log(batch: Batch) -> None:
    logs = {path.read_bytes() for path in batch.folder.glob("runs/*/units/*/*/boot.log")}
    assert len(logs) == 2
    artifacts = batch.folder.glob("runs/artifacts/*/*")  # where the raw log is kept, too
    raw = {*batch.folder.glob("runs/*/units/*/*/boot.log"), *(one for one in artifacts if one.read_bytes() in logs)}
    assert len(raw) == 4
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in raw)
    assert all(SECRETS["wifi"] in path.read_text(errors="replace") for path in raw)  # the firmware prints it
    looked = [path for path in batch.folder.glob("runs/**/*") if path.is_file() and path not in raw]
    names = {path.name for path in looked}
    assert {"journal.jsonl", "unit.html", "wire.jsonl", "pytest.log", "index.html", "power.csv"} <= names
    for secret in SECRETS.values():
        assert secret not in batch.said
        found = [str(path) for path in looked if secret.encode() in path.read_bytes()]
        assert found == []
    pages = [path.read_text() for path in looked if path.name == "unit.html"]
    assert all("Using SSID [RIG_TEST_AP]" in page for page in pages)  # the log is on it, without its passwords
