"""What a trial did to a board: one class out of ten, told from facts alone.

The facts are the rig's own observations: what the activity said, what the log showed, whether the board answered
before and after a power-cycle at the product's supply, what its flash held then and some power-cycles later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Outcome = Literal[
    "unaffected",
    "late",  # done without a word of trouble, and slower than usual
    "detected",  # an error was told, and the board is as good as before
    "recovered",  # it reset, and came back by itself
    "boot-loop",  # it reset again and again until its power was cycled
    "hung",  # silent until its power was cycled
    "silent-corruption",  # flash is not what it is taken for, and nothing said so
    "lost-data",  # the firmware runs; its calibration or its configuration is gone
    "full-image",  # comes back by a full image from 0x0 only
    "dead",  # comes back by nothing
    "blocked",  # the bench was to blame; counted nowhere
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)  # in order of severity, "blocked" last
COUNTED: tuple[Outcome, ...] = OUTCOMES[:-1]
GOOD: tuple[Outcome, ...] = ("unaffected", "late")  # whoever waits for the activity gets what was asked for

LATE_SHARE = 0.25  # of the usual seconds: a guess, well above the spread of a reference trial
LATE_S = 0.2  # and so many seconds more: what host and ports may take. Source: guess
LOOP_RESETS = 3  # so many resets without coming up are a loop, as in the line's proof of boot


@dataclass(frozen=True)
class Seen:
    """Facts of one trial; None: not looked at, or not to be seen there.

    `finished`: the activity came to its end and says so. `error`: what it told that went wrong, "" for nothing.
    `seconds` and `usual_s`: of the activity, and as it takes undisturbed. `resets`: of the board while the activity
    ran, those that are part of it left out; `causes` theirs, as the log tells them.
    `answers`: after the activity, with no power-cycle, the board answers or its firmware came up.
    `cycled`: it does after a power-cycle at the product's supply. `boots`: its firmware came up then.
    `content`: what was to be written is there; `elsewhere`: all that nothing was to write is as it was: bootloader
    and app; `later`: both are still so after `cycles` more power-cycles. `where`: addresses that differ.
    `calibration`, `config`: as before, for the firmware's purposes. `full_image`: a full image from 0x0, which was
    needed, brought it back (True) or did not (False). `blocked`: why the bench is to blame, "" if it is not.
    """

    finished: bool
    error: str = ""
    seconds: float | None = None
    usual_s: float | None = None
    resets: int = 0
    causes: tuple[str, ...] = ()
    answers: bool | None = None
    cycled: bool | None = None
    boots: bool | None = None
    content: bool | None = None
    elsewhere: bool | None = None
    later: bool | None = None
    cycles: int = 0
    where: tuple[tuple[int, int], ...] = ()
    calibration: bool | None = None
    config: bool | None = None
    full_image: bool | None = None
    blocked: str = ""

    @property
    def late(self) -> bool:
        if self.seconds is None or self.usual_s is None:
            return False
        return self.seconds > self.usual_s * (1 + LATE_SHARE) + LATE_S


def classify(seen: Seen) -> tuple[Outcome, str]:
    """(class, one sentence on why). The worst that the facts show counts."""
    if seen.blocked:
        return "blocked", seen.blocked
    return _lasting(seen) or _passing(seen)


def _lasting(seen: Seen) -> tuple[Outcome, str] | None:
    """What a power-cycle does not mend."""
    if seen.full_image is False:
        return "dead", "it does not come up even with a full image from 0x0 in its flash"
    if seen.cycled is False:
        return "dead", "it does not answer any more, after a power-cycle at its own supply neither"
    if seen.full_image is True:
        return "full-image", f"it came back by a full image from 0x0 only{_places(seen)}"
    if seen.calibration is False or seen.config is False:
        kept = {"calibration": seen.calibration, "configuration": seen.config}
        lost = [name for name in kept if kept[name] is False]
        return "lost-data", f"its {' and its '.join(lost)} {'is' if len(lost) == 1 else 'are'} gone{_places(seen)}"
    if seen.elsewhere is False:
        return "silent-corruption", f"flash changed where nothing was written{_places(seen)}"
    told = seen.error and not seen.finished  # what was repeated and then done is no word of warning
    if seen.content is False and not told:
        said = "it said that all was done, and " if seen.finished else "nothing was said, and "
        return "silent-corruption", f"{said}flash is not as it was to be{_places(seen)}"
    if seen.later is False and not told:
        times = "one power-cycle" if seen.cycles == 1 else f"{seen.cycles} power-cycles"
        return "silent-corruption", f"flash was right, and is wrong after {times}{_places(seen)}"
    return None


def _passing(seen: Seen) -> tuple[Outcome, str]:
    """What is over after a power-cycle at the latest."""
    came = f" ({_listed(seen.causes)})" if seen.causes else ""
    resets = "it reset once" if seen.resets == 1 else f"it reset {seen.resets} times"
    if not seen.finished and seen.resets >= LOOP_RESETS and not seen.answers:
        return "boot-loop", f"{resets}{came} and did not come up until its power was cycled"
    if seen.answers is False and not seen.finished:
        after = f" after {'a reset' if seen.resets == 1 else f'{seen.resets} resets'}{came}" if seen.resets else ""
        return "hung", f"it did not answer{after} until its power was cycled"
    if seen.error and not seen.finished and seen.resets >= LOOP_RESETS:
        return "detected", f"{seen.error}; half written it resets again and again{came}, and its ROM answers"
    if seen.resets and (seen.finished or seen.answers):
        return "recovered", f"{resets}{came} and came back by itself{f'; told: {seen.error}' if seen.error else ''}"
    if seen.error and not seen.finished:
        return "detected", f"{seen.error}; the board itself is as good as before"
    if seen.error:
        return "detected", f"{seen.error}; then it was done all the same"
    if not seen.finished:
        return "hung", "it did not come to its end, and said nothing"
    if seen.late and seen.usual_s is not None and seen.seconds is not None:
        return "late", f"it took {seen.seconds:.2f} s, usual are {seen.usual_s:.2f} s"
    return "unaffected", "as ever"


def _places(seen: Seen) -> str:
    if not seen.where:
        return ""
    shown = ", ".join(f"0x{at:06x} ({length:,} bytes)" for at, length in seen.where[:3])
    return f": at {shown}{' and more' if len(seen.where) > 3 else ''}"


def _listed(causes: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(causes))
