"""Reports of studies of flasher releases: out of synthetic trials, as HTML, Markdown and JSON."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.releases import fail, write
from reports.releases.markdown import MOST, code, fenced, text
from reports.releases.wire import excerpt
from rig.errors import UsageProblem
from rig.releases.design import schedule
from rig.releases.explain import FILE, Reason, explained, load_reasons
from rig.releases.operations import load_catalogue
from rig.releases.record import Described, Installed, Record
from rig.releases.study import Study, load_study
from rig.releases.trial import OUTCOMES, Spec, Task, Trial, of
from rig.uart.trace import Command, save_json

CHROMIUM = Path("/usr/bin/chromium")
DOCS = Path(__file__).parent.parent / "docs"
BASE, NEW = "ltchiptool 4.14.4", "ltchiptool 4.15.0"
VERSIONS = {"ltchiptool": "4.15.0", "bk7231tools": "2.1.2"}
SECRET = "correct-horse-battery"
HOSTILE = (
    "<script>alert(1)</script> ![x](http://evil.example/p.png) [x](javascript:alert(1)) @octocat #1 GH-2 | a | "
    "``` \x1b[31mred\x07 \u202egnp </details></pre><img src=x onerror=alert(1)> https://evil.example "
    f"www.evil.example **b** $x$ <!-- password: {SECRET}"
)
WRITE, READ, TIMED = Task("write-small"), Task("read-part", "bad-wire"), Task("time-read", timed=True)


def record(titles: list[str], tasks: list[Task], **changed: Any) -> Record:
    given = {"repeats": 2, "pairs": 12, "seed": 1} | changed.pop("study", {})
    study = Study(name="study", releases=[{"spec": title} for title in titles], baseline=titles[0], **given)
    plan = schedule(titles, tasks, pairs=study.pairs, repeats=study.repeats, slots=["A"], seed=1) if tasks else []
    operations = [Described(name, name, f"what {name} is", "write") for name in {task.operation for task in tasks}]
    conditions = [Described(name, name, "a condition") for name in {task.condition for task in tasks}]
    made = Record(
        id="20261123-071500-ab12", utc="2026-11-23T07:15:00+00:00", study=study,
        installed=[Installed(title, title, VERSIONS, "ab" * 32, "3.11") for title in titles],
        operations=operations, conditions=conditions, schedule=plan,
        bench={"spec": "sim:2", "name": "simulated", "simulated": True},
        images={"image": {"name": "OpenBK7231N_QIO.bin", "sha256": "cd" * 32}}, rig={"version": "1", "machine": "m"},
    )  # fmt: skip
    return replace(made, **changed)


def trial(spec: Spec, **found: Any) -> Trial:
    """As it should be, but for what is `found`."""
    usual = {
        "board": "uid-1", "outcome": "correct", "why": "done and said so", "says_ok": True, "exit_code": 0,
        "seconds": 1.0, "wire_s": 0.8, "host_s": 0.1, "versions": VERSIONS, "utc": "2026-11-23T07:16:00+00:00",
    }  # fmt: skip
    return of(spec, **(usual | found))


def made(run: Path, told: Record, trials: list[Trial]) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    told.write(run)
    (run / "trials.jsonl").write_text("".join(f"{each.to_json()}\n" for each in trials), encoding="utf-8")
    return run


def pages(run: Path, against: Path | None = None) -> tuple[str, str, dict[str, Any]]:
    page = write(run, against)
    markdown = (page.parent / "verdict.md").read_text(encoding="utf-8")
    return page.read_text(encoding="utf-8"), markdown, json.loads((page.parent / "verdict.json").read_text())


def wrong(spec: Spec, **found: Any) -> Trial:
    usual = {
        "outcome": "wrong", "why": "says 'no'; flash is untouched", "says_ok": False, "exit_code": 1,
        "tail": ["E: no"], "commands": {"erase": 3, "read-sr": 1}, "retries": 2,
    }  # fmt: skip
    return trial(spec, **(usual | found))


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    """The new release fails a write each time and reads 12 % slower, with more time between commands."""
    told = record([BASE, NEW], [WRITE, READ, TIMED])
    trials = []
    for spec in told.schedule:
        slow = 1.12 if spec.release == NEW else 1.0
        jitter = 1 + 0.004 * (spec.block % 5)
        each = trial(spec, host_s=0.1 * jitter + 0.9 * (slow - 1), commands={"read-4k": 16})
        if spec.release == NEW and spec.task == WRITE:
            each = wrong(spec, trace=f"traces/{spec.n}.jsonl")
        trials.append(each)
    run = made(tmp_path / "worse", told, trials)
    begun = 5_000_000_000
    commands = [Command("link-check", None, begun, begun + 10, begun + 20, begun + 30, 5, 8, answered=True)]
    for at in range(60):
        moment = begun + (at + 1) * 50_000_000
        commands.append(
            Command("erase", 0x220000 + at * 0x1000, moment, moment + 100, moment + 200, moment + 300, 13, 16,
                    baud=921600, answered=at != 59, damage="drop:host:erase:60" if at == 59 else None)
        )  # fmt: skip
    for each in trials:
        if each.trace is not None:
            save_json(run / each.trace, commands)
    return run


# -- what it says ---------------------------------------------------------------------------------------------------


def test_a_regression_is_told_first_with_numbers_and_reason(worse: Path) -> None:
    page, markdown, found = pages(worse)
    first = markdown.splitlines()[0]
    assert first.startswith("### ❌ 2 regressions against ltchiptool 4.14.4: ltchiptool 4.15.0.")
    assert "(in fact)" in markdown
    assert "2 of 2 times, ltchiptool 4.14.4 never: says 'no'; flash is untouched. Why: 1." in markdown
    percent = r"\d+\.\d%"
    slower = rf"time-read \(slower\)\*\*: is 1[0-4]\.\d% slower \(\+{percent} to \+{percent}, 12 pairs\)"
    assert re.search(slower, markdown)
    assert found["state"] == "fail"
    assert [each["operation"] for each in found["regressions"]] == ["write-small", "time-read"]
    assert fail(worse, "regression")
    assert "2 regressions against" in page
    assert "0.05" in json.dumps(found["alpha"])


def test_the_matrix_has_words_beside_colour(worse: Path) -> None:
    page, markdown, _ = pages(worse)
    row = next(line for line in markdown.splitlines() if line.startswith("| write-small"))
    assert row == "| write-small | ✓ | ✗ wrong <sup>1</sup> |"
    assert '<td class="red" title="2 wrong">' in page
    assert "✗ wrong" in page


def test_what_has_no_known_reason_is_said_with_what_the_wire_shows(worse: Path) -> None:
    _, markdown, found = pages(worse)
    wire = "On the wire: 3 erase, 1 read-sr; 2 of them repeated"
    assert f"1. *No known reason:* says 'no'; flash is untouched. {wire}" in markdown
    assert found["unexplained"] == 1


def test_the_first_wrong_run_is_there_with_its_wire(worse: Path) -> None:
    page, markdown, _ = pages(worse)
    assert "<summary>The first wrong run: ltchiptool 4.15.0, write-small</summary>" in markdown
    excerpt_ = markdown.split("```text\n")[2].split("\n```")[0].splitlines()
    assert "link-check" in excerpt_[0]
    assert "erase 0x220000 to 0x25a000, 59 in a row, all answered" in excerpt_[1]
    assert "damaged by the study: drop:host:erase:60" in excerpt_[2]
    assert "59 in a row" in page


def test_the_first_wrong_run_is_a_regressions_if_there_is_one(tmp_path: Path) -> None:
    told = record([BASE, NEW], [WRITE, READ])
    bad = {WRITE: (BASE, NEW), READ: (NEW,)}  # what both do wrong is tried before what only the new one does
    trials = [wrong(spec) if spec.release in bad[spec.task] else trial(spec) for spec in told.schedule]
    _, markdown, _ = pages(made(tmp_path / "r", told, trials))
    assert "The first wrong run: ltchiptool 4.15.0, read-part, bad-wire" in markdown
    assert "No trace of it was kept." in markdown


def test_how_it_was_measured_is_told(worse: Path) -> None:
    _, markdown, _ = pages(worse)
    assert "> Simulated bench: no real board was touched." in markdown
    assert "OpenBK7231N\\_QIO" in markdown or "OpenBK7231N_QIO" in markdown
    assert "raises any alarm in 5%" in markdown
    assert "ltchiptool 4.15.0, bk7231tools 2.1.2 | `abababababab` |" in markdown


def test_a_real_bench_is_not_called_simulated(tmp_path: Path) -> None:
    told = record([BASE, NEW], [WRITE], bench={"spec": "bench.toml", "name": "desk", "simulated": False})
    page, markdown, found = pages(made(tmp_path / "r", told, [trial(spec) for spec in told.schedule]))
    assert "Simulated bench" not in markdown + page
    assert "desk (real)" in markdown
    assert found["state"] == "pass"
    assert markdown.startswith("### ✅ No regression")


# -- studies that are not whole -------------------------------------------------------------------------------------


def test_an_empty_study(tmp_path: Path) -> None:
    run = made(tmp_path / "r", record([BASE, NEW], []), [])
    page, markdown, found = pages(run)
    assert markdown.startswith("### ❔ No trial is on record: nothing is judged.")
    assert found["state"] == "idle"
    assert "The study asks nothing" in page
    assert fail(run, "wrong")  # nobody knows


def test_one_release_is_compared_with_nothing(tmp_path: Path) -> None:
    told = record([BASE], [WRITE, READ])
    _, markdown, found = pages(made(tmp_path / "r", told, [trial(spec) for spec in told.schedule]))
    assert markdown.startswith("### ❔ One release, nothing to compare with: 2 of 2 tasks went well.")
    assert found["state"] == "idle"


def test_releases_that_cannot_be_installed_are_columns(tmp_path: Path) -> None:
    why = "the package index has no ltchiptool 4.99"
    told = record([BASE, NEW], [WRITE])
    told = replace(told, installed=[replace(each, problem=why) for each in told.installed])
    trials = [of(spec, board="", outcome="not-installed", why=why) for spec in told.schedule]
    page, markdown, found = pages(made(tmp_path / "r", told, trials))
    assert markdown.startswith("### ❔ None of the releases could be installed: nothing is judged.")
    assert "| write-small | ∅ not installed <sup>1</sup> | ∅ not installed <sup>1</sup> |" in markdown
    assert f"1. {why}" in markdown
    assert found["state"] == "idle"
    assert why in page


def test_a_study_that_was_stopped_says_so(tmp_path: Path) -> None:
    told = record([BASE, NEW], [WRITE, READ])
    run = made(tmp_path / "r", told, [trial(spec) for spec in told.schedule[:3]])
    page, markdown, found = pages(run)
    assert markdown.startswith("### ❔ Unfinished: 3 of 8 trials were made.")
    assert f"rig releases --resume {run.name}" in page
    assert (found["complete"], found["missing"]) == (False, 5)
    assert "? not made" in page + markdown
    assert (tmp_path / "r").as_posix() not in markdown  # whoever reads a comment need not know this machine


def test_what_was_never_tried_is_a_sentence_not_rows(tmp_path: Path) -> None:
    told = record([BASE, NEW], [WRITE, READ], study={"repeats": 1})
    _, markdown, _ = pages(made(tmp_path / "r", told, [trial(spec) for spec in told.schedule[:2]]))
    assert "Not tried at all: read-part, bad-wire." in markdown
    assert "1 more went well in every release: write-small." in markdown


def test_a_stranger_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no run of rig releases"):
        write(tmp_path)


def test_fail_on(worse: Path, tmp_path: Path) -> None:
    told = record([BASE, NEW], [WRITE])
    lying = [wrong(spec, outcome="lies") if spec.release == BASE else trial(spec) for spec in told.schedule]
    run = made(tmp_path / "r", told, lying)
    assert [fail(run, word) for word in ("regression", "wrong", "lies", None)] == [False, True, True, False]
    assert [fail(worse, word) for word in ("regression", "wrong", "lies")] == [True, True, False]
    with pytest.raises(UsageProblem):
        fail(run, "sometimes")  # type: ignore[arg-type]


# -- against another run --------------------------------------------------------------------------------------------


def test_what_changed_since_another_run(worse: Path, tmp_path: Path) -> None:
    told = record([BASE, NEW], [WRITE, READ, TIMED], id="20261101-000000-0000")
    told = replace(told, installed=[told.installed[0], replace(told.installed[1], sha256="ff" * 32)])
    before = made(tmp_path / "before", told, [trial(spec) for spec in told.schedule])
    page, markdown, found = pages(worse, before)
    assert "- ltchiptool 4.15.0, write-small: was ✓, is **✗ wrong**" in markdown
    assert "ltchiptool 4.15.0 is not the same files as then." in markdown
    assert "5 cells of the matrix are as then." in markdown
    assert [each["better"] for each in found["against"]["changed"]] == [False]
    assert "Since 20261101-000000-0000" in page
    _, _, back = pages(before, worse)
    assert [each["better"] for each in back["against"]["changed"]] == [True]


# -- what comes out of tools ----------------------------------------------------------------------------------------

# What the rig itself writes; whatever else there is came out of a tool.
OUR_TAGS = {"details", "summary", "sup", "h3", "h4", "p", "blockquote", "ul", "ol", "li", "table", "thead", "tbody",
            "tr", "th", "td", "pre", "code", "strong", "em", "br"}  # fmt: skip


class Tags(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data


def rendered(markdown: str) -> str:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    titles = [BASE, HOSTILE[:180]]
    told = record(titles, [WRITE], operations=[Described("write-small", HOSTILE, HOSTILE, HOSTILE)])
    told = replace(told, installed=[replace(each, versions={HOSTILE: HOSTILE}) for each in told.installed])
    bad = {"why": HOSTILE, "tail": [HOSTILE, "```", "~~~"], "trace": "traces/1.jsonl"}
    trials = [wrong(spec, **bad) for spec in told.schedule]
    run = made(tmp_path / "hostile", told, trials)
    (run / "traces").mkdir()
    line = {"name": HOSTILE, "begun_ns": 1, "size": 5, "refused": HOSTILE, "damage": HOSTILE}
    (run / "traces" / "1.jsonl").write_text(f"{json.dumps(line)}\nnonsense\n{{}}\n[1]\n", encoding="utf-8")
    return run


def test_nothing_out_of_a_tool_becomes_markup(hostile: Path) -> None:
    page, markdown, found = pages(hostile)
    for whole in (page, markdown, json.dumps(found)):
        assert SECRET not in whole
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", whole)
    html = Tags(page)
    assert not html.found & {"script", "img", "iframe", "object"}
    assert not {name for name in html.attributes if name.startswith("on")}
    assert "<script>alert(1)" in html.words  # shown, as text
    tags = Tags(rendered(markdown))
    assert tags.found <= OUR_TAGS
    outside = re.sub("<pre>.*?</pre>", "", rendered(markdown), flags=re.DOTALL)
    assert "://evil" not in outside  # no link to be made of it
    assert "@octocat" not in outside


@pytest.mark.parametrize("mention", ["@octocat", "#12", "GH-3", "https://evil.example", "www.evil.example"])
def test_nobody_is_mentioned_and_nothing_linked(mention: str) -> None:
    assert mention not in text(f"see {mention} there")


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.text(st.sampled_from("ab `*_[]()<>|\\#@&!~\n\x1b$:/-")))
def test_any_text_stays_text(words: str) -> None:
    assert Tags(rendered(f"x {text(words)} x")).found <= {"p"}
    span = Tags(rendered(f"x {code(words or 'a')} x")).found
    assert span <= {"p", "code"}
    block = rendered(fenced(words) + "\n\nbehind")
    assert block.endswith("<p>behind</p>\n")
    row = rendered(f"| a | b |\n| --- | --- |\n| {text(words)} | {code(words or 'a')} |")
    assert row.count("<td>") == 2


def test_markdown_is_never_too_long(tmp_path: Path) -> None:
    titles = [f"release {number} " + "x" * 150 for number in range(6)]
    tasks = [Task(f"operation-{number}-" + "y" * 60) for number in range(30)]
    told = record(titles, tasks, study={"repeats": 1})
    trials = [wrong(spec, why=f"{spec.n} " + "z" * 600, tail=["t" * 300] * 12) for spec in told.schedule]
    page, markdown, _ = pages(made(tmp_path / "r", told, trials))
    assert len(markdown) < MOST
    assert "index.html" in markdown
    assert markdown.startswith("### ")
    assert "How it was measured" in markdown
    assert "operation-29" in page


def test_a_trace_outside_the_run_is_not_read(tmp_path: Path, worse: Path) -> None:
    spec = record([BASE], [WRITE]).schedule[0]
    outside = tmp_path / "outside.jsonl"
    save_json(outside, [Command("erase", 0, 1, size=5)])
    assert excerpt(worse, trial(spec, trace="../outside.jsonl")) is None
    assert excerpt(worse, trial(spec, trace=str(outside))) is None


# -- known reasons --------------------------------------------------------------------------------------------------


def seen(operation: str, condition: str = "normal", **found: Any) -> Trial:
    return wrong(Spec(1, NEW, operation, condition, 921600, 1, 1, "A"), **found)


KNOWN = {
    "UF2": seen("uf2-unaligned", why="says 'ValueError: Writing failed; wrote only 0 bytes'; flash is not",
                commands={"erase": 1, "write-256": 1}, differing=[(0x11000, 0x1000)]),
    "wrong chip": seen("wrong-chip", why="took what it has to refuse", commands={"write-4k": 200},
                       differing=[(0x11000, 0x119000)], exit_code=0),
    "time-out": seen("no-board", outcome="lies", exit_code=0, versions={"bk7231tools": "2.1.2"},
                     tail=["TimeoutError: Timed out attempting to link with chip"]),
    "truncated": seen("crc-mismatch", why="says 'ValueError: Chip CRC'; the file has 28672 of 262144 bytes"),
    "short read": seen("read-unaligned", outcome="lies", why="says done, but the file has 4224 of 4660 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_wrongs_are_explained_by_what_was_seen(name: str) -> None:
    known = KNOWN[name]
    reasons = explained(known, [known])
    assert len(reasons) == 1
    assert re.search(r"\((code|wire|code, wire)\)$", reasons[0])
    assert explained(known, [replace(known, versions={"rig": "1"})]) == []  # another tool
    assert explained(known, [replace(known, outcome="hangs")]) == []  # another outcome: a reason of its own
    assert explained(known, [replace(known, why="something else", tail=[], commands={}, exit_code=3)]) == []


def test_a_reason_is_of_its_versions_only() -> None:
    old = seen("write-small", "protected-cmp", why="says 'Erase failed - flash protected'; flash is untouched")
    assert explained(old, [replace(old, versions={"ltchiptool": "4.11.2", "bk7231tools": "2.0.2"})])
    assert not explained(old, [replace(old, versions={"ltchiptool": "4.11.2", "bk7231tools": "2.1"})])


def test_a_release_that_could_not_be_installed_stands_in_the_first_line(tmp_path: Path) -> None:
    third = "ltchiptool 4.99"
    told = record([BASE, NEW, third], [WRITE])
    trials = [trial(spec) for spec in told.schedule]
    trials = [replace(one, outcome="not-installed", why="gone") if one.release == third else one for one in trials]
    _, markdown, found = pages(made(tmp_path / "r", told, trials))
    first = markdown.splitlines()[0]
    assert f"No regression proven in 1 release against {BASE}. Nothing is known of {third}." in first
    assert found["state"] == "unsure"
    assert found["unjudged"] == [third]


def test_each_reason_once_and_none_for_what_is_right() -> None:
    one = KNOWN["short read"]
    assert len(explained(one, [one, replace(one, n=2)])) == 1
    for outcome in ("correct", "refuses", "blocked"):
        assert explained(one, [replace(one, outcome=outcome)]) == []
    elsewhere = replace(one, condition="blank")
    assert explained(one, [elsewhere]) == []
    gone = replace(one, outcome="not-installed", why="no such release")
    assert explained(gone, [gone]) == ["no such release"]


def test_reasons_are_of_operations_and_conditions_there_are() -> None:
    catalogue = load_catalogue()
    for reason in load_reasons().reason:
        for name in reason.operations:
            catalogue.of(name)
        for name in reason.conditions:
            catalogue.under(name)
        assert set(reason.outcomes) <= set(OUTCOMES)
        assert reason.why or reason.says or reason.commands or reason.exit_code is not None or (
            "absent" in reason.outcomes or reason.conditions
        ), f"{reason.text}: nothing seen is asked for"  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('why = ["("]', "is no pattern"),
        ('when = "ltchiptool~4"', "neither NAME<VERSION"),
        ('outcomes = ["correct"]', "not as it has to be"),
        ('commands = { erase = "some" }', "is no count"),
        ('reeason = "x"', "unknown key"),
    ],
)
def test_a_mistake_in_the_reasons_is_one_sentence(tmp_path: Path, line: str, said: str) -> None:
    key = line.split(" ")[0]
    lines = {"text": 'text = "long enough text"', "source": 'source = ["code"]', "outcomes": 'outcomes = ["wrong"]'}
    file = tmp_path / "reasons.toml"
    file.write_text("[[reason]]\n" + "\n".join((lines | {key: line}).values()) + "\n")
    with pytest.raises(UsageProblem, match=said) as problem:
        load_reasons(file)
    assert "\n" not in str(problem.value)


def test_the_reasons_file_is_shipped_beside_its_module() -> None:
    assert FILE.is_file()
    assert all(isinstance(each, Reason) for each in load_reasons().reason)


# -- what the docs show ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "begin", "end"), [
    ("release-studies.md", "```toml\n", "```"), ("ci/flasher-study.yml", "cat > study.toml <<END\n", "END\n"),
])  # fmt: skip
def test_study_files_in_the_docs_are_study_files(file: str, begin: str, end: str, tmp_path: Path) -> None:
    parts = (DOCS / file).read_text(encoding="utf-8").split(begin)[1:]
    assert parts
    for part in parts:
        told = textwrap.dedent(part.partition(end)[0].rstrip(" "))
        told = told.replace("$SPEC", "./flasher").replace("$BASELINE", "git+https://h/p@1")
        (tmp_path / "study.toml").write_text(told)
        study = load_study(tmp_path / "study.toml")
        assert load_catalogue().tasks(study)
        assert len(study.releases) == 2


def test_the_docs_name_every_operation() -> None:
    told = (DOCS / "release-studies.md").read_text(encoding="utf-8")
    assert [each.id for each in load_catalogue().operation if f"`{each.id}`" not in told] == []


# -- in a browser ---------------------------------------------------------------------------------------------------


def test_the_page_opens_offline(worse: Path, hostile: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            tab = browser.new_context(offline=True, viewport={"width": 900, "height": 900}).new_page()
            said: list[str] = []
            asked: list[str] = []
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda problem: said.append(str(problem)))
            tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
            tab.on("request", lambda request: asked.append(request.url))
            for run in (hostile, worse):
                tab.goto(write(run).as_uri())
            assert said == []
            assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
            tab.click("td.red a")
            assert tab.locator("details.trace").first.is_visible()
            assert tab.locator("svg.plot").count() == 1
            wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0
        finally:
            browser.close()
