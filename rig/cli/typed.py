"""What is typed or scanned at the terminal, as commands to the station."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from rig.errors import UsageProblem
from rig.records.events import Prompted

HELP = (
    "Scan or type a serial number, with its slot before it (A SN001) or without; answer a question by its answer; "
    "Enter: done. /abort [SLOT]  /release [SLOT]  /operator NAME  /rework UNIT WHAT  /retest UNIT"
)


def command_for(line: str, slots: Collection[str], prompts: Iterable[Prompted]) -> dict[str, Any] | None:
    """The command for `Station.do` that a line means, by the questions that are open, oldest first; None: none.

    An answer goes to the oldest question that has it; all else is a serial number. Where boards are asked for in more
    than one slot a bare Enter is none of them, since it could switch on a slot with hands in it: it takes
    the slot's name. Raises UsageProblem for that, and for a command that does not exist or lacks a word.
    """
    text = line.strip()
    if text.startswith("/"):
        return _command(text[1:].split())
    slot, rest = _slot_before(text, slots)
    open_now = list(prompts)
    loads = [each for each in open_now if each.what == "load"]
    if slot is None and len(loads) > 1:
        slot, rest = _one_of(loads, text)
    questions = [each for each in open_now if slot in (None, each.slot)]
    for prompt in questions:
        answer = _answer(rest, prompt)
        if answer is not None:
            return {"do": "answer", "prompt": prompt.prompt, "answer": answer, "who": None, "by": "terminal"}
    if not rest:
        return None
    asked = next((each.slot for each in questions if each.what == "scan"), None)
    return {"do": "scan", "slot": slot or asked, "text": rest, "who": None, "by": "terminal"}


def _slot_before(text: str, slots: Collection[str]) -> tuple[str | None, str]:
    """`A SN001`: a slot's name alone is a serial number like any other."""
    first, _, rest = text.partition(" ")
    return (first, rest.strip()) if rest.strip() and first in slots else (None, text)


def _one_of(loads: list[Prompted], text: str) -> tuple[str | None, str]:
    """Which of several slots is meant, and what is left of the line."""
    if text in [each.slot for each in loads]:
        return text, ""
    if text.lower() in ("", "done"):
        names = ", ".join(each.slot or "" for each in loads)
        raise UsageProblem(
            f"slots {names} wait for a board each: type the slot's name when its board is in, then Enter"
        )
    return None, text


def _answer(text: str, prompt: Prompted) -> str | None:
    """`text` as an answer to `prompt`, None if it is none. A choice may be cut short where no other begins so."""
    if prompt.what == "scan":
        return None
    if prompt.choices:
        fits = [choice for choice in prompt.choices if text and choice.lower().startswith(text.lower())]
        exact = [choice for choice in fits if choice.lower() == text.lower()]
        return (exact or fits)[0] if exact or len(fits) == 1 else None
    return "done" if text.lower() in ("", "done", (prompt.unit or "").lower()) else None


def _command(words: list[str]) -> dict[str, Any]:
    name, rest = (words[0] if words else ""), words[1:]
    if name == "abort" and len(rest) < 2:
        return {"do": "abort", **({"slot": rest[0]} if rest else {})}
    if name == "release" and len(rest) < 2:
        order = {"do": "release", "slot": rest[0]} if rest else {"do": "release-line"}
        return {**order, "who": None, "by": "terminal"}
    if name == "operator" and rest:
        return {"do": "operator", "who": " ".join(rest), "by": "terminal"}
    if name == "rework" and len(rest) > 1:
        return {"do": "rework", "unit": rest[0], "what": " ".join(rest[1:]), "who": None}
    if name == "retest" and len(rest) == 1:
        return {"do": "retest", "unit": rest[0]}
    raise UsageProblem(HELP)
