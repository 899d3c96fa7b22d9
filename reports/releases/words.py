"""The sentences of a study's report."""

from __future__ import annotations

from collections.abc import Sequence

from reports.releases.gathered import Gathered
from reports.releases.grid import title_of
from reports.releases.safe import shown
from reports.text import NOTHING, number, seconds
from rig.releases.compare import Comparison, named
from rig.releases.trial import Trial

SUSPECTED = "Not right each time it was tried, the baseline always, but tried too seldom to count as a regression"
_SHA = 12  # digits shown
_MOST_SAID = 400  # characters of what got worse


def headline(told: Gathered) -> str:
    """The verdict in a sentence or two, for the first line of everything."""
    parts = [_unfinished(told), _verdict(told), _unjudged(told), _lies(told)]
    return " ".join(part for part in parts if part)


def tone(told: Gathered) -> str:
    """`fail`: a regression; `idle`: nothing can be said, or the study is not over; `unsure`: something is suspected
    or a release not judged; else `pass`."""
    if told.verdict.regressions:
        return "fail"
    base = shown(told.record.study.base)
    judged = {square.release for square in told.grid.squares if square.state != "grey"}
    if told.missing or base not in judged or len(judged) < 2:
        return "idle"
    return "unsure" if told.verdict.suspected or told.verdict.unjudged("regression") else "pass"


def _unfinished(told: Gathered) -> str:
    if not told.missing:
        return ""
    total = len(told.record.schedule)
    return f"Unfinished: {total - told.missing} of {total} trials were made."


def _verdict(told: Gathered) -> str:
    judged = [square for square in told.grid.squares if square.state != "grey"]
    if not told.trials:
        return "No trial is on record: nothing is judged."
    if not judged:
        alone = all(square.outcome == "not-installed" for square in told.grid.squares)
        return "None of the releases could be installed: nothing is judged." if alone else "Nothing is judged."
    base = shown(told.record.study.base)
    others = len({square.release for square in judged} - {base})
    if not others:
        green = sum(square.state == "green" for square in judged)
        return f"One release, nothing to compare with: {green} of {count(len(judged), 'task')} went well."
    found = told.verdict.regressions
    if found:
        releases = list(dict.fromkeys(shown(each.release) for each in found))
        return f"{count(len(found), 'regression')} against {base}: {listed(releases)}."
    if all(square.release != base for square in judged):
        return f"The baseline, {base}, has no trial that counts: nothing is compared."
    doubts = len(told.verdict.suspected)
    more = f", {doubts} suspected" if doubts else ""
    return f"No regression proven in {count(others, 'release')} against {base}{more}."


def _unjudged(told: Gathered) -> str:
    unjudged = [shown(title) for title in told.verdict.unjudged("regression")]
    if not unjudged or told.missing or len(unjudged) == len(told.record.study.titles):
        return ""  # said otherwise
    return f"Nothing is known of {listed(unjudged)}."


def _lies(told: Gathered) -> str:
    if not told.red:
        return ""
    judged = sum(square.state != "grey" for square in told.grid.squares)
    lies = sum(square.outcome == "lies" for square in told.red)
    lying = f", {lies} of them though the release says that all is well" if lies else ""
    return f"{len(told.red)} of {count(judged, 'cell')} {'is' if len(told.red) == 1 else 'are'} not right{lying}."


def remarks(told: Gathered) -> list[str]:
    """What a reader must know before trusting any of it."""
    found = []
    if told.simulated:
        found.append(
            "Simulated bench: no real board was touched. What is right and wrong is the release's own code against a "
            "simulated chip; times are its own and the simulated wire's."
        )
    if told.missing:
        found.append(
            f"The study was stopped, or is still going on: {count(told.missing, 'trial')} of "
            f"{len(told.record.schedule)} were not made. What is missing may be what is wrong. Go on with "
            f"rig releases --resume {shown(told.run.name)}, with the folder it is in."
        )
    spoiled = told.counts["blocked"]
    if spoiled:
        found.append(f"The bench spoiled {count(spoiled, 'trial')}: tried again, and counted nowhere.")
    for each in told.record.installed:
        if each.problem is not None:
            found.append(f"{shown(each.title)} could not be installed: {shown(each.problem)}")
    left = len(told.grid.unexplained)
    if left:
        found.append(f"{count(left, 'cell')} {'is' if left == 1 else 'are'} not green for no known reason.")
    return found


def regression_title(told: Gathered, one: Comparison) -> str:
    """Which release at what, and in which ways it is worse."""
    kinds = f" ({listed([str(kind) for kind in one.kinds])})" if one.kinds else ""
    return f"{shown(one.release)}, {title_of(told.record, one.task)}{kinds}"


def regression(told: Gathered, one: Comparison) -> str:
    """What got worse, with its numbers, and the numbers of its reasons."""
    said = one.sentence.removeprefix(f"{one.release}, {named(one.task)}: ")  # that is its title
    said = f"{shown(said[:_MOST_SAID]).rstrip('.')}."
    place = shown(one.release), one.task
    square = next((each for each in told.grid.squares if (each.release, each.task) == place), None)
    return f"{said} Why: {', '.join(map(str, square.notes))}." if square is not None and square.notes else said


def suspected(told: Gathered) -> list[tuple[str, str]]:
    """By release what is suspected, how often it was seen and how often it has to be."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in told.verdict.suspected:
        how = f"{one.fact} (seen {_times(one.confirmed_by)}, counts from {one.confirmed_at} on)"
        found.setdefault(shown(one.release), {}).setdefault(how, []).append(title_of(told.record, one.task))
    return [
        (release, ". ".join(f"{how[:1].upper()}{how[1:]}: {'; '.join(titles)}" for how, titles in ways.items()) + ".")
        for release, ways in found.items()
    ]


def task_title(told: Gathered, trial: Trial) -> str:
    return title_of(told.record, trial.task)


def comparison_rows(told: Gathered) -> list[dict[str, str]]:
    """Of every comparison of times: pairs, ratio, interval, where the difference comes from."""
    return [
        {
            "release": shown(one.release), "task": title_of(told.record, one.task), "pairs": str(one.timed_pairs),
            "ratio": f"{one.ratio:.3f}", "interval": f"{one.low:.3f} to {one.high:.3f}",
            "p": f"{one.time_q:.2g}" if one.time_q is not None else NOTHING,
            "verdict": "slower" if one.slower else "faster" if one.faster else "",
            "why": shown(one.explanation or ""),
        }
        for one in told.verdict.comparisons
        if one.ratio is not None and one.low is not None and one.high is not None
    ]  # fmt: skip


def tiles(told: Gathered) -> list[tuple[str, str, str]]:
    """Figures at a glance: name, value, more."""
    squares = list(told.grid.squares)
    judged = [square for square in squares if square.state != "grey"]
    green = sum(square.state == "green" for square in judged)
    unknown = len(told.grid.unexplained)
    doubts = len(told.verdict.suspected)
    return [
        ("Regressions", str(len(told.verdict.regressions)), f"{doubts or 'none'} suspected besides"),
        ("Right", f"{green} of {len(judged)}", f"{len(squares) - len(judged)} not judged" if squares else ""),
        ("Without a known reason", str(unknown), f"of {len(squares) - green} that are not green"),
    ]


def release_lines(told: Gathered) -> list[tuple[str, str]]:
    """What became of each release."""
    return [(shown(title), shown(line)) for title, line in told.verdict.lines.items()]


def facts(told: Gathered) -> list[tuple[str, str]]:
    """How it was measured, a line each."""
    record, study = told.record, told.record.study
    bench = shown(record.bench.get("name", record.bench.get("spec", "?")))
    kind = "simulated" if told.simulated else "real"
    boards = len({trial.board for trial in told.trials if trial.board})
    rows = [
        ("Study", f"{shown(study.name)}, {shown(record.id)}, begun {shown(record.utc)}"),
        ("Bench", f"{bench if bench == kind else f'{bench} ({kind})'}, {count(boards, 'board')}"),
        ("Trials", _trials(told)),
        ("Order", f"blocks: every release once at one task on one board, in random order (seed {study.seed})"),
        ("Could find", shown(told.verdict.plan)),
        ("False alarms", shown(told.verdict.rate)),
        ("Judged by", "the rig's own client, which reads flash back through the ROM; never by an exit code"),
    ]
    speeds = sorted({trial.speed for trial in told.trials if trial.board})
    if told.simulated and speeds:
        rows.append(("Speed", " and ".join(f"{number(speed)}×" for speed in speeds) + " real time" + _timed(told)))
    rows += [(_sentence(name), f"{shown(each.get('name', '?'))} (sha256 {shown(each.get('sha256', ''))[:_SHA]})")
             for name, each in record.images.items()]  # fmt: skip
    rig, python = record.rig.get("version", "?"), record.rig.get("python", "?")
    rows.append(("Rig", f"{shown(rig)}, Python {shown(python)}"))
    return rows


def _trials(told: Gathered) -> str:
    made = len([trial for trial in told.trials if trial.outcome not in ("blocked", "not-installed", "absent")])
    timed = len([trial for trial in told.trials if trial.timed])
    plan = len(told.record.schedule)
    repeats = _times(told.record.study.repeats)
    return f"{made} made, {timed} of them timed; {plan} planned, a task judged {repeats} or until it is sure"


def _times(repeats: int) -> str:
    return {1: "once", 2: "twice"}.get(repeats, f"{repeats} times")


def _timed(told: Gathered) -> str:
    speeds = {trial.speed for trial in told.trials if trial.timed and trial.board}
    return f", timed trials at {' and '.join(number(each) for each in sorted(speeds))}×" if speeds else ""


def _sentence(name: str) -> str:
    return shown(name[:1].upper() + name[1:])


def versions(told: Gathered) -> list[tuple[str, str, str, str]]:
    """Of each release: name, spec, what of it counts, sha256 of what was installed."""
    rows = []
    for each in told.record.installed:
        names: list[str] = [name for name in ("ltchiptool", "bk7231tools", "rig") if name in each.versions]
        names = names or sorted(each.versions)[:3]
        what = ", ".join(f"{name} {each.versions[name]}" for name in names) or "not installed"
        rows.append((shown(each.title), shown(each.spec), shown(what), shown(each.sha256)[:_SHA] or "–"))
    return rows


def count(number_of: int, what: str) -> str:
    return f"{number_of} {what}{'' if number_of == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def took(value: float) -> str:
    return f"{seconds(value)} s"
