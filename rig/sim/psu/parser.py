"""SCPI program messages: splitting a line, the command tree, and the parameters.

Rules (Source: SCPI-99 volume 1 chapters 6-8): headers match in short or long form and nothing between, any case;
a leading colon starts at the root; a unit without one continues in the subtree of the unit before it; common
commands (`*RST`) leave that subtree alone; nodes in brackets may be left out. All failures are :class:`ScpiError`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from rig.sim.psu.status import ScpiError

VOLTS: Mapping[str, float] = {"": 1.0, "V": 1.0, "MV": 1e-3, "UV": 1e-6, "KV": 1e3}
AMPS: Mapping[str, float] = {"": 1.0, "A": 1.0, "MA": 1e-3, "UA": 1e-6}
SECONDS: Mapping[str, float] = {"": 1.0, "S": 1.0, "MS": 1e-3, "US": 1e-6}
PLAIN: Mapping[str, float] = {"": 1.0}

_HEADER = re.compile(r"(:?)([A-Z]\w*(?::[A-Z]\w*)*)(\??)(?=\s|$)", re.ASCII | re.IGNORECASE)
_COMMON = re.compile(r"(\*[A-Z]+)(\??)(?=\s|$)", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:E([+-]?\d+))?\s*([A-Z]*)", re.ASCII | re.IGNORECASE)
_WORD = re.compile(r"[A-Z]\w*", re.ASCII | re.IGNORECASE)
_CHANNEL_LIST = re.compile(r"\(\s*@\s*(\d+(?::\d+)?(?:\s*,\s*\d+(?::\d+)?)*)\s*\)", re.ASCII)
_MAX_EXPONENT = 32000  # Source: SCPI-99 volume 2, error -123


def split_outside(text: str, separator: str) -> list[str]:
    """`text` split at `separator` where it is neither in quotes nor in parentheses; parts stripped of spaces."""
    parts, start, depth, quote = [], 0, 0, ""
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    if quote:
        raise ScpiError(-151)
    if depth:
        raise ScpiError(-171)
    return [*parts, text[start:].strip()]


@dataclass(frozen=True)
class Unit:
    """One message unit: its header as written (upper case, no root colon, no `?`) and its parameters' text."""

    header: str
    query: bool
    params: tuple[str, ...]
    rooted: bool = False

    @property
    def common(self) -> bool:
        """Whether it is an IEEE 488.2 common command, such as `*RST`."""
        return self.header.startswith("*")


@lru_cache(maxsize=512)  # a client asks the same few questions again and again
def parse_unit(text: str) -> Unit:
    """The unit in `text`. Raises -101, -111, -113 or what :func:`split_outside` raises."""
    if not all(" " <= char <= "~" or char == "\t" for char in text):
        raise ScpiError(-101)
    common, header = _COMMON.match(text), _HEADER.match(text)
    if common:
        name, mark, rooted, end = common[1], common[2], False, common.end()
    elif header:
        name, mark, rooted, end = header[2], header[3], bool(header[1]), header.end()
    else:
        starts_well = re.match(r":?[*A-Za-z]", text)
        raise ScpiError(-111 if starts_well and not text.startswith(":*") else -113 if text.startswith(":") else -101)
    rest = text[end:].strip()
    params = tuple(split_outside(rest, ",")) if rest else ()
    return Unit(name.upper(), bool(mark), params, rooted)


def units(message: str) -> Iterator[tuple[Unit, str]]:
    """Each unit of a line with its full header from the root. Raises lazily, at the unit that is wrong."""
    path = ""
    for text in split_outside(message, ";"):
        if not text:
            continue
        unit = parse_unit(text)
        if unit.common:
            yield unit, unit.header
            continue
        full = unit.header if unit.rooted or not path else f"{path}:{unit.header}"
        path = full.rpartition(":")[0]
        yield unit, full


def word_forms(mnemonic: str) -> tuple[str, ...]:
    """The forms of a mnemonic written as in a manual: `VOLTage` -> ("VOLT", "VOLTAGE")."""
    short = "".join(char for char in mnemonic if not char.islower())
    return (short,) if short == mnemonic else (short, mnemonic.upper())


def matches_word(text: str, mnemonic: str) -> bool:
    """Whether `text` is the short or the long form of `mnemonic`, in any case."""
    return text.upper() in word_forms(mnemonic)


def header_regex(pattern: str) -> re.Pattern[str]:
    """A pattern as manuals print it, `[SOURce#:]VOLTage[:LEVel]`, `#` = a numeric suffix that may be left out."""
    out = []
    for token in re.findall(r"[\[\]:]|\*?[A-Za-z]+#?", pattern):
        if token in "[]:":
            out.append({"[": "(?:", "]": ")?", ":": ":"}[token])
        else:
            forms = "|".join(re.escape(form) for form in word_forms(token.rstrip("#")))
            out.append(f"(?:{forms})" + (r"(\d*)" if token.endswith("#") else ""))
    return re.compile("".join(out), re.ASCII)


class Params:
    """The parameters of one unit, taken from the front, each checked for its type."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def texts(self) -> Sequence[str]:
        """What is left, as written."""
        return tuple(self._texts)

    def _take(self) -> str:
        if not self._texts or not self._texts[0]:
            raise ScpiError(-109)
        return self._texts.pop(0)

    def end(self) -> None:
        """Raise -108 if anything is left over."""
        if self._texts:
            raise ScpiError(-108)

    def peek_word(self, *mnemonics: str) -> str | None:
        """Take the next parameter if it is one of these words, and return the mnemonic; else None."""
        for mnemonic in mnemonics:
            if self._texts and matches_word(self._texts[0], mnemonic):
                self._texts.pop(0)
                return mnemonic
        return None

    def word(self, *mnemonics: str) -> str:
        """One of these words. Raises -224 for another word, -104 for what is no word."""
        if not self._texts:
            raise ScpiError(-109)
        found = self.peek_word(*mnemonics)
        if found is None:
            raise ScpiError(-224 if _WORD.fullmatch(self._take()) else -104)
        return found

    def quoted(self) -> str | None:
        """Take the next parameter if it is in quotes, and return what is between them; else None."""
        if self._texts and re.fullmatch(r"([\"']).*\1", self._texts[0]):
            return self._texts.pop(0)[1:-1]
        return None

    def boolean(self) -> bool:
        """ON, OFF or a number (rounded; not 0 = on)."""
        word = self.peek_word("ON", "OFF")
        if word:
            return word == "ON"
        if self._texts and _WORD.fullmatch(self._texts[0]):
            raise ScpiError(-224)
        return bool(round(self.number(PLAIN)))

    def number(self, suffixes: Mapping[str, float], words: Mapping[str, float] | None = None) -> float:
        """A number in base units, its suffix applied, or one of `words` (MINimum, MAXimum, DEFault)."""
        text = self._take()
        for mnemonic, value in (words or {}).items():
            if matches_word(text, mnemonic):
                return value
        if _WORD.fullmatch(text):
            raise ScpiError(-148 if words is None else -224)
        match = _NUMBER.fullmatch(text)
        if not match:
            raise ScpiError(-121 if text[0] in "+-.0123456789" else -104)
        mantissa, exponent, suffix = match[1], match[2] or "0", match[3].upper()
        if len(exponent) > 6 or abs(int(exponent)) > _MAX_EXPONENT:
            raise ScpiError(-123)
        if suffix not in suffixes:
            raise ScpiError(-138 if len(suffixes) == 1 else -131)
        value = float(f"{mantissa}e{exponent}") * suffixes[suffix]
        if not math.isfinite(value):
            raise ScpiError(-222)
        return value

    def integer(self, low: int, high: int) -> int:
        """A whole number in low..high (rounded, as SCPI rounds). Raises -222 outside."""
        value = round(self.number(PLAIN))
        if not low <= value <= high:
            raise ScpiError(-222)
        return value

    def channel_list(self, count: int) -> list[int] | None:
        """A trailing `(@1,2)` or `(@1:3)` as channel numbers 1..count, in its order; None if there is none."""
        if not self._texts or not self._texts[-1].startswith("("):
            return None
        match = _CHANNEL_LIST.fullmatch(self._texts[-1])
        if not match:
            raise ScpiError(-171)
        channels: list[int] = []
        for item in match[1].split(","):
            first, last = (int(end) for end in (item.strip().split(":") * 2)[:2])
            if not (1 <= first <= count and 1 <= last <= count):
                raise ScpiError(-222)  # guess: which number a supply gives for a channel that it does not have
            channels += range(first, last + 1) if first <= last else range(first, last - 1, -1)
        self._texts.pop()
        return channels


@dataclass(frozen=True)
class Call:
    """A unit on its way to its handler: parameters, and the header's numeric suffixes (None = left out)."""

    params: Params
    suffixes: tuple[int | None, ...] = ()


SetHandler = Callable[[Call], None]
QueryHandler = Callable[[Call], str]


def action(run: Callable[[], None]) -> SetHandler:
    """A handler of a command without parameters."""

    def handle(call: Call) -> None:
        call.params.end()
        run()

    return handle


def integer(run: Callable[[int], None], low: int, high: int) -> SetHandler:
    """A handler of a command with one whole number in low..high."""

    def handle(call: Call) -> None:
        value = call.params.integer(low, high)
        call.params.end()
        run(value)

    return handle


def answer(make: Callable[[], str]) -> QueryHandler:
    """A handler of a query without parameters."""

    def handle(call: Call) -> str:
        call.params.end()
        return make()

    return handle


@dataclass(frozen=True)
class Command:
    """One row of a personality's tree: its header as a manual prints it, what sets it, what answers it."""

    pattern: str
    set: SetHandler | None = None
    query: QueryHandler | None = None


@dataclass
class CommandTree:
    """The commands of an instrument, found by full header."""

    commands: Sequence[Command]
    _found: dict[str, tuple[Command, tuple[int | None, ...]]] = field(default_factory=dict)

    @cached_property
    def _rows(self) -> list[tuple[re.Pattern[str], Command]]:
        return [(header_regex(command.pattern), command) for command in self.commands]

    def find(self, header: str) -> tuple[Command, tuple[int | None, ...]]:
        """The command and its suffixes. Raises -113 for an unknown header, -114 for an absurd suffix."""
        if header not in self._found:
            found = self._search(header)
            if len(self._found) < 512:  # a fuzzing client must not fill the memory
                self._found[header] = found
            return found
        return self._found[header]

    def _search(self, header: str) -> tuple[Command, tuple[int | None, ...]]:
        for regex, command in self._rows:
            match = regex.fullmatch(header)
            if match:
                if any(len(digits or "") > 2 for digits in match.groups()):
                    raise ScpiError(-114)
                return command, tuple(int(digits) if digits else None for digits in match.groups())
        raise ScpiError(-113)

    def run(self, unit: Unit, header: str) -> str | None:
        """Carry out `unit`; the answer of a query, else None. A header without that form raises -113."""
        command, suffixes = self.find(header)
        call = Call(Params(unit.params), suffixes)
        if unit.query and command.query:
            return command.query(call)
        if not unit.query and command.set:
            command.set(call)
            return None
        raise ScpiError(-113)
