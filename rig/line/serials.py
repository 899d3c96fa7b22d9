"""Serial numbers: what one looks like, its check digit, and which unit may be worked on.

Check digits, each over the regular expression's group `checked` if it has one, else over the whole serial number:

luhn    digits only; from the right every second one is doubled, its digits added; the sum is a multiple of ten
        (ISO/IEC 7812-1, annex B)
mod97   digits and A to Z (10 to 35), read as one number: its remainder by 97 is 1; the last two are the check digits
        (ISO/IEC 7064, MOD 97-10; so ISO 17442 does it with letters)
mod43   Code 39's 43 characters; the last one is the sum of the others' values, modulo 43 (ISO/IEC 16388, annex A)
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Sequence
from typing import Final

from rig.bench.product import SerialRule
from rig.errors import UsageProblem
from rig.toml import nearest

LONGEST = 64  # characters of a serial number: it names a folder, and is printed on labels

CODE39: Final = string.digits + string.ascii_uppercase + "-. $/+%"
_BASE36: Final = string.digits + string.ascii_uppercase


class SerialRefused(UsageProblem):
    """A serial number that no unit is begun under. `rule`: as in the event `unit-refused`."""

    def __init__(self, rule: str, sentence: str) -> None:
        super().__init__(sentence)
        self.rule = rule


def check_serial(rule: SerialRule, text: str) -> None:
    """Whether `text` looks like one: SerialRefused("pattern") or SerialRefused("check-digit") where it does not."""
    if not 1 <= len(text) <= LONGEST or not text.isprintable() or text != text.strip():
        raise SerialRefused(
            "pattern",
            f"{_shown(text)} is no serial number: one has 1 to {LONGEST} printable characters, and no blank before "
            "or behind them",
        )
    checked = text
    if rule.regex is not None:
        match = re.fullmatch(rule.regex, text, re.ASCII)
        if match is None:
            raise SerialRefused("pattern", f"{text} is no serial number of these: it does not match {rule.regex}")
        checked = match.groupdict().get("checked") or text
    if rule.check_digit == "none":
        return
    of = "" if checked == text else f" of {checked}"
    known, good = _CHECKS[rule.check_digit]
    strange = next((char for char in checked if char not in known), None)
    if strange is not None:
        raise SerialRefused(
            "check-digit", f"{text}: {strange!r} has no place in a {rule.check_digit} check digit{of}"
        )
    if not good(checked):
        raise SerialRefused(
            "check-digit", f"{text}: the {rule.check_digit} check digit{of} is wrong: misread or mistyped"
        )


def admit(
    text: str,
    *,
    rule: SerialRule,
    expected: Collection[str] = (),
    at_work: Collection[str] = (),
    ended: Collection[str] = (),
    passed_before: Callable[[str], str | None] = lambda unit: None,
) -> None:
    """Whether a unit may be begun under this serial number. SerialRefused says by which rule it may not.

    `expected`: all that may come (none: any); `at_work`, `ended`: this run's, so that no two boards share a name;
    `passed_before`: a sentence naming the earlier run that the unit passed in, asked last since it may take a while.
    """
    check_serial(rule, text)
    if expected and text not in expected:
        raise SerialRefused("not-in-batch", f"{text} is not in this batch; {nearest(text, expected)[:200]}")
    if text in at_work:
        raise SerialRefused("in-work", f"{text} is being worked on: two boards cannot have one number")
    if text in ended:
        raise SerialRefused(
            "duplicate", f"{text} was worked on in this run already: retest it, or scan the right board"
        )
    before = passed_before(text)
    if before is not None:
        raise SerialRefused("already-passed", before)


def check_all(rule: SerialRule, serials: Sequence[str], where: str) -> None:
    """Each of them right, and none twice. UsageProblem names the first that is not; `where`: what names them."""
    seen: set[str] = set()
    for text in serials:
        try:
            check_serial(rule, text)
        except SerialRefused as problem:
            raise UsageProblem(f"{where}: {problem}") from None
        if text in seen:
            raise UsageProblem(f"{where}: serial {text} is given twice")
        seen.add(text)


def luhn(text: str) -> bool:
    total = 0
    for place, char in enumerate(reversed(text)):
        value = int(char) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return len(text) > 1 and total % 10 == 0


def mod97(text: str) -> bool:
    number = "".join(str(_BASE36.index(char)) for char in text)
    return len(text) > 2 and text[-2:].isdigit() and int(number) % 97 == 1


def mod43(text: str) -> bool:
    return len(text) > 1 and sum(map(CODE39.index, text[:-1])) % 43 == CODE39.index(text[-1])


_CHECKS: Final[dict[str, tuple[str, Callable[[str], bool]]]] = {
    "luhn": (string.digits, luhn),
    "mod97": (_BASE36, mod97),
    "mod43": (CODE39, mod43),
}
_ENDINGS: Final[dict[str, Sequence[str]]] = {
    "luhn": string.digits,
    "mod97": [f"{number:02d}" for number in range(2, 99)],  # what ISO/IEC 7064 makes; 00 and 01 would pass too
    "mod43": CODE39,
}


def with_check(rule: SerialRule, text: str) -> str:
    """`text` with its check digit behind it. Raises SerialRefused where none makes it right."""
    problem = None
    for ending in _ENDINGS.get(rule.check_digit, [""]):
        try:
            check_serial(rule, text + ending)
        except SerialRefused as refused:
            if problem is None or refused.rule == "check-digit":
                problem = refused
            continue
        return text + ending
    assert problem is not None
    if problem.rule == "pattern":
        raise problem
    raise SerialRefused(
        "check-digit",
        f"{text}: no {rule.check_digit} check digit behind it makes it right; what part it is of, a group "
        "(?P<checked>...) in the regular expression says",
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "...")
