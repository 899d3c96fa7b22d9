"""bench.toml and product profiles: what is right, and one sentence for each thing that is wrong."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from rig.bench.bench import open_bench, read_bench
from rig.bench.config import load_bench, profile_folders
from rig.bench.product import Limits, load_product
from rig.errors import UsageProblem
from rig.records.events import Outcome

GOOD = """
[bench]
name = "bench-1"
[supply.psu1]
resource = "TCPIP::192.168.1.50::5555::SOCKET"
dialect = "rigol-dp800"
serial = "DP8C1234"
cal_due = 2027-05-01
[slot.A]
supply = "psu1"
channel = 1
flash_port = "/dev/ttyUSB0"
log_port = "/dev/ttyUSB1"
product = "ds-121"
change = ["./feeder", "next"]
[slot.B]
supply = "psu1"
channel = 2
flash_port = "/dev/ttyUSB2"
baud = 115200
product = "ds-121"
ovp = "none"
[records]
url = "sqlite:///runs/rig.db"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bench.toml"
    path.write_text(GOOD)
    return path


def problem(file: Path, old: str, new: str) -> str:
    assert GOOD.count(old) >= 1
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UsageProblem) as caught:
        read_bench(file)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_whole_bench(file: Path) -> None:
    bench = read_bench(file)
    assert (bench.name, bench.path, bench.simulated, bench.speed, bench.image) == ("bench-1", file, False, 1.0, None)
    a, b = bench.slots.values()
    assert (a.table.baud, a.table.ovp, a.table.change) == (921600, "supply", ["./feeder", "next"])
    assert (b.table.baud, b.table.ovp, b.table.log_port) == (115200, "none", None)
    assert a.supply.cal_due == date(2027, 5, 1)
    assert a.product.mains
    assert bench.slot("B") is b
    with pytest.raises(UsageProblem, match=r"no slot 'C'; there is A, B"):
        bench.slot("C")
    with open_bench(str(file)) as opened:
        assert opened.slots.keys() == bench.slots.keys()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[bench]", "", "there is no"),
        ('name = "bench-1"', "", "'bench.name' is missing"),
        ('name = "bench-1"', "nam = 1", "unknown key 'bench.nam'; did you mean 'name'?"),
        ("[bench]", 'path = "x"\n[bench]', "unknown key 'path'"),
        ("dialect =", "dialekt =", "unknown key 'supply.psu1.dialekt'; did you mean 'dialect'?"),
        ("cal_due = 2027-05-01", 'cal_due = "soon"', "'supply.psu1.cal_due' is 'soon'"),
        ("channel = 1", "channel = 0", "'slot.A.channel' is 0: this must be 1 or more"),
        ("channel = 1", 'channel = "one"', "'slot.A.channel' is 'one'"),
        ("baud = 115200", "baud = 300", "'slot.B.baud' is 300"),
        ("baud = 115200", "bauds = 115200", "unknown key 'slot.B.bauds'; did you mean 'baud'?"),
        ('ovp = "none"', 'ovp = "off"', "'slot.B.ovp' is 'off': this must be 'supply' or 'none'"),
        ('change = ["./feeder", "next"]', 'change = "./feeder"', "'slot.A.change' is './feeder'"),
        ('supply = "psu1"', 'supply = "psu"', "slot A names supply 'psu'; did you mean 'psu1'?"),
        ('product = "ds-121"', 'product = "ds-12"', "no product called 'ds-12'; did you mean 'ds-121'?"),
        ("channel = 2", "channel = 1", "slots A and B both name psu1 channel 1; each board needs an output"),
        ("/dev/ttyUSB2", "/dev/ttyUSB1", "slots A and B both name port /dev/ttyUSB1"),
        ("/dev/ttyUSB1", "/dev/ttyUSB0", "slot A names port /dev/ttyUSB0 both for flashing and for the log"),
        ("[slot.A]", "[slot]", "'slot.supply' is 'psu1': this must be a table"),
    ],
)
def test_mistakes(file: Path, old: str, new: str, sentence: str) -> None:
    if old == "[bench]" and not new:
        file.write_text('[bench]\nname = "x"\n')
        with pytest.raises(UsageProblem, match=r"bench\.toml: there is no \[slot\.NAME\] table: a bench needs"):
            read_bench(file)
        return
    said = problem(file, old, new)
    assert sentence in said
    assert str(file) in said or "product" in sentence


def test_one_port_under_two_names(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "ttyUSB0"
    real.touch()
    (tmp_path / "by-path").symlink_to(real)
    text = GOOD.replace("/dev/ttyUSB0", str(real)).replace("/dev/ttyUSB2", str(tmp_path / "by-path"))
    file.write_text(text)
    with pytest.raises(UsageProblem, match=f"slots A and B both name port {tmp_path / 'by-path'}"):
        load_bench(file)


def test_one_supply_under_two_names(file: Path) -> None:
    other = '[supply.psu2]\nresource = "TCPIP::192.168.1.50::5555::SOCKET"\n[slot.B]\nsupply = "psu2"\nchannel = 1'
    file.write_text(GOOD.replace('[slot.B]\nsupply = "psu1"\nchannel = 2', other))
    with pytest.raises(UsageProblem, match="slots A and B both name psu2 channel 1"):
        load_bench(file)


def test_users_own_profiles(file: Path, tmp_path: Path) -> None:
    file.write_text(GOOD.replace("[supply.psu1]", 'profiles = "mine"\n[supply.psu1]', 1))
    with pytest.raises(UsageProblem, match=f"the profiles folder {tmp_path / 'mine'} does not exist"):
        read_bench(file)
    (tmp_path / "mine" / "products").mkdir(parents=True)
    assert read_bench(file).profiles("dialects") == []  # one that is missing counts as empty
    (tmp_path / "mine" / "dialects").mkdir()
    assert read_bench(file).slots["A"].product.title == "SmartLive DS-121 wall switch (CB3S)"
    built_in = Path(load_product.__code__.co_filename).parent.parent / "products" / "ds-121.toml"
    mine = tmp_path / "mine" / "products" / "ds-121.toml"
    mine.write_text(built_in.read_text().replace("SmartLive", "My"))
    bench = read_bench(file)
    assert bench.slots["A"].product.title == "My DS-121 wall switch (CB3S)"
    assert bench.profiles("dialects") == [tmp_path / "mine" / "dialects"]
    assert bench.slots["A"].dialect_dirs == (tmp_path / "mine" / "dialects",)
    mine.write_text(built_in.read_text().replace("maximum = 0.100", "maximum = nan"))
    with pytest.raises(UsageProblem, match=r"ds-121\.toml: 'limits\.rom_current\.maximum' is nan"):
        read_bench(file)
    mine.write_text(built_in.read_text().replace("current_limit", "curent_limit"))
    with pytest.raises(
        UsageProblem, match=r"unknown key 'supply\.curent_limit'; did you mean 'current_limit'|missing"
    ):
        read_bench(file)


def test_without_a_profiles_folder_there_is_none(file: Path) -> None:
    assert profile_folders(load_bench(file), "products") == []


@pytest.mark.parametrize(
    "spec", ["sim:", "sim:x", "sim:2@", "sim:2@fast", "sim@", "sim+", "sim:1+witness+", "sim:1+witness="]
)
def test_what_a_simulated_bench_is_called(spec: str) -> None:
    with (
        pytest.raises(UsageProblem, match="a simulated bench is sim, sim:BOARDS or sim:BOARDS@SPEED"),
        open_bench(spec),
    ):
        pass


def test_no_such_file() -> None:
    says = r"^no bench file at nowhere\.toml: rig bench init"
    with pytest.raises(UsageProblem, match=says), open_bench("nowhere.toml"):
        pass


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (None, Outcome.FAIL),
        (float("nan"), Outcome.FAIL),
        (0.9, Outcome.FAIL),
        (1.0, Outcome.MARGINAL),
        (1.9, Outcome.MARGINAL),
        (2.0, Outcome.PASS),
        (3.0, Outcome.PASS),
        (3.1, Outcome.MARGINAL),
        (4.0, Outcome.MARGINAL),
        (4.1, Outcome.FAIL),
    ],
)
def test_limits(value: float | None, outcome: Outcome) -> None:
    limits = Limits(minimum=1, maximum=4, marginal_minimum=2, marginal_maximum=3)
    assert limits.bounded
    assert limits.judge(value) is outcome
    assert not Limits(unit="V").bounded
