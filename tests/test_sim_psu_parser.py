"""Properties of the SCPI parser and of a supply fed with anything at all."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.sim.psu import PERSONALITIES, ResistiveLoad
from rig.sim.psu.parser import AMPS, SECONDS, VOLTS, Params, header_regex, units, word_forms
from rig.sim.psu.status import DEPTH, ScpiError

repeatable = settings(derandomize=True, deadline=None, max_examples=120)

MODELS = sorted(PERSONALITIES)
TREES = {name: PERSONALITIES[name]([], serial="T").commands() for name in MODELS}
PATTERNS = sorted({(name, command.pattern) for name in MODELS for command in TREES[name]})


def make(name="keysight-e36312a", rails=()):
    return PERSONALITIES[name](list(rails), serial="T")


def spelled(pattern: str, rng: random.Random) -> str:
    """One of the spellings that a manual's pattern allows."""
    while "[" in pattern:
        pattern = re.sub(r"\[([^\[\]]*)\]", lambda m: m[1] if rng.random() < 0.5 else "", pattern, count=1)
    pattern = re.sub(r"[A-Za-z]+", lambda m: rng.choice(word_forms(m[0])), pattern.lstrip(":"))
    pattern = pattern.replace("#", rng.choice(["", "1", "3"]))
    return "".join(rng.choice([char.lower(), char.upper()]) for char in pattern)


@repeatable
@given(st.sampled_from(PATTERNS), st.randoms(use_true_random=False))
def test_every_allowed_spelling_of_a_header_finds_its_command(row, rng):
    name, pattern = row
    header = spelled(pattern, rng)
    root = "" if header.startswith("*") else rng.choice(["", ":"])
    [(unit, full)] = units(root + header + rng.choice(["", "?"]))
    assert full == header.upper() == unit.header
    command, _ = make(name)._tree.find(full)
    assert header_regex(command.pattern).fullmatch(full)
    assert command.pattern == pattern


@repeatable
@given(st.sampled_from(PATTERNS), st.randoms(use_true_random=False))
def test_nothing_between_the_short_and_the_long_form_is_taken(row, rng):
    name, pattern = row
    words = [word for word in re.findall(r"[A-Za-z]+", pattern) if len(word_forms(word)) == 2]
    words = [word for word in words if len(word_forms(word)[1]) - len(word_forms(word)[0]) > 1]
    if not words:
        return
    word = rng.choice(words)
    short, long = word_forms(word)
    cut = long[: rng.randrange(len(short) + 1, len(long))]
    plain = re.sub(r"[\[\]#]", "", pattern).lstrip(":").rstrip(":")
    header = re.sub(rf"\b{word}\b", cut, plain).upper()
    with pytest.raises(ScpiError) as caught:
        make(name)._tree.find(header)
    assert caught.value.code == -113


@repeatable
@given(
    st.sampled_from([(VOLTS, "V"), (AMPS, "A"), (SECONDS, "s")]),
    st.decimals(-1000, 1000, places=4),
    st.sampled_from(["", "m", "u"]),
    st.sampled_from(["", " "]),
    st.booleans(),
)
def test_a_number_means_the_same_with_and_without_its_suffix(kind, value, prefix, gap, upper):
    suffixes, unit = kind
    suffix = (prefix + unit).upper() if upper else prefix + unit
    scale = {"": 1, "m": 1e-3, "u": 1e-6}[prefix]
    assert Params([f"{value}{gap}{suffix}"]).number(suffixes) == pytest.approx(float(value) * scale)


@repeatable
@given(st.lists(st.integers(1, 3), min_size=1, max_size=5))
def test_a_channel_list_keeps_its_order(channels):
    text = "(@" + ",".join(map(str, channels)) + ")"
    assert Params(["1", text]).channel_list(3) == channels


def test_channel_ranges_run_both_ways_and_are_bounded_before_they_are_spread():
    assert Params(["(@1:3)"]).channel_list(3) == [1, 2, 3]
    assert Params(["(@3:2, 1)"]).channel_list(3) == [3, 2, 1]
    for text in ("(@0)", "(@4)", "(@1:4)", "(@1:99999999999999999999)"):
        with pytest.raises(ScpiError) as caught:
            Params([text]).channel_list(3)
        assert caught.value.code == -222
    with pytest.raises(ScpiError) as caught:
        Params(["(@)"]).channel_list(3)
    assert caught.value.code == -171


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("VOLT:PROT 3.6;PROT:STAT ON", ["VOLT:PROT", "VOLT:PROT:STAT"]),
        ("VOLT:PROT:STAT ON;TRIP?;:CURR 1", ["VOLT:PROT:STAT", "VOLT:PROT:TRIP", "CURR"]),
        (":OUTP:OVP:VAL CH1,3;*OPC?;QUES? CH1", ["OUTP:OVP:VAL", "*OPC", "OUTP:OVP:QUES"]),
        ('DISP:TEXT "a;b,c";CLE', ["DISP:TEXT", "DISP:CLE"]),
        (" volt 1 ; ; curr 2 ;", ["VOLT", "CURR"]),
    ],
)
def test_a_unit_continues_in_the_subtree_of_the_one_before(line, headers):
    assert [full for _, full in units(line)] == headers


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("VOLTA 1", -113),
        ("VOLT:STAT ON", -113),
        (":*WAI", -113),
        ("MEAS:VOLT 1", -113),
        ("STAT:QUES:INST:ISUM9:COND?", -114),
        ("STAT:QUES:INST:ISUM9999:COND?", -114),
        ("VOLT?(@1)", -111),
        ("VOLT.3", -111),
        ("V\xb5 3", -101),
        ("3 VOLT", -101),
        ("VOLT", -109),
        ("VOLT ,(@1)", -109),
        ("VOLT 1,2", -108),
        ("*RST 1", -108),
        ("VOLT abc", -224),
        ("OUTP MAYBE", -224),
        ("INST:NSEL CH1", -148),
        ("INST:NSEL 1V", -138),
        ("VOLT 1A", -131),
        ("VOLT 1..2", -121),
        ("VOLT #H1F", -104),
        ("VOLT 1E99999", -123),
        ("VOLT 1E999", -222),
        ("VOLT 7,(@1)", -222),
        ("VOLT -0.1", -222),
        ("INST:NSEL 4", -222),
        ('DISP:TEXT "open', -151),
        ("VOLT 1,(@1", -171),
        ("*TRG", -211),
    ],
)
def test_each_mistake_has_its_own_number(message, code):
    supply = make()
    assert supply.execute(message) is None
    assert supply.execute("SYST:ERR?").startswith(f"{code},")
    assert supply.execute("SYST:ERR?") == '+0,"No error"'


def test_a_full_queue_ends_in_350_and_cls_empties_it():
    supply = make()
    for _ in range(DEPTH + 5):
        supply.execute("NONSENSE")
    answers = [supply.execute("SYST:ERR?") for _ in range(DEPTH + 1)]
    assert answers[:-2] == ['-113,"Undefined header"'] * (DEPTH - 1)
    assert answers[-2:] == ['-350,"Queue overflow"', '+0,"No error"']
    supply.execute("NONSENSE;*CLS")  # a lost place drops the rest of the line
    assert supply.execute("*STB?") == "4"
    supply.execute("*CLS")
    assert supply.execute("*STB?;SYST:ERR?") == '0;+0,"No error"'


def test_a_command_error_drops_the_rest_and_an_execution_error_does_not():
    supply = make()
    assert supply.execute("VOLT? (@1);BAD;CURR? (@1)") == "+0.00000000E+00"
    assert supply.execute("VOLT 99;CURR 2;:VOLT?;CURR?") == "+0.00000000E+00;+2.00000000E+00"
    assert [supply.execute("SYST:ERR?")[:4] for _ in range(3)] == ["-113", "-222", '+0,"']


def test_event_bits_follow_the_errors():
    supply = make()
    assert supply.execute("*ESR?") == "128"  # power on
    supply.execute("BAD")
    supply.execute("VOLT 99")
    supply.execute("*OPC")
    assert supply.execute("*ESR?;*ESR?") == "49;0"
    supply.execute("*ESE 32;*SRE 36")
    supply.execute("BAD")
    assert supply.execute("*STB?") == str(4 + 32 + 64)
    assert supply.execute("*ESE?;*SRE?") == "32;36"


def alive(supply) -> bool:
    supply.execute("*CLS")
    return supply.execute("*IDN?") == supply.idn.format(serial="T")  # some have no other common command


@pytest.mark.parametrize("name", MODELS)
@repeatable
@given(st.text(st.characters(max_codepoint=255, exclude_characters="\n"), max_size=60))
def test_any_line_is_answered_or_queues_an_error(name, line):
    supply = make(name, [ResistiveLoad(10)])
    supply.execute("*CLS")
    answer = supply.execute(line)
    quiet = supply.execute("*STB?") == "0" and supply.execute("*ESR?") == "0"
    if answer is None and line.strip("; \t\r") and quiet:
        # No answer and no error: then it must have been commands that this supply knows.
        for unit, full in units(line):
            assert not unit.query
            supply._tree.find(full)
    assert alive(supply)


_SALAD = """
VOLT CURR OUTP MEAS SOUR1 PROT OVP INST LIST TIME PARA APPL STAT QUES ISUM2 COND CH1 CH2 ON OFF MAX MIN DEF CLEAR
(@1) (@1:3) (@ ) 3.3 -1 1E400 500mA 1,2 ; : ? ?; * *RST *TRG INIT TRIG " ' ( ) , # 0 0.01 LAST CLE TRIP MODE BUS
"""
_WORDS = st.sampled_from(_SALAD.split())


@pytest.mark.parametrize("name", MODELS)
@repeatable
@given(st.lists(st.tuples(_WORDS, st.sampled_from(["", " ", ":", ","])), max_size=12))
def test_no_salad_of_its_own_words_upsets_a_supply(name, parts):
    supply = make(name, [ResistiveLoad(10)])
    supply.execute("".join(word + glue for word, glue in parts))
    errors = []
    while (error := supply.execute("SYST:ERR?")) and int(re.match(r"[+-]?\d+", error)[0]):
        errors.append(error)
    assert not [error for error in errors if error.startswith("-310")], "-310 would be a bug that was caught"
    assert alive(supply)
