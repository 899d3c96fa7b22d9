"""The table of flasher releases as a document."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.flasher_expectations import Expectations, Seen

_HEAD = """# Releases of flashing tools, expected and seen

Made by `python -m benchmarks.flasher_releases`; not edited by hand. Each release of ltchiptool and bk7231tools from
PyPI, unmodified, typed at the port of a simulated board with nothing of the rig between: no tap, no guard. Its RTS
and DTR, which a pseudo-terminal does not have, are heard by a shim and bridge the board's CEN. Cells say what was
seen: in the board's flash, in the file the tool left, in what it printed. What is expected, and why, is in
`benchmarks/flasher_releases.toml`.

A release on PyPI brings whatever bk7231tools pip chooses on the day of its installation, which is why it has a column
of its own; a version after a comma was held.
"""

_KEY = (
    "An error ends with exit code 1 where no other is given; `absent` means that the release has no such command or",
    "option, – that the tool has no such operation at all. A number refers to the reason below.",
)


@dataclass
class Row:
    """One release. `problem`: why it could not be installed."""

    release: str
    tool: str
    versions: Mapping[str, str]
    problem: str = ""
    seen: dict[str, Seen] = field(default_factory=dict)

    def differences(self, expectations: Expectations, operation: str) -> list[str]:
        return expectations.of(operation, self.tool, self.versions).differences(self.seen[operation])


def document(expectations: Expectations, rows: Sequence[Row], image: str) -> str:
    """Markdown: the table, its notes, the operations."""
    notes: list[str] = []
    columns = expectations.operations
    lines = [
        _HEAD,
        f"Image written: {image}. Python {sys.version_info.major}.{sys.version_info.minor}.",
        "No real board was touched.",
        "",
        "| release | bk7231tools | " + " | ".join(column.title for column in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    wrong = []
    for row in rows:
        if row.problem:
            lines.append(f"| {row.release} | | {row.problem} |" + " |" * (len(columns) - 1))
            wrong.append(f"- {row.release}: {row.problem}")
            continue
        cells = []
        for column in columns:
            cells.append(_cell(expectations, row, column.id, notes) if column.id in row.seen else "–")
            if column.id in row.seen:
                differences = row.differences(expectations, column.id)
                wrong += [f"- {row.release}, {column.title}: {difference}" for difference in differences]
        lines.append(f"| {row.release} | {row.versions.get('bk7231tools', '')} | " + " | ".join(cells) + " |")
    lines += ["", *_KEY, ""]
    lines += [f"{number}. {note}." for number, note in enumerate(notes, 1)]
    lines += ["", "## Not as expected", "", *(wrong or ["Nothing."]), "", "## Operations", ""]
    lines += ["| column | what is asked | what all are expected to do, but for the notes |", "|---|---|---|"]
    for column in columns:
        rule = next(rule for rule in expectations.rules if rule.operation == column.id and not rule.when)
        lines.append(f"| {column.title} | {column.what} | {rule.outcome}: {rule.why} |")
    return "\n".join(lines) + "\n"


def _cell(expectations: Expectations, row: Row, operation: str, notes: list[str]) -> str:
    """What was seen; the number of the note that explains why it is not what most do, or a mark that nothing does."""
    seen = row.seen[operation]
    rule = expectations.of(operation, row.tool, row.versions)
    if rule.differences(seen):
        return f"**{seen.outcome}, not expected**"
    if not rule.when:
        return seen.outcome
    if rule.why not in notes:
        notes.append(rule.why)
    return f"{seen.outcome} [{notes.index(rule.why) + 1}]"
