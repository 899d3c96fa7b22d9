"""A study's verdict as Markdown for a pull request: what counts first, the rest folded, never too long to be posted.

Whatever comes out of a tool, a release's name or a file is shown as text: it can be no link, no mention, no markup.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape

from reports.releases import words
from reports.releases.gathered import Gathered
from reports.releases.grid import MEANINGS, SYMBOLS, Row
from reports.releases.safe import shown
from reports.releases.wire import Excerpt

MOST = 65_000  # characters; GitHub takes 65,536
_MOST_NAME = 60  # characters of a release's name in a table
_MOST_TEXT = 600  # of a sentence
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_LINKS = re.compile(r"(?i)(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?<=@)(?=[\w-])|(?<=#)(?=\d)|(?<=\bgh)(?=-\d)")
_BREAK = "\N{ZERO WIDTH SPACE}"

Part = Callable[[Gathered], list[str]]


def markdown(told: Gathered) -> str:
    """The whole, below MOST characters: what is folded goes first, the longest last of all is cut."""
    parts: list[Part] = [_head, _regressions, _against, _matrix, _notes, _whole_matrix, _times, _trace, _measured]
    for least in ((), (_trace,), (_trace, _whole_matrix, _times), (_trace, _whole_matrix, _times, _notes)):
        blocks = [block for part in parts if part not in least for block in part(told)]
        if least:
            blocks.append("*Shortened to fit into a comment: the whole is in the report's index.html.*")
        whole = "\n\n".join(blocks) + "\n"
        if len(whole) <= MOST:
            return whole
    cut = "\n\n".join([*_head(told), *_measured(told)])
    end = "\n\n*Cut to fit into a comment: the whole is in the report's index.html.*\n"
    return cut[: MOST - len(end)].rsplit("\n", 1)[0] + end


# -- parts ----------------------------------------------------------------------------------------------------------


def _head(told: Gathered) -> list[str]:
    symbol = {"fail": "❌", "pass": "✅", "unsure": "⚠️", "idle": "❔"}[words.tone(told)]
    found = [f"### {symbol} {text(words.headline(told))}"]
    remarks = words.remarks(told)
    if remarks:
        found.append("\n".join(f"> {text(each)}  " for each in remarks))
    return found


def _regressions(told: Gathered) -> list[str]:
    found = told.verdict.regressions
    lines = [f"- **{text(words.regression_title(told, one))}**: {text(words.regression(told, one))}" for one in found]
    blocks = ["#### What got worse", "\n".join(lines)] if lines else []
    doubts = [f"- **{text(name)}**: {text(which, 2000)}" for name, which in words.suspected(told)]
    if doubts:
        blocks += ["#### Suspected", f"{text(words.SUSPECTED)}:\n\n" + "\n".join(doubts)]
    return blocks


def _against(told: Gathered) -> list[str]:
    other = told.against
    if other is None:
        return []
    found = [f"#### Since {text(other.run)} ({text(other.utc[:10])})"]
    lines = [text(each) + "." for each in other.remarks]
    lines += [f"- {text(each.release)}, {text(each.title)}: was {text(each.was)}, is **{text(each.now)}**"
              for each in other.changed]  # fmt: skip
    lines += [f"- {text(each.release)}, {text(each.title)}: {words.took(each.was_s)} (median of {each.was_n}) then, "
              f"{words.took(each.now_s)} (of {each.now_n}) now" for each in other.times]  # fmt: skip
    same = f"{words.count(other.same, 'cell')} of the matrix {'is' if other.same == 1 else 'are'} as then."
    return [*found, "\n".join([*lines, "", same] if lines else [same])]


def _matrix(told: Gathered) -> list[str]:
    rows = [row for row in told.grid.rows if not row.green and row.made]
    never = [row.title for row in told.grid.rows if not row.made]
    green = [row.title for row in told.grid.rows if row.green]
    found = ["#### Releases and operations"] if told.grid.rows else []
    if rows:
        found.append(_table(told, rows))
    if green:
        which = "All" if not rows and not never else f"{len(green)} more"
        each = "every release" if len(told.grid.releases) > 1 else "the release"
        found.append(f"{which} went well in {each}: {text('; '.join(green), 4000)}.")
    if never:
        found.append(f"Not tried at all: {text('; '.join(never), 4000)}.")
    if rows:
        found.append(_key(rows))
    return found


def _whole_matrix(told: Gathered) -> list[str]:
    if all(not row.green for row in told.grid.rows):
        return []
    rows = told.grid.rows
    return [_folded(f"The whole matrix: {words.count(len(rows), 'operation')}", _table(told, rows))]


def _times(told: Gathered) -> list[str]:
    rows = words.comparison_rows(told)
    if not rows:
        return []
    lines = [_line(["release", "operation", "pairs", "times the baseline's time", "95 % interval", ""])]
    lines.append(_line(["---", "---", "--:", "--:", "--:", "---"]))
    lines += [
        _line([text(row["release"], _MOST_NAME), text(row["task"], _MOST_NAME), row["pairs"], row["ratio"],
               row["interval"], text(". ".join(filter(None, (row["verdict"], row["why"]))))])
        for row in rows
    ]  # fmt: skip
    return [_folded("Times against the baseline's", "\n".join(lines))]


def _table(told: Gathered, rows: Sequence[Row]) -> str:
    head = ["", *(text(name, _MOST_NAME) for name in told.grid.releases)]
    lines = [_line(head), _line(["---", *([":-:"] * len(told.grid.releases))])]
    for row in rows:
        cells = []
        for square in row.squares:
            notes = ", ".join(str(each) for each in square.notes)
            cells.append(text(square.text) + (f" <sup>{notes}</sup>" if notes else ""))
        lines.append(_line([text(row.title, _MOST_NAME), *cells]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _key(rows: Sequence[Row]) -> str:
    seen = {square.outcome for row in rows for square in row.squares}
    return "; ".join(f"{SYMBOLS[each]}: {MEANINGS[each]}" for each in SYMBOLS if each in seen) + "."


def _notes(told: Gathered) -> list[str]:
    notes = told.grid.notes
    if not notes:
        return []
    lines = [f"{note.number}. {'' if note.known else '*No known reason:* '}{text(note.text)}" for note in notes]
    return ["#### Why", "\n".join(lines), "(code): read in the release's own source; (wire): seen on the wire."]


def _trace(told: Gathered) -> list[str]:
    first = told.first_wrong()
    if first is None:
        return []
    trace = next((each for each in told.traces() if each.trial is first), None)
    title = f"The first wrong run: {shown(first.release)}, {words.task_title(told, first)}"
    return [_folded(title, "\n\n".join(_first(told, trace)))]


def _first(told: Gathered, trace: Excerpt | None) -> list[str]:
    first = trace.trial if trace is not None else told.first_wrong()
    assert first is not None
    found = [f"Trial {first.n}, {text(first.outcome)}: {text(first.why)}."]
    if first.tail:
        found += ["What it printed at the end:", fenced("\n".join(first.tail))]
    if trace is None:
        return [*found, "No trace of it was kept."]
    return [*found, f"On the wire ({text(first.trace or '')}; seconds, command, bytes out > in):",
            fenced("\n".join(trace.lines))]  # fmt: skip


def _measured(told: Gathered) -> list[str]:
    lines = [f"- {text(name)}: {text(value)}" for name, value in words.facts(told)]
    rows = [_line(["release", "what was installed", "sha256"]), _line(["---"] * 3)]
    rows += [_line([text(title, _MOST_NAME), text(what), code(sha)]) for title, _, what, sha in words.versions(told)]
    return [_folded("How it was measured", "\n".join(lines) + "\n\n" + "\n".join(rows))]


# -- text -----------------------------------------------------------------------------------------------------------


def text(words_: object, most: int = _MOST_TEXT) -> str:
    """Anything as one line of text and nothing else: no markup, no link, nobody mentioned."""
    line = " ".join(shown(words_).split())
    line = line if len(line) <= most else line[: most - 1] + "…"
    return _LINKS.sub(_BREAK, _MARKUP.sub(r"\\\g<0>", escape(line, quote=False)))


def code(words_: object) -> str:
    """A code span of one line, for a table's cell too."""
    line = " ".join(shown(words_).split()).replace("|", "¦")
    mark = "`" * (_longest(line) + 1)
    return f"{mark} {line} {mark}" if "`" in line else f"`{line}`"


def fenced(words_: str) -> str:
    """Lines as they are, in a block that they cannot end."""
    lines = "\n".join(line[:200] for line in shown(words_).split("\n"))
    mark = "`" * max(3, _longest(lines) + 1)
    return f"{mark}text\n{lines}\n{mark}"


def _longest(line: str) -> int:
    return max((len(run) for run in re.findall("`+", line)), default=0)


def _folded(title: str, body: str) -> str:
    named = _LINKS.sub(_BREAK, escape(" ".join(shown(title).split())[:200], quote=False))  # HTML: no Markdown in it
    return f"<details><summary>{named}</summary>\n\n{body}\n\n</details>"
