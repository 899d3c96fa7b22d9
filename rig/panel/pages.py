"""HTML: whole pages, and the parts of the line's page that change, each under the id of the element it fills."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports import text
from rig.codes import CODES
from rig.panel.line import MEANT, STATES, WORDS, Line
from rig.panel.stations import ago

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"


@lru_cache(maxsize=4096)
def _shown(what: str) -> str:
    return text.shown(what)


def shown(what: object) -> str:
    """Anything out of a run: scrubbed, control characters made visible."""
    return "" if what is None else _shown(str(what))


def sentence(what: object) -> str:
    """A sentence out of a run, as one begins."""
    text = shown(what)
    return text[:1].upper() + text[1:]


def share(rate: tuple[int, int]) -> str:
    """A rate for people, never rounded into a 100 % that it is not."""
    good, of = rate
    if not of:
        return text.NOTHING
    percent = f"{100 * good / of:.1f}"
    return "> 99.9 %" if percent == "100.0" and good < of else f"{percent.removesuffix('.0')} %"


def clock(seconds: int | None) -> str:
    """Minutes and seconds."""
    return "" if seconds is None else f"{seconds // 60}:{seconds % 60:02d}"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {
        "shown": shown, "sentence": sentence, "share": share, "clock": clock, "ago": ago, "number": text.number,
        "seconds": text.seconds,
        "value": text.value, "cells": text.against_limits, "size": text.size, "command": json.dumps,
    }  # fmt: skip
    made.globals |= {"WORDS": WORDS, "MEANT": MEANT, "STATES": STATES, "CODES": CODES}
    return made


_ENVIRONMENT = _environment()


def page(template: str, **values: Any) -> str:
    """A whole page."""
    return _ENVIRONMENT.get_template(template).render(**values)


@dataclass(frozen=True)
class Parts:
    """What of the line's page changes: text by element id, and attributes by element id."""

    shape: str
    html: dict[str, str]
    states: dict[str, dict[str, str]]

    def since(self, before: Parts | None) -> dict[str, Any]:
        """What is different from `before`, as the page's script takes it; empty where nothing is."""
        html = {key: part for key, part in self.html.items() if before is None or before.html.get(key) != part}
        states = {key: each for key, each in self.states.items() if before is None or before.states.get(key) != each}
        return {"shape": self.shape, "html": html, "states": states} if html or states or before is None else {}


def parts(line: Line) -> Parts:
    """The parts of the line's page as they stand."""
    macros: Any = _ENVIRONMENT.get_template("parts.html").module
    html = {
        "facts": macros.facts(line), "banners": macros.banners(line), "counters": macros.counters(line),
        "prompts": macros.prompts(line), "history": macros.history(line), "said": shown(line.said),
        "line-actions": macros.line_actions(line),
    }  # fmt: skip
    states = {"line": {"state": line.state, "work": "yes" if line.at_work else "no"}}
    for place, tile in enumerate(line.tiles):
        key = f"slot-{place}"
        html |= {
            f"{key}-head": macros.head(tile), f"{key}-result": macros.result(tile, line),
            f"{key}-progress": macros.progress(tile), f"{key}-power": macros.power(tile),
            f"{key}-log": macros.log(tile), f"{key}-actions": macros.actions(tile, line),
        }  # fmt: skip
        states[key] = {"state": tile.state, "outcome": str(tile.outcome or "")}
    return Parts(line.shape, {key: str(part).strip() for key, part in html.items()}, states)
