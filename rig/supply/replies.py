"""Reading an instrument's replies: the few shapes they come in, as data that a dialect file can name.

Strict on purpose: a reply that is not what the dialect says is refused, because a wrong guess here is a wrong
voltage there.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Value = float | bool | str

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_NOT_A_NUMBER = 9.0e37  # SCPI 1999 sends 9.9E37 for infinity and 9.91E37 for "not a number"


def _clean(raw: str) -> str:
    """Without line ends, and without the NULs that some firmware leaves in its replies."""
    return raw.replace("\x00", "").strip()


def numbers(raw: str) -> list[float]:
    """Several numbers, with commas or semicolons between and behind them, also as a block with a header (IEEE 488.2:
    `#9000000018` and then as many bytes). Raises ValueError for anything else."""
    text = _clean(raw)
    if re.match(r"#[1-9]", text):
        text = text[2 + int(text[1]) :]
    parts = [part.strip() for part in re.split("[,;]", text.rstrip(",; "))]
    if not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"{raw!r} is more than numbers with commas between them")
    return [float(part) for part in parts]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    field: int | None = None  # which of several values, counting from 0 (negative: from the end)
    separator: str = ","

    def pick(self, raw: str) -> str:
        text = _clean(raw)
        if self.field is None:
            return text
        parts = text.split(self.separator)
        try:
            return parts[self.field].strip()
        except IndexError:
            raise ValueError(f"{raw!r} has no value number {self.field}") from None


class NumberReply(_Reply):
    """`3.300`, `+3.30000000E+00`; with `prefix`/`suffix`: `V1 3.300`, `3.300V`."""

    kind: Literal["number"]
    prefix: str = ""
    suffix: str = ""

    def parse(self, raw: str, channel: int) -> Value:
        text = self.pick(raw)
        prefix = self.prefix.format(channel=channel)
        if prefix:
            if not text.upper().startswith(prefix.upper()):
                raise ValueError(f"{raw!r} does not begin with {prefix!r}")
            text = text[len(prefix) :].strip()
        if self.suffix and text.upper().endswith(self.suffix.upper()):
            text = text[: -len(self.suffix)].strip()
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{raw!r} is not a number")
        number = float(text)
        if not math.isfinite(number) or abs(number) >= _NOT_A_NUMBER:
            raise ValueError(f"{raw!r} stands for 'no value'")
        return number


class WordReply(_Reply):
    """`ON`, `CV`, `YES`: every word the instrument may say, and what it means. Case does not matter."""

    kind: Literal["word"]
    words: dict[str, bool | str]

    def parse(self, raw: str, channel: int) -> Value:
        said = self.pick(raw).upper()
        for word, meaning in self.words.items():
            if word.upper() == said:
                return meaning
        raise ValueError(f"{raw!r} is none of {', '.join(self.words)}")

    def meanings(self) -> set[Value]:
        return set(self.words.values())


class BitReply(_Reply):
    """A status number (`+2`, `0x14`, `#H14`): the bits of `mask`, moved down to 0, looked up in `values`.

    `masks` gives each channel its own bits where one register serves all channels.
    """

    kind: Literal["bits"]
    mask: int | None = None
    masks: dict[int, int] = {}
    values: dict[int, bool | str]

    @model_validator(mode="after")
    def _one_mask(self) -> BitReply:
        if (self.mask is None) == (not self.masks):
            raise ValueError("give either mask or masks")
        if any(mask <= 0 for mask in [*self.masks.values(), 1 if self.mask is None else self.mask]):
            raise ValueError("a mask has at least one bit")
        return self

    def number(self, raw: str) -> int:
        """The register in a reply. Raises ValueError."""
        text = self.pick(raw)
        try:
            return int(text[2:], 16) if text[:2].upper() == "#H" else int(text, 0 if "x" in text.lower() else 10)
        except ValueError:
            raise ValueError(f"{raw!r} is not a status number") from None

    def parse(self, raw: str, channel: int) -> Value:
        number = self.number(raw)
        mask = self.mask if self.mask is not None else self.masks.get(channel)
        if mask is None:
            raise ValueError(f"the dialect has no mask for channel {channel}")
        bits = (number & mask) >> ((mask & -mask).bit_length() - 1)
        if bits not in self.values:
            raise ValueError(f"{raw!r}: bits {bits} are none of {', '.join(map(str, self.values))}")
        return self.values[bits]

    def meanings(self) -> set[Value]:
        return set(self.values.values())


class ErrorReply(_Reply):
    """One entry of an error queue, `-222,"Data out of range"`, in the quotings and spacings that exist.

    Parses to "" for no error, else to the entry. `ignore` are codes that this family sends without meaning them.
    """

    kind: Literal["error"]
    ignore: list[int] = []
    texts: dict[int, str] = {}  # where the instrument says only numbers

    def parse(self, raw: str, channel: int) -> Value:
        text = _clean(raw)
        found = re.match(r"([+-]?\d+)(?:\s*[,;]\s*|\s+|$)", text)
        if found is None:
            raise ValueError(f"{raw!r} is not an entry of an error queue")
        code = int(found[1])
        if code == 0 or code in self.ignore:
            return ""
        return f"{text} ({self.texts[code]})" if code in self.texts else text


class TextReply(_Reply):
    """Any text."""

    kind: Literal["text"]

    def parse(self, raw: str, channel: int) -> Value:
        return self.pick(raw)


Reply = Annotated[NumberReply | WordReply | BitReply | ErrorReply | TextReply, Field(discriminator="kind")]

__all__ = ["BitReply", "ErrorReply", "NumberReply", "Reply", "TextReply", "Value", "WordReply"]
