"""What commands print with: results on stdout, progress and problems on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rig.flashers.base import Progress as FlashProgress

# As it is: rich would make a smiley of the `:ab:` in a MAC, and take [words] out as markup.
out = Console(highlight=False, emoji=False, markup=False)
err = Console(stderr=True, highlight=False, emoji=False, markup=False)


def say(text: str) -> None:
    """A result line, as it is."""
    out.print(text, markup=False, soft_wrap=True)


def say_json(value: Any) -> None:
    """A result for programs: one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


@contextmanager
def flash_progress() -> Iterator[FlashProgress]:
    """A bar on stderr for one flash operation; nothing is drawn where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield progress
