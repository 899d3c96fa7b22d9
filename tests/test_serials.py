"""Serial numbers: check digits by their published examples, expressions, and which rule refuses which unit."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.bench.product import SerialRule
from rig.errors import UsageProblem
from rig.line.serials import CODE39, LONGEST, SerialRefused, admit, check_all, check_serial, with_check

LUHN = SerialRule(check_digit="luhn")
MOD97 = SerialRule(check_digit="mod97")
MOD43 = SerialRule(check_digit="mod43")
NUMBERED = SerialRule(regex=r"SN(?P<checked>\d{7})", check_digit="luhn")

# Payment cards' test numbers and the worked example that Luhn's algorithm is told by; ISO 7064's own, real LEIs
# (ISO 17442), an IBAN as it is checked (its first four characters behind); makers' manuals on Code 39 (Sysmex, Worth
# Data, Zebra), the HIBC standard.
KNOWN = [
    (LUHN, "79927398713"),
    (LUHN, "4111111111111111"),
    (LUHN, "5555555555554444"),
    (LUHN, "378282246310005"),
    (MOD97, "79444"),
    (MOD97, "5493001KJTIIGC8Y1R12"),
    (MOD97, "969500KSV493XWY0PS33"),
    (MOD97, "MAINSARDELLA32434312"),
    (MOD97, "WEST12345698765432GB82"),
    (MOD43, "258-416J"),
    (MOD43, "123XYZM"),
    (MOD43, "12345ABCDE/T"),
    (MOD43, "159AZH"),
    (MOD43, "+A123BJC5D6E71G"),
]


@pytest.mark.parametrize(("rule", "text"), KNOWN)
def test_published_examples_are_right_and_their_neighbours_are_not(rule: SerialRule, text: str) -> None:
    check_serial(rule, text)
    size = 2 if rule is MOD97 else 1
    assert with_check(rule, text[:-size]) == text
    wrong = text[:-1] + ("1" if text[-1] == "0" else "0")
    with pytest.raises(SerialRefused) as caught:
        check_serial(rule, wrong)
    assert caught.value.rule == "check-digit"
    assert wrong in str(caught.value)


ALPHABETS = [(LUHN, string.digits, 1), (MOD97, string.digits + string.ascii_uppercase, 2), (MOD43, CODE39, 1)]


@pytest.mark.parametrize(("rule", "alphabet", "size"), ALPHABETS)
@settings(derandomize=True, max_examples=40, deadline=None)
@given(data=st.data())
def test_one_wrong_character_is_always_found(rule: SerialRule, alphabet: str, size: int, data: Any) -> None:
    body = data.draw(st.text(alphabet, min_size=2, max_size=20).filter(lambda text: text == text.strip()))
    try:
        good = with_check(rule, body)
    except SerialRefused:  # Code 39's check character may be the blank, and then the number would end in one
        assert rule is MOD43
        return
    at = data.draw(st.integers(0, len(body) - 1))
    others = [char for char in alphabet if char not in (body[at], " ")]
    if rule is MOD97:  # a letter is two digits: taken for a figure it is another length, and no promise holds
        others = [char for char in others if char.isdigit() == body[at].isdigit()]
    other = data.draw(st.sampled_from(others))
    assert len(good) == len(body) + size
    with pytest.raises(SerialRefused):
        check_serial(rule, good[:at] + other + good[at + 1 :])


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.text(string.digits, min_size=2, max_size=18), st.data())
def test_mod97_finds_two_digits_that_changed_places(body: str, data: Any) -> None:
    """ISO/IEC 7064 promises it for MOD 97-10; Luhn misses 09 and 90."""
    good = with_check(MOD97, body)
    at = data.draw(st.integers(0, len(good) - 2))
    swapped = good[:at] + good[at + 1] + good[at] + good[at + 2 :]
    if swapped != good:
        with pytest.raises(SerialRefused):
            check_serial(MOD97, swapped)


@pytest.mark.parametrize(
    ("rule", "text", "which", "says"),
    [
        (SerialRule(), "", "pattern", "1 to 64"),
        (SerialRule(), "x" * (LONGEST + 1), "pattern", "1 to 64"),
        (SerialRule(), " SN1", "pattern", "blank"),
        (SerialRule(), "SN1\n", "pattern", "blank"),
        (SerialRule(), "SN\x1b[2J", "pattern", "printable"),
        (SerialRule(regex=r"SN\d{6}"), "SN12345", "pattern", r"SN\d{6}"),
        (SerialRule(regex=r"SN\d{6}"), "SN1234567", "pattern", r"SN\d{6}"),
        (SerialRule(regex=r"SN\d{6}"), "SN12345\u0663", "pattern", "does not match"),
        (LUHN, "SN18", "check-digit", "'S'"),
        (MOD43, "abcR", "check-digit", "'a'"),
        (NUMBERED, "SN0012346", "check-digit", "of 0012346 is wrong"),
    ],
)
def test_what_is_no_serial_number(rule: SerialRule, text: str, which: str, says: str) -> None:
    with pytest.raises(SerialRefused) as caught:
        check_serial(rule, text)
    assert caught.value.rule == which
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_only_the_group_checked_has_the_check_digit() -> None:
    assert with_check(NUMBERED, "SN001234") == "SN0012344"
    check_serial(NUMBERED, "SN0012344")


def test_a_check_digit_that_the_expression_has_no_room_for() -> None:
    with pytest.raises(SerialRefused, match="does not match"):
        with_check(SerialRule(regex=r"SN\d", check_digit="luhn"), "SN12")


@pytest.mark.parametrize(
    ("text", "which"),
    [
        ("SN1", "in-work"),
        ("SN2", "duplicate"),
        ("SN3", "already-passed"),
        ("SN4", None),
        ("SN9", "not-in-batch"),
        ("XN1", "pattern"),
    ],
)
def test_each_rule_refuses_by_its_name(text: str, which: str | None) -> None:
    asked: list[str] = []

    def passed_before(unit: str) -> str | None:
        asked.append(unit)
        return f"{unit} passed on 2026-11-01 in run r1" if unit == "SN3" else None

    def come() -> None:
        admit(
            text,
            rule=SerialRule(regex=r"SN\d"),
            expected=("SN1", "SN2", "SN3", "SN4"),
            at_work={"SN1"},
            ended={"SN2"},
            passed_before=passed_before,
        )

    if which is None:
        come()
    else:
        with pytest.raises(SerialRefused) as caught:
            come()
        assert caught.value.rule == which
    assert asked == ([text] if text in ("SN3", "SN4") else [])  # the records are asked last


def test_of_many_the_first_bad_or_doubled_one_is_named() -> None:
    check_all(SerialRule(), ["a", "b"], "serials.txt")
    with pytest.raises(UsageProblem, match=r"serials.txt: serial b is given twice"):
        check_all(SerialRule(), ["a", "b", "b"], "serials.txt")
    with pytest.raises(UsageProblem, match=r"serials.txt: x is no serial number"):
        check_all(SerialRule(regex=r"[ab]"), ["a", "x"], "serials.txt")
