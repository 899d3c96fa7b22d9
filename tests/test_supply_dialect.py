"""Dialects as data: replies are read strictly, files are checked as a whole, a new instrument needs no Python."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from supply_fake import ACME, write_acme

from rig.errors import UsageProblem
from rig.supply import dialect
from rig.supply.replies import Reply

replies: TypeAdapter[Reply] = TypeAdapter(Reply)
ON_OFF = {"kind": "word", "words": {"ON": True, "OFF": False, "1": True, "0": False}}
ISUM = {"kind": "bits", "mask": 3, "values": {0: "off", 1: "cc", 2: "cv", 3: "unregulated"}}


@pytest.mark.parametrize(
    ("reply", "raw", "meaning"),
    [
        ({"kind": "number"}, "+3.30000000E+00", 3.3),
        ({"kind": "number"}, "3.300\r", 3.3),
        ({"kind": "number"}, "0.500\x00", 0.5),
        ({"kind": "number", "field": 1}, "3.3001,0.0801,0.264", 0.0801),
        ({"kind": "number", "field": -1}, "CH1:30V/3A,3.300,0.500", 0.5),
        ({"kind": "number", "prefix": "V{channel} "}, "V1 3.300", 3.3),
        ({"kind": "number", "suffix": "V"}, "3.300V", 3.3),
        (ON_OFF, "on", True),
        (ON_OFF, "0", False),
        (ISUM, "+2", "cv"),
        (ISUM, "258", "cv"),  # 256: a list waits for its trigger
        (ISUM, "0", "off"),
        ({"kind": "bits", "masks": {1: 0x10, 2: 0x20}, "values": {0: False, 1: True}}, "0x14", True),
        ({"kind": "bits", "mask": 4, "values": {0: False, 1: True}}, "#H14", True),
        ({"kind": "error"}, '+0,"No error"', ""),
        ({"kind": "error"}, "0  No Error", ""),
        ({"kind": "error"}, "+0, No error", ""),
        ({"kind": "error"}, "-113,Undefined header,MEAS:POW?", "-113,Undefined header,MEAS:POW?"),
        ({"kind": "error", "ignore": [-103]}, "-103,Invalid separator", ""),
    ],
)
def test_a_reply_means(reply: dict[str, object], raw: str, meaning: object) -> None:
    assert replies.validate_python(reply).parse(raw, 1) == meaning


@pytest.mark.parametrize(
    ("reply", "raw"),
    [
        ({"kind": "number"}, ""),
        ({"kind": "number"}, "nan"),
        ({"kind": "number"}, "3,3"),
        ({"kind": "number"}, "9.91E37"),
        ({"kind": "number"}, "1e999"),
        ({"kind": "number", "field": 3}, "1,2,3"),
        ({"kind": "number", "prefix": "V{channel} "}, "V2 3.300"),
        (ON_OFF, "MAYBE"),
        (ISUM, "CV"),
        ({"kind": "bits", "masks": {2: 1}, "values": {0: False, 1: True}}, "0"),
        ({"kind": "error"}, "3.300V"),
    ],
)
def test_a_reply_that_makes_no_sense_is_refused(reply: dict[str, object], raw: str) -> None:
    with pytest.raises(ValueError):
        replies.validate_python(reply).parse(raw, 1)


@settings(derandomize=True, max_examples=200)
@given(st.floats(-1e6, 1e6), st.sampled_from(["{:.8E}", "{:+.6E}", "{:.3f}", "{:.9f}"]))
def test_every_written_number_is_read_back(value: float, form: str) -> None:
    text = form.format(value)
    assert replies.validate_python({"kind": "number"}).parse(text, 1) == float(text)


@settings(derandomize=True, max_examples=300)
@given(st.text(max_size=30))
def test_garbage_is_a_value_error_or_a_value(raw: str) -> None:
    for reply in ({"kind": "number", "field": 0}, ON_OFF, ISUM, {"kind": "error"}):
        try:
            replies.validate_python(reply).parse(raw, 1)
        except ValueError:
            continue


@settings(derandomize=True, max_examples=200)
@given(st.integers(0, 0xFFFF), st.integers(0, 12), st.integers(1, 4))
def test_bits_are_those_of_the_mask(number: int, shift: int, width: int) -> None:
    mask = ((1 << width) - 1) << shift
    reply = {"kind": "bits", "mask": mask, "values": {n: str(n) for n in range(16)}}
    assert replies.validate_python(reply).parse(hex(number), 1) == str((number >> shift) & ((1 << width) - 1))


# A family that can do less than this says so here, and says what it does instead in its file.
EVERYTHING = {"ovp", "ocp", "trips", "error-queue", "mode"}
LACKS = {
    "keysight-e3631a": {"ovp", "ocp", "trips"},
    "bk-9130b": {"ocp", "mode"},
    "siglent-spd3303x": {"ovp", "ocp", "trips"},
    "siglent-spd1000x": {"trips"},
}


@pytest.mark.parametrize("name", list(dialect.available()))
def test_a_shipped_dialect_is_whole_and_says_where_each_line_is_from_and_who_judged_it(name: str) -> None:
    path, loaded = dialect.available()[name], dialect.load(name)
    assert loaded.capabilities(loaded.model[0].name) - {"sequence"} == EVERYTHING - LACKS.get(name, set())
    entries = tomllib.loads(path.read_text())
    sources = [e["source"] for e in [*entries["commands"].values(), *entries["queries"].values()]]
    assert all(len(source) > 3 for source in sources)
    assert not re.search(r"S\d+ \[|/work|/tmp", path.read_text())
    assert re.match(r"(pymeasure|dcps) [A-Z]\w+|none: \w+", loaded.judge), "which public driver, or why none"
    assert "real unit" in path.read_text(), "whether it ran on one"


@pytest.mark.parametrize(
    ("idn", "name", "model", "serial"),
    [
        ("Keysight Technologies,E36312A,MY59000123,2.1.0", "keysight-e36300", "E36312A", "MY59000123"),
        ("KEYSIGHT,E36313A,MY1,1", "keysight-e36300", "E36313A", "MY1"),
        ("Agilent Technologies,E36311A,MY2,1", "keysight-e36300", "E36311A", "MY2"),
        ("RIGOL TECHNOLOGIES,DP832,DP8A1,00.01.16", "rigol-dp800", "DP832", "DP8A1"),
        ("RIGOL TECHNOLOGIES,DP832A,DP8B2,00.01.16", "rigol-dp800", "DP832A", "DP8B2"),
        ("HEWLETT-PACKARD,E3631A,0,2.1-5.0-1.0", "keysight-e3631a", "E3631A", "0"),
        ("ROHDE&SCHWARZ,HMP2030,101545,HW50010003/SW2.62", "rs-hmp", "HMP2030", "101545"),
        ("HAMEG,HMP4040,012345,2.41", "rs-hmp", "HMP4040", "012345"),
        ("BK PRECISION, 9130B, 600139010717120006, V1.69", "bk-9130b", "9130B", "600139010717120006"),
    ],
)
def test_an_instrument_is_recognised(idn: str, name: str, model: str, serial: str) -> None:
    found, instrument = dialect.recognise(idn)
    assert (found.name, instrument.model, instrument.serial) == (name, model, serial)
    assert found.channel(model, 1).volts_max >= 5


def test_an_unknown_instrument_lists_the_dialects() -> None:
    with pytest.raises(UsageProblem, match=r"keysight-e36300, .*rigol-dp800"):
        dialect.recognise("HEWLETT-PACKARD,E3632A,0,1.1-5.0-1.0")


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UsageProblem, match="did you mean 'rigol-dp800'"):
        dialect.load("rigol-dp832")


def test_a_users_file_is_found_and_comes_first(tmp_path: Path) -> None:
    folder = write_acme(tmp_path / "dialects")
    own = dialect.SHIPPED.joinpath("rigol-dp800.toml").read_text().replace('"Rigol DP832, DP832A"', '"mine"')
    (folder / "rigol-dp800.toml").write_text(own)
    assert dialect.load("acme", [folder]).title == "Acme P2"
    assert dialect.recognise("ACME,P2,SN7", [folder])[1].serial == "7"
    assert dialect.recognise("RIGOL TECHNOLOGIES,DP832,X,1", [folder])[0].title == "mine"


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="does not exist"):
        dialect.load("acme", [tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("timeout_s = 10", "timout_s = 10", r"unknown key transport\.timout_s; did you mean 'timeout_s'"),
        ("output_on =", "output_onn =", r"unknown key commands\.output_onn; did you mean 'output_on'"),
        ("V {value:.2f}", "V {value:.1f}", r"commands\.volts sends fewer decimals than the channel's step"),
        ("V {value:.2f}", "V 3.3", r"commands\.volts does not send its \{value\}"),
        ("V {value:.2f}", "V {volts:.2f}", r"\{volts\} is not one of"),
        ("(?P<model>P2)", "P2", r"needs a group"),
        ("(?P<model>P2)", "(?P<model>P2", r"not a regular expression"),
        ('name = "acme"', 'name = "acmee"', r"file name and name must agree"),
        ("ovp_clear = ", "# ", r"queries\.ovp_tripped needs commands\.ovp_clear"),
        ("ocp_enabled = ", "# ", r"commands\.ocp_off needs queries\.ocp_enabled"),
        (
            'values = { 0 = "cv", 1 = "cc" }',
            'values = { 0 = "CV", 1 = "CC" }',
            r"queries\.mode has a reply of the wrong",
        ),
        ("[identity]", "[identity", r"not a readable TOML file"),
        ("volts_step = 0.01", "volts_step = 0", r"greater than 0"),
        ("output = ", "# ", r"queries\.output: Field required"),
        ('name = "P2"', 'name = "P2"\nslots = 2', r"give either channel or slots"),
        ("[[model]]", '[[model]]\nname = "P3"\nslots = 2\n[[model]]', r"slots needs queries\.module"),
        (
            'title = "Acme P2"',
            'title = "Acme P2"\noutputs = "all"',
            r"outputs: Input should be 'separate' or 'together'",
        ),
    ],
)
def test_a_mistake_in_a_file_is_told_in_one_sentence(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in ACME
    folder = write_acme(tmp_path, ACME.replace(before, after))
    with pytest.raises(UsageProblem, match=said) as told:
        dialect.load("acme", [folder])
    assert "acme.toml" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_resource_is_made_from_a_host_name() -> None:
    assert dialect.load("rigol-dp800").resource("psu1.lan") == "TCPIP::psu1.lan::5555::SOCKET"


def test_a_mainframes_channels_are_its_modules() -> None:
    n6700 = dialect.load("keysight-n6700")
    assert n6700.recognise("Agilent Technologies,N6705A,MY1,C.00") is not None
    precise, plain = n6700.channel("N6705C", 2, "n6762a"), n6700.channel("N6705C", 4, "N6731B")
    assert (precise.number, precise.volts_max, plain.number, plain.volts_max) == (2, 51.0, 4, 5.1)
    assert "sequence" in n6700.capabilities("N6705C", precise)
    assert "sequence" not in n6700.capabilities("N6705C", plain)
    with pytest.raises(UsageProblem, match=r"slot 1 of the N6705C is N9999A; dialect keysight-n6700 knows N6761A"):
        n6700.channel("N6705C", 1, "N9999A")
    with pytest.raises(UsageProblem, match=r"no channel 5 .* it has 1, 2, 3, 4"):
        n6700.channel("N6705C", 5, "N6762A")


def test_unknown_models_and_channels_are_told(tmp_path: Path) -> None:
    acme = dialect.load("acme", [write_acme(tmp_path)])
    with pytest.raises(UsageProblem, match="has no channel 3"):
        acme.channel("P2", 3)
    with pytest.raises(UsageProblem, match="it knows P2"):
        acme.channel("P3", 1)
