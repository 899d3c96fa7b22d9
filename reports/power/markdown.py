"""A report of supply studies as Markdown, for a forum or a pull request: what counts first, the rest folded.

Whatever comes out of a board, a file or a name is shown as text: it can be no link, no mention, no markup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reports.power import achieved, compare, evidence, names, outcomes, rates, recommend, spoiled, words
from reports.power.gathered import Gathered
from reports.power.page import page_data, spread
from reports.power.shmoo import Shmoo, shmoos
from reports.releases.markdown import MOST, code, fenced, text

Part = Callable[[Gathered], list[str]]
_MOST_ROWS = 40


def markdown(told: Gathered) -> str:
    """The whole, below 65,000 characters: what is folded last goes first, and what is left is cut at last."""
    parts: list[Part] = [
        _head, _rows, _sources, _thresholds, _stairs, _outcomes, _spoiled, _compared, _shmoos, _achieved, _product,
        _examples, _measured,
    ]  # fmt: skip
    for least in ((), (_examples,), (_examples, _shmoos, _achieved), (_examples, _shmoos, _achieved, _compared)):
        blocks = [block for part in parts if part not in least for block in part(told)]
        if least:
            blocks.append("*Shortened: the whole is in the report's index.html.*")
        whole = "\n\n".join(blocks) + "\n"
        if len(whole) <= MOST:
            return whole
    end = "\n\n*Cut: the whole is in the report's index.html.*\n"
    return "\n\n".join([*_head(told), *_measured(told)])[: MOST - len(end)].rsplit("\n", 1)[0] + end


def _head(told: Gathered) -> list[str]:
    found = [f"### {text(words.headline(told), 2000)}"]
    remarks = words.remarks(told)
    return [*found, "\n".join(f"> {text(each)}  " for each in remarks)] if remarks else found


def _rows(told: Gathered) -> list[str]:
    found = rates.in_a_row(told)
    rows = [
        [text(each.series.key.part), text(each.board), text(names.amount(each.axis, each.value)),
         f"{each.good} of {each.needed}", str(each.spoiled), text(words.percent(each.bound)) if each.good else "–",
         "confirmed" if each.confirmed else "**not confirmed**"]
        for each in found
    ]  # fmt: skip
    return _section("So many in a row", ["part", "board", "at", "good in a row", "spoiled", "fail at most", ""], rows)


def _sources(told: Gathered) -> list[str]:
    rows = [
        [text(outcomes.source_title(each.series)), text(names.ACTIVITY.get(each.series.key.activity, "")),
         text(words.rate(each.rate)), text(words.source_verdict(each))]
        for each in words.source_rates(told)
    ]  # fmt: skip
    return _section("Weak sources", ["source", "doing", "bad", "verdict"], rows)


def _thresholds(told: Gathered) -> list[str]:
    data = page_data(told)
    rows = [
        [text(f"{each['part']}: {each['place']}"), text(each["board"]), text(each["axis"]),
         text(each["outside"] or f"{each['v50']} ({each['v50_interval']})"),
         "" if each["outside"] else text(each["slope"]),
         "" if each["outside"] else text(f"{each['rare']} ({each['rare_interval']})"),
         f"{each['bad']} of {each['n']}",
         text(f"{each['clean']} ({each['clean_bound']})" if each["clean"] else "–")]
        for each in data["thresholds"]
    ]  # fmt: skip
    head = ["where", "board", "of", "V50", "slope", "at 1 %", "bad", "none bad"]
    return _section("Thresholds", head, rows)


def _stairs(told: Gathered) -> list[str]:
    lines = [f"- {text(words.staircase(each))}" for each in rates.staircases(told)]
    return ["#### Level below level", "\n".join(lines)] if lines else []


def _outcomes(told: Gathered) -> list[str]:
    kinds = outcomes.seen(told)
    rows = [
        [text(each.part), text(each.place), *(str(each.counts[kind]) for kind in kinds), str(each.n)]
        for each in outcomes.rows(told)
    ]
    return _section("Outcomes", ["part", "at", *(names.TITLES[kind] for kind in kinds), "all"], rows)


def _spoiled(told: Gathered) -> list[str]:
    rows = [
        [text(each.part), text(each.place), text(each.level or "–"), text(each.board), str(each.n),
         f"{each.bad} of {each.counted}", text(each.why)]
        for each in spoiled.rows(told)
    ]  # fmt: skip
    return _section("Spoiled by the bench", ["part", "at", "level", "board", "spoiled", "bad of others", "why"], rows)


def _compared(told: Gathered) -> list[str]:
    found = []
    for each in compare.comparisons(told):
        unit = names.unit(each.axis)
        rows = [
            [text(one.first), text(one.second), f"{one.value:+.3g} {unit}",
             f"{one.low:+.3g} to {one.high:+.3g} {unit}",
             "**different**" if one.told_apart else "not told apart"]
            for one in each.differences
        ]  # fmt: skip
        head = ["first", "second", "difference", "interval", ""]
        found += _section(f"{compare.WORDS[each.by]}, {each.title}", head, rows)
    return found


def _shmoos(told: Gathered) -> list[str]:
    return [
        _folded(f"Shmoo: {each.series.key.part}, {outcomes.place_of(each.series)}", _grid(each))
        for each in shmoos(told)
    ]


def _grid(each: Shmoo) -> str:
    cells = {(one.x, one.y): f"{one.bad}/{one.n}" for one in each.squares}
    head = [f"{names.axis(each.up)} \\ {names.axis(each.across)}", *(names.amount(each.across, x) for x in each.xs)]
    rows = [[names.amount(each.up, y), *(cells.get((x, y), "") for x in each.xs)] for y in reversed(each.ys)]
    return _table(head, rows)


def _achieved(told: Gathered) -> list[str]:
    rows = [
        [text(each.commanded), text(each.supply), str(each.n), str(each.seen), text(spread(each.depth, 1000, "mV")),
         text(spread(each.width, 1000, "ms")), text(spread(each.delay, 1000, "ms"))]
        for each in achieved.rows(told)[:_MOST_ROWS]
    ]  # fmt: skip
    if not rows:
        return []
    head = ["commanded", "by", "trials", "witnessed", "depth off by", "width achieved", "delay achieved"]
    return [_folded("Commanded and achieved", _table(head, rows))]


def _product(told: Gathered) -> list[str]:
    table = recommend.product_table(told)
    return [_folded("For the product's profile", fenced(table))] if table else []


def _examples(told: Gathered) -> list[str]:
    found = []
    for each in evidence.examples(told):
        kind = names.TITLES.get(each.kind, each.kind)
        body = [f"{text(each.title)}: {text(each.trial.why)}"]
        if each.log:
            body += [f"{code(each.trial.log or '')}", fenced("\n".join(each.log))]
        if each.trace:
            body += [f"{code(each.trial.trace or '')}", fenced("\n".join(each.trace))]
        found.append(_folded(f"What it looks like: {kind}", "\n\n".join(body)))
    return found


def _measured(told: Gathered) -> list[str]:
    lines = [f"- {text(name)}: {text(value)}" for name, value in words.facts(told)]
    return [_folded("How it was measured", "\n".join(lines))]


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    found = [f"#### {text(title)}", _table(head, rows[:_MOST_ROWS])]
    left = len(rows) - _MOST_ROWS
    return [*found, f"{left} more are in the report's index.html."] if left > 0 else found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(each)} |" for each in lines)


def _folded(title: str, body: str) -> str:
    named = text(title).replace("\\", "")
    return f"<details><summary>{named}</summary>\n\n{body}\n\n</details>"
