"""A label for a unit that passed: a template filled in, kept with the unit, and handed to a command that prints it.

What goes wrong here is told and loses no unit: the board is as good without its label. A label shows no secret: text
that holds one is not written and not printed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Final

from rig.errors import UsageProblem
from rig.files import why_unreadable, write_durably
from rig.line.rules import Label
from rig.scrub import scrub
from rig.toml import nearest

FIELDS: Final = ("unit", "mac", "batch", "product", "utc", "firmware", "sha256", "sha12")
TIMEOUT_S: Final = 30.0  # a printer that is off must not hold up a slot for long
_LARGEST: Final = 64 * 1024  # bytes of a template
_SAID: Final = 200  # characters of what a command said that are kept
_SHORTEST_SECRET: Final = 4  # a shorter one is in every second serial number by chance
_COMMANDS: Final = {".zpl": "^~", ".csv": '",;\t'}  # characters that mean something there, by the template's ending
_TAIL: Final = 4096  # bytes of what a command said that are looked at


@dataclass(frozen=True)
class Made:
    """What became of a label. `path` None: there is none; `printed` False: its command failed. Why is `said`."""

    path: Path | None
    printed: bool
    said: str = ""


def read_template(path: Path) -> str:
    """The template's text, checked as far as it can be without a unit. UsageProblem names file and mistake."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageProblem(f"{path} is no label's template: it is larger than {_LARGEST // 1024} KiB")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageProblem(f"no label's template at {path}") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"cannot read the label's template {path}: {why_unreadable(problem)}") from None
    try:
        parts = list(Formatter().parse(text))
    except ValueError as problem:
        raise UsageProblem(f"{path}: {problem}; a brace that is to be printed is written twice") from None
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if name not in FIELDS:
            raise UsageProblem(f"{path}: a label has no field {{{name}}}; {nearest(name, FIELDS)}")
        if form or conversion:
            raise UsageProblem(f"{path}: {{{name}}} takes no format")
    if scrub(text) != text:
        raise UsageProblem(f"{path} holds a password or key, or what looks like one: a label is for all to read")
    return text


def check_label(rule: Label) -> None:
    """UsageProblem where the rule cannot make a label of any unit."""
    if rule.template is not None:
        read_template(rule.template)
    if rule.command and rule.template is None:
        raise UsageProblem("a label's command needs a template to print")
    if rule.command and not any("{file}" in word for word in rule.command):
        raise UsageProblem("a label's command is given the label's path as {file}, and no word of it has that")


def check_printer(rule: Label) -> None:
    """UsageProblem where the command that prints labels is not on this machine: no label of the batch would come."""
    if rule.command and shutil.which(rule.command[0]) is None:
        where = "there is no such program" if "/" in rule.command[0] else "no such program is found by PATH"
        raise UsageProblem(f"the label's command {rule.command[0]}: {where}, or it may not be run")


def make_label(
    rule: Label,
    fields: Mapping[str, str | None],
    folder: Path,
    *,
    secrets: Collection[str] = (),
    timeout_s: float = TIMEOUT_S,
) -> Made | None:
    """The label of one unit, written into `folder` and printed; None where the rule has no template.

    `fields`: a text for each of FIELDS, None for one that is not known. Raises nothing that a printer, a disk or a
    template could cause: `Made.said` tells it. Waits `timeout_s` at most.
    """
    if rule.template is None:
        return None
    try:
        text = _filled(rule.template, fields, secrets)
        path = folder / f"label{rule.template.suffix or '.txt'}"
        write_durably(path, text)
    except UsageProblem as problem:
        return Made(None, False, str(problem))
    except OSError as problem:
        return Made(None, False, f"the label could not be written: {problem.strerror}")
    if not rule.command:
        return Made(path, True)
    failed = _printed(rule.command, path, timeout_s)
    return Made(path, failed is None, scrub(failed or "", secrets)[:_SAID])


def _filled(template: Path, fields: Mapping[str, str | None], secrets: Collection[str]) -> str:
    text = read_template(template)
    bad = _COMMANDS.get(template.suffix.lower(), "")
    used = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    values = {}
    for name in sorted(used):
        value = fields.get(name)
        if not value:
            raise UsageProblem(f"no label: its template wants {{{name}}}, which is not known of this unit")
        if not value.isprintable() or any(char in bad for char in value):
            raise UsageProblem(f"no label: {{{name}}} is {value!r}, which a printer would take for a command")
        values[name] = value
    filled = text.format_map(values)
    known = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
    if scrub(filled, known) != filled:
        raise UsageProblem("no label: its text would show a secret of the provisioning")
    return filled


def _printed(command: list[str], path: Path, timeout_s: float) -> str | None:
    """None once the command said that it printed, else what went wrong.

    What it says goes to a file and not to a pipe, which a program that it left behind could hold open for good.
    """
    words = [word.replace("{file}", str(path.absolute())) for word in command]
    try:
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it started too
                process.wait()
                return f"{words[0]} did not end within {timeout_s:g} s and was stopped"
            output.seek(max(os.fstat(output.fileno()).st_size - _TAIL, 0))
            said = output.read(_TAIL).decode(errors="replace")
    except (OSError, ValueError) as problem:
        return f"{words[0]}: {getattr(problem, 'strerror', None) or problem}"
    if process.returncode == 0:
        return None
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    return f"{words[0]} ended with exit code {process.returncode}: {last[0]}"
