"""Faults on request: the catalogue of what can go wrong on a table and be made to happen on a simulated bench.

Only tests and studies use it. A request is `SLOT:NAME[:option=value,...]` on the command line of `rig sim`, or
`fault` and `heal` on the bench's control socket. What a fault does to a board's lines is in `disturbance.py`, to a
supply in `psu/`; here stands what there is, with which options, and what it stands for on a real table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rig.errors import UsageProblem

Where = Literal["board", "jig", "adaptor", "supply"]
"""What is faulty. A board's fault goes when the next board is put in; the others stay with the slot."""


@dataclass(frozen=True)
class Option:
    """One option of a fault: a number between `low` and `high`, or one of `choices`."""

    default: float | str
    text: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()

    def read(self, value: object) -> float | str:
        """The value as it is used. Raises ValueError with what would be right."""
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"one of {', '.join(self.choices)}")
            return str(value)
        wanted = f"a number from {self.low:g} to {self.high:g}"
        try:
            number = float(str(value))
        except ValueError:
            raise ValueError(wanted) from None
        if not self.low <= number <= self.high:  # NaN too
            raise ValueError(wanted)
        return number


@dataclass(frozen=True)
class Fault:
    """One entry: what it does here, what it stands for on a real table, its options. `apart` is the option by which
    several of this name can hold at once (two open pins)."""

    name: str
    where: Where
    does: str
    stands_for: str
    options: Mapping[str, Option] = field(default_factory=dict)
    apart: str = ""

    def checked(self, options: Mapping[str, object]) -> dict[str, Any]:
        """`options` completed by the defaults. Raises UsageProblem for an unknown one or a value out of range."""
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            known = ", ".join(self.options) or "none"
            raise UsageProblem(f"the fault {self.name} has no option {unknown[0]!r}; there are: {known}")
        found: dict[str, Any] = {}
        for name, option in self.options.items():
            try:
                found[name] = option.read(options.get(name, option.default))
            except ValueError as wanted:
                raise UsageProblem(f"the fault {self.name} takes as {name} {wanted}, not {options[name]!r}") from None
        return found

    def key(self, options: Mapping[str, Any]) -> str:
        """What tells this fault from another of its kind at the same slot."""
        return f"{self.name} {options[self.apart]}" if self.apart else self.name


@dataclass(frozen=True)
class Request:
    """A fault asked for at a slot, its options checked."""

    slot: str
    name: str
    options: Mapping[str, Any]


_MOST_BYTES = 1e12
_AFTER = Option(
    0.0, "begins once so many bytes have crossed the line, both ways, since it was asked for", 0, _MOST_BYTES
)
_PORT = Option("flash", "which adaptor", choices=("flash", "log"))
_RATE = Option(1e-3, "how likely each byte is hit", 0, 1)
_TO = Option("host", "bytes to the host, to the chip, or both", choices=("host", "chip", "both"))

_BOARDS = [
    Fault(
        "dead", "board",
        "draws the ROM's current, answers nothing, runs nothing",
        "a chip that died by static or heat, or whose UART pins did; a crystal that does not start; with `below`, "
        "one that a brown-out kills (latch-up)",
        {"below": Option(0.0, "dies as its rail falls below so many volts, not by its switch; 0: now", 0, 3.6)},
    ),
    Fault(
        "short", "board",
        "pulls the output into its current limit; the chip gets too little to start",
        "a solder bridge or a dead capacitor across 3V3 and GND",
        {"ohms": Option(0.5, "resistance of the short", 0.01, 3), "after": _AFTER},
    ),
    Fault(
        "open-pin", "jig",
        "3v3 or gnd: no current at all; rx1: the chip hears nothing; tx1: nothing it says is heard",
        "a bent or dirty needle of the jig, a board seated askew",
        {"pin": Option("3v3", "which needle", choices=("3v3", "gnd", "rx1", "tx1")), "after": _AFTER},
        apart="pin",
    ),
    Fault(
        "worn-needle", "jig",
        "resistance in the 3v3 contact: the board stands lower than the supply's terminals by what it draws times "
        "that, and resets where that is below its reset level; the supply shows nothing of it",
        "a needle whose tip or spring is worn, oxidised or full of flux; a new one has less than 0.1 ohm (recalled), "
        "how it ages is a guess",
        {
            "ohms": Option(1.0, "resistance at first", 0, 100),
            "per_board": Option(0.0, "so many ohms more with each board that is put in", 0, 100),
            "spread": Option(0.0, "each touch differs by up to so many ohms, up or down", 0, 100),
            "after": _AFTER,
        },
    ),
    Fault(
        "rx1-driver", "board",
        "another output fights the adaptor for RX1: a bit that it wins reads high, a byte whose start bit it wins is "
        "no byte; a tuyamcu besides sends its own frames at 9600 baud",
        "a touch chip or an MCU whose output is wired to the module's RX1, as on touch switches and TuyaMCU devices",
        {
            "kind": Option("touch", "who drives", choices=("touch", "tuyamcu")),
            "wins": Option(1.0, "how likely the other output wins a low bit (guess)", 0, 1),
            "period": Option(1.0, "seconds of the board's time between two frames of a tuyamcu (guess)", 0.01, 3600),
        },
    ),
    Fault(
        "tx2-open", "jig",
        "the log port stays silent",
        "the wire to TX2 not soldered or fallen off",
    ),
    Fault(
        "late", "adaptor",
        "the ROM's replies come later by `ms` real milliseconds",
        "a USB adaptor's latency timer (16 ms on an FTDI by default), a busy hub, a port shared over a network",
        {"ms": Option(16.0, "how much later", 0, 60_000), "after": _AFTER},
    ),
    Fault(
        "doubled", "adaptor",
        "the ROM's replies come twice",
        "surplus answers to link checks that were queued (of=link), seen with several tools; a virtual port that "
        "repeats a packet (of=all)",
        {"of": Option("link", "which replies", choices=("link", "all")), "after": _AFTER},
    ),
    Fault(
        "flip", "adaptor",
        "one bit of a byte is turned over",
        "a bad ground, a long or crossed wire, a baud at the edge of what the adaptor can do",
        {"rate": _RATE, "to": _TO, "port": _PORT, "after": _AFTER},
        apart="port",
    ),
    Fault(
        "noise", "adaptor",
        "bytes come that nobody sent, so many every `period` seconds, whatever the chip does",
        "a needle without contact whose wire picks up what is near it, a port wired to another slot's board",
        {
            "port": _PORT,
            "bytes": Option(6, "how many at a time", 1, 64),
            "period": Option(0.1, "real seconds between two of them", 0.001, 3600),
            "after": _AFTER,
        },
        apart="port",
    ),
    Fault(
        "lose", "adaptor",
        "bytes go missing",
        "an adaptor's small buffer at a high baud, a host that reads too late",
        {"rate": _RATE, "to": _TO, "port": _PORT, "after": _AFTER},
        apart="port",
    ),
    Fault(
        "unplug", "adaptor",
        "the port goes away under whoever has it open, and so does its name; healed, or after `back` seconds, a new "
        "port stands behind the same name",
        "a USB-UART pulled out, a hub that resets, a cable that is trodden on",
        {
            "port": _PORT,
            "after": _AFTER,
            "back": Option(0.0, "plugged in again after so many seconds; 0: when it is healed", 0, 86400),
        },
        apart="port",
    ),
]  # fmt: skip

BOARD_FAULTS: dict[str, Fault] = {fault.name: fault for fault in _BOARDS}


# Of supplies: name to (what it does, what it stands for). Options and their defaults are in psu/faults.py.
SUPPLY_FAULTS: dict[str, tuple[str, str]] = {
    "hung": (
        "takes connections, answers nothing and does nothing",
        "an instrument whose processor hangs, or is busy with its front panel",
    ),
    "half-open": (
        "the connections there are die without a word, and still count",
        "a killed client or a pulled network cable: the instrument keeps the dead session for minutes",
    ),
    "one-client": ("takes so many connections and no more", "B&K 914x, Aim-TTi: one client only"),
    "drop": ("hangs up on a line", "a LAN port that resets, a supply that loses its session"),
    "late": ("an answer comes later than the client waits", "an instrument busy with its meter or its display"),
    "split": ("answers come in two segments", "what a network may do to any answer"),
    "error-queue-full": ("the error queue is full", "another program that left its errors behind"),
    "slow-meter": ("the meter is renewed a few times a second", "a DP832 (2 to 3 Hz), a TTi CPX (4 Hz)"),
    "trailing-nul": ("answers end in NUL", "Rigol DP2000 blocks"),
    "trailing-comma": ("answers end in a comma", "Siglent timers"),
    "coalesced": ("of lines in one segment only the first is carried out", "B&K 9141"),
    "hurried": ("a line too soon after the last is lost", "Siglent SPD, from reports"),
}
_SUPPLY = "supply-"


def parse(text: str) -> Request:
    """A fault as it is asked for on a command line: `A:late:ms=40,after=100000`, `A:supply-hung:seconds=3`.

    Raises UsageProblem. The options of a supply's fault are the supply's to check.
    """
    slot, _, rest = text.partition(":")
    name, _, listed = rest.partition(":")
    if not slot or not name:
        raise UsageProblem(f"--fault takes SLOT:NAME[:option=value,...], not {text!r}")
    return Request(slot, name, checked(name, pairs(listed.split(",") if listed else [])))


def pairs(words: list[str]) -> dict[str, Any]:
    """`option=value` words; a value is JSON where it can be, else text. Raises UsageProblem."""
    found: dict[str, Any] = {}
    for word in words:
        option, equals, value = word.partition("=")
        if not option or not equals:
            raise UsageProblem(f"a fault's option is option=value, not {word!r}")
        try:
            found[option] = json.loads(value)
        except ValueError:
            found[option] = value
    return found


def checked(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a fault of board or supply (`supply-` and its name). Raises UsageProblem."""
    if supply_fault(name) is not None:
        return dict(options)
    return find(name).checked(options)


def supply_fault(name: str) -> str | None:
    """The supply's own name of a fault called `supply-...`; None for a board's."""
    bare = name.removeprefix(_SUPPLY)
    return bare if bare != name and bare in SUPPLY_FAULTS else None


def catalogue() -> list[dict[str, Any]]:
    """Everything there is, for people and for the control socket."""
    boards = [
        {
            "name": fault.name,
            "where": fault.where,
            "does": fault.does,
            "stands_for": fault.stands_for,
            "options": {name: f"{option.text} (default {option.default})" for name, option in fault.options.items()},
        }
        for fault in _BOARDS
    ]
    supplies = [
        {"name": _SUPPLY + name, "where": "supply", "does": does, "stands_for": stands_for, "options": {}}
        for name, (does, stands_for) in SUPPLY_FAULTS.items()
    ]
    return boards + supplies


def described() -> str:
    """The catalogue as a person reads it."""
    lines = []
    for entry in catalogue():
        lines += [f"{entry['name']} ({entry['where']}): {entry['does']}", f"    stands for {entry['stands_for']}"]
        lines += [f"    {option}: {text}" for option, text in entry["options"].items()]
    return "\n".join(lines)


def find(name: str) -> Fault:
    """The board fault called `name`. Raises UsageProblem that lists what there is."""
    if name not in BOARD_FAULTS:
        names = ", ".join([*BOARD_FAULTS, *(_SUPPLY + each for each in SUPPLY_FAULTS)])
        raise UsageProblem(f"there is no fault {name!r}; there are {names}")
    return BOARD_FAULTS[name]
