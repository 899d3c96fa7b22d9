"""The rules a write is judged by: each has a name, and by that name some can be overridden.

docs/image-rules.md is this table; a test holds the two together. Overridable is only what a BK7231N's mask ROM and
the board's backup put right again; what no backup undoes, what cannot be meant, and what its owner called "never"
is not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from rig.errors import ImageRefused, UsageProblem
from rig.toml import nearest


@dataclass(frozen=True)
class Rule:
    """One rule. `says`: what is refused; `why`: why it can be overridden, or never."""

    name: str
    overridable: bool
    says: str
    why: str


_TABLE = (
    Rule(
        "not-an-image", False,
        "What is no BK7231 flash content: text, ELF, Espressif, efuse and ROM dumps, archives, over-the-air "
        "packages, blank files, and what nobody can tell.",
        "No board runs it, so nothing is lost by refusing it: this is the mistake most dead boards begin with.",
    ),
    Rule(
        "too-large", False,
        "A file, or the place it is to go to, that reaches past the end of the flash.",
        "Addresses wrap around in the chip: its end would land on the bootloader.",
    ),
    Rule(
        "not-allowed", False,
        "A file whose sha256 is not on the bench's list of allowed images.",
        "The list is the override: whoever may change production's images puts the file's line on it.",
    ),
    Rule(
        "wrong-chip", False,
        "Code for another chip, such as a BK7231T's on a BK7231N.",
        "It never runs there, whatever the board holds.",
    ),
    Rule(
        "unknown-chip", True,
        "Code in which nothing says which chip it is for.",
        "Own builds may lack the tag; the mask ROM writes the board again.",
    ),
    Rule(
        "wrong-key", True,
        "Code stored with another cipher key than the board's chip decrypts with.",
        "The board stays silent until its mask ROM is given another image; some study just that.",
    ),
    Rule(
        "unknown-key", True,
        "Code for a board of which nothing tells the key: no efuse was read, or it holds a key this rig does not "
        "know, and the board's bootloader does not prove it.",
        "A board that cannot decrypt it stays silent, and its mask ROM writes it again.",
    ),
    Rule(
        "damaged", True,
        "Code or a layout in which something is broken: a block that fails its CRC-16, a header that disagrees, a"
        " file cut short, an erased bootloader.",
        "For boards that are to fail, in studies, and for what is left of a lost dump; the mask ROM writes it "
        "again.",
    ),
    Rule(
        "wrong-place", True,
        "A start that is not where the file belongs.",
        "Bootloaders of one's own may look for an app elsewhere. What it may then cover is judged by the other "
        "rules.",
    ),
    Rule(
        "over-bootloader", False,
        "Anything but a bootloader below 0x11000, such as an app (UA) at 0x0.",
        "No reading of such a file makes it start there; a bootloader put back needs no override.",
    ),
    Rule(
        "uf2-blocks", False,
        "A UF2 container written raw, or one whose blocks overlap, are missing, or lie outside the app and "
        "download regions.",
        "What it means is only in its block list; written any other way it is nothing a board can read.",
    ),
    Rule(
        "no-bootloader", True,
        "An app alone, or an over-the-air package, onto a board whose own bootloader is erased, damaged, of "
        "another chip or key, or unknown.",
        "It will not start by itself; a bootloader may follow, and the mask ROM writes it again.",
    ),
    Rule(
        "no-app", True,
        "A bootloader alone onto a board that holds no app for it.",
        "It starts nothing; an app may follow, and the mask ROM writes it again.",
    ),
    Rule(
        "erases-calibration", True,
        "What would erase or replace the radio calibration and MAC at 0x1D0000.",
        "The board's backup holds them, and without a backup it is not overridden. A board without calibration "
        "joins no network, so it is asked for by name.",
    ),
    Rule(
        "erases-storage", True,
        "What would erase or replace Tuya's keys of this one board, from 0x1ED000.",
        "The board's backup holds them, and without a backup it is not overridden. OpenBeken needs none of them; "
        "Tuya's firmware and cloud do.",
    ),
    Rule(
        "not-openbeken", False,
        "An OpenBeken configuration with another firmware, or for another chip.",
        "Other firmware keeps its own data at 0x1D1000.",
    ),
    Rule(
        "bad-config", False,
        "An OpenBeken configuration that the firmware would reject: wrong tag, CRC-8 or length.",
        "The firmware falls back to its defaults and opens its access point: write the configuration anew.",
    ),
)  # fmt: skip

RULES: dict[str, Rule] = {rule.name: rule for rule in _TABLE}
OVERRIDABLE: tuple[str, ...] = tuple(rule.name for rule in _TABLE if rule.overridable)


@dataclass
class Overrides:
    """The rules one write is let off from, by name, and which of them it broke."""

    names: tuple[str, ...] = ()
    used: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Sequence[str]) -> Overrides:
        """UsageProblem for a name that is no rule, or one that is never overridden."""
        for name in names:
            rule = RULES.get(name)
            if rule is None:
                raise UsageProblem(f"there is no rule {name!r} to override; {nearest(name, OVERRIDABLE)}")
            if not rule.overridable:
                why = rule.why[0].lower() + rule.why[1:].rstrip(".")
                raise UsageProblem(f"the rule {name!r} is never overridden: {why}; {nearest(name, OVERRIDABLE)}")
        return cls(tuple(dict.fromkeys(names)))

    def broken(self, rule: str, label: str, reason: str, instead: str, *, final: bool = False) -> None:
        """`label` breaks `rule`: ImageRefused, unless it is let off, which is then kept with its sentence.

        `final`: nothing lets it off this time.
        """
        sentence = f"{label} is {reason}"
        if final or rule not in self.names or not RULES[rule].overridable:
            raise ImageRefused(f"{sentence}; {instead}.", rule=rule, reason=reason, instead=instead)
        self.used.setdefault(rule, sentence)

    @property
    def said(self) -> tuple[str, ...]:
        """What was overridden, each "rule: what would have been refused"."""
        return tuple(f"{rule}: {sentence}" for rule, sentence in self.used.items())

    @property
    def unused(self) -> tuple[str, ...]:
        return tuple(f"the override {name} was not needed" for name in self.names if name not in self.used)


def as_markdown() -> str:
    """The table as docs/image-rules.md has it: `python -m rig.image.planning.rules > docs/image-rules.md`."""
    lines = [
        "# The rules an image is judged by",
        "",
        "Every write of the rig, with any flasher, first becomes a plan (`rig/image/planning/guard.py`), and a file",
        "that breaks a rule is refused with exit code 2 before anything is written (where only the board in",
        "a run's slot stands against it, that unit fails as `image-refused`, exit code 1). The sentence says",
        "what the file is and what to use instead; `rig inspect FILE` shows the same ahead of time, with the",
        "rule's name.",
        "",
        "`--override RULE` (repeatable) lets one write off from one rule. It is recorded with the sentence",
        "that would have refused the file, and an override that was not needed is said. Overridable is only",
        "what the mask ROM of a BK7231N and the board's backup put right again; T, M and other chips are",
        "refused on a BK7231N whatever the flags say.",
        "",
    ]
    for overridable, title in ((True, "Can be overridden"), (False, "Never overridden")):
        lines += [f"## {title}", "", "| rule | refuses | why |", "|---|---|---|"]
        rules = [rule for rule in _TABLE if rule.overridable == overridable]
        lines += [f"| `{rule.name}` | {rule.says} | {rule.why} |" for rule in rules]
        lines.append("")
    lines.append("This page is generated: `python -m rig.image.planning.rules > docs/image-rules.md`.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
