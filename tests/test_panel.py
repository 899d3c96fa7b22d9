"""The page in a real browser: Debian's Chromium, driven by playwright. Nothing here may print to its console."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.panel_station import STEPS, FakeStation
from tests.sim_process import start_rig
from tests.waiting import until

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if not CHROMIUM.exists():
    pytest.skip(f"there is no {CHROMIUM}", allow_module_level=True)

expect = playwright.expect
expect.set_options(timeout=60_000)  # how long a failure takes, on a machine with much else to do
RUN = "20261122-171500-ab12"
TOKEN = "correct-horse-battery-staple"


class Panel:
    """`rig panel` as a person would start it."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.folder = folder
        self.options = options
        self.process = self._start(port)
        line = self.process.stdout.readline() if self.process.stdout else ""
        found = re.search(r"(https?://\S+:(\d+))/", line)
        assert found, line + (self.process.communicate(timeout=10)[0] or "")
        self.url, self.port = found[1], int(found[2])

    def _start(self, port: int) -> subprocess.Popen[str]:
        return start_rig("panel", "--out", self.folder / "runs", "--port", str(port), *self.options, cwd=self.folder)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        left = self.process.stdout.read()
        self.process.stdout.close()
        assert "Traceback" not in left, left
        return code


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("panel")


@pytest.fixture(scope="module")
def panel(folder: Path) -> Iterator[Panel]:
    """One server for all: each test's station is a newer run than the one before."""
    (folder / "runs").mkdir()
    server = Panel(folder)
    yield server
    server.stop()


@pytest.fixture
def station(folder: Path, panel: Panel, request: pytest.FixtureRequest) -> Iterator[FakeStation]:
    number = len(list((folder / "runs").iterdir()))
    made = FakeStation(folder / "runs", run=f"20261122-{171500 + number}-ab12", slots="ABCDEFGH", units=8)
    for slot in "ABCDEFGH":
        made.wait_scan(slot)
    yield made
    if not made.control._closing:
        made.close()


@pytest.fixture
def page(chromium: Any, panel: Panel) -> Iterator[Any]:
    """A tab at a desk; whatever its console says fails the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(60_000)
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda problem: said.append(str(problem)))
    tab.said = said
    yield tab
    context.close()
    assert said == []


def opened(page: Any, panel: Panel, path: str = "/") -> Any:
    page.goto(panel.url + path)
    return ready(page)


def ready(page: Any) -> Any:
    """Connected, and its scan field settled."""
    expect(page.locator("#link")).to_have_text("Connected")
    expect(page.locator("#scan")).to_have_attribute("data-ready", "yes")
    return page


def tile(page: Any, slot: str) -> Any:
    return page.get_by_role("region", name=f"Slot {slot}", exact=True)


def scan(page: Any, text: str) -> None:
    """As a scanner does: keys and Enter, wherever the focus is."""
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def test_a_batch_of_eight_from_scan_to_result(page: Any, panel: Panel, station: FakeStation) -> None:
    opened(page, panel)
    expect(page.locator("#scan-text")).to_be_focused()
    for number, slot in enumerate("ABCDEFGH", start=1):
        scan(page, f"SN{number}")
        expect(tile(page, slot).locator(".serial")).to_have_text(f"SN{number}")
        expect(tile(page, slot).locator(".step")).to_contain_text("identify")
    assert [command["text"] for command in station.commands] == [f"SN{number}" for number in range(1, 9)]
    expect(page.locator("#counters")).to_contain_text(re.compile(r"Running\s*8"))

    station.power("B", [(at / 20, 3.3 - at / 5000, at / 1000) for at in range(200)])
    station.log("B", "Info:MAIN:Boot\nUsing Pass [hunter2hunter2]\n")
    station.until("B", "backup", 1 << 20, 2 << 20)
    expect(tile(page, "B").locator(".step")).to_contain_text("backup")
    expect(tile(page, "B").get_by_role("progressbar")).to_have_attribute("value", "50")
    expect(tile(page, "B").locator(".amps")).to_contain_text("199 mA")
    expect(tile(page, "B").locator(".volts path.line")).to_have_attribute("d", re.compile("^M0.0 .+L300.0 "))
    expect(tile(page, "B").locator(".log")).to_contain_text("Using Pass [***]")

    for slot in "ACDEFG":
        station.end(slot, "pass")
    station.end("B", "fail", "no-link", "it draws 31 mA and never answered a link check")
    station.end("H", "blocked", "weak-supply", "the rail sagged to 2.4 V")
    for slot in "ACDEFG":
        expect(tile(page, slot).locator(".verdict")).to_have_text("PASS")
    expect(tile(page, "B").locator(".verdict")).to_have_text("FAIL")
    expect(tile(page, "B").locator(".why")).to_contain_text("It draws 31 mA and never answered a link check")
    expect(tile(page, "B").locator(".do")).to_contain_text("Check TX and RX")
    expect(tile(page, "H").locator(".verdict")).to_have_text("BLOCKED")
    expect(page.locator("#counters")).to_contain_text(re.compile(r"First-pass yield\s*85.7 %\s*6 of 7"))
    expect(page.locator("#counters")).to_contain_text(re.compile(r"Remaining\s*0\s*of 8"))
    expect(page.locator("#history tbody tr")).to_have_count(8)
    expect(page.locator("#scan-text")).to_be_focused()

    station.begin("A", "SN9")  # latched until the next unit
    expect(tile(page, "A").locator(".verdict")).to_have_count(0)
    expect(tile(page, "C").locator(".verdict")).to_have_text("PASS")

    page.locator("#history").get_by_role("link", name="SN2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("SN2")
    expect(page.locator("main")).to_contain_text("Check TX and RX")


def test_a_scan_that_began_before_the_page_was_there_is_no_unit(
    page: Any, panel: Panel, station: FakeStation
) -> None:
    page.goto(panel.url)
    first_moment = "delete byId('scan').dataset.ready; settle();"  # again, however slow this machine is
    page.evaluate(f"{first_moment} scanText.value = 'N123'; byId('scan').requestSubmit()")
    expect(page.locator("#answer")).to_contain_text("scan it again")
    scan(ready(page), "SN123")
    expect(tile(page, "A").locator(".serial")).to_have_text("SN123")
    assert [command["text"] for command in station.commands] == ["SN123"]


def test_a_refused_scan_is_said_and_the_field_is_ready_again(page: Any, panel: Panel, station: FakeStation) -> None:
    opened(page, panel)
    scan(page, "SN1")
    expect(page.locator("#answer")).to_have_text("SN1 taken for slot A.")
    scan(page, "SN1")
    expect(page.locator("#answer")).to_have_text("SN1 was worked on in this run already: it is on record")
    expect(page.locator("#scan-text")).to_have_value("")
    scan(page, "slot:D")
    scan(page, "SN2")
    expect(tile(page, "D").locator(".serial")).to_have_text("SN2")
    scan(page, "badge:M. Fischer")
    expect(page.locator("#facts")).to_contain_text("Operator M. Fischer")
    page.locator("h1").click()  # nowhere in particular
    expect(page.locator("#scan-text")).to_be_focused()
    tile(page, "D").get_by_role("link", name="Evidence").focus()
    scan(page, "SN3")
    expect(tile(page, "B").locator(".serial")).to_have_text("SN3")


def test_abort_asks_first_and_a_scan_cannot_say_yes(page: Any, panel: Panel, station: FakeStation) -> None:
    for slot, unit in (("A", "SN1"), ("B", "SN2")):
        station.begin(slot, unit)
        station.until(slot, "flash", 1, 2, "write")
    opened(page, panel)
    dialog = page.get_by_role("dialog")
    tile(page, "A").get_by_role("button", name="Abort").click()
    expect(dialog).to_contain_text("Abort unit SN1 in slot A?")
    expect(dialog).to_contain_text("This board is being written")
    scan(page, "SN7")
    expect(dialog).to_be_hidden()
    assert station.commands == []
    tile(page, "A").get_by_role("button", name="Abort").click()
    dialog.get_by_role("button", name="Abort this unit").click()
    expect(tile(page, "A").locator(".verdict")).to_have_text("ABORTED")
    expect(tile(page, "B").locator(".step")).to_contain_text("flash")
    page.get_by_role("button", name="Stop the run").click()
    dialog.get_by_role("button", name="Stop the run").click()
    expect(page.locator("#banners")).to_contain_text("Stopping.")
    assert station.commands == [{"do": "abort", "slot": "A"}, {"do": "abort"}]


def test_prompts_with_a_picture_buttons_and_the_answer_of_nobody(
    page: Any, panel: Panel, station: FakeStation, tmp_path: Path
) -> None:
    picture = tmp_path / "jig.png"
    page.set_content("<p>Jig</p>")
    picture.write_bytes(page.screenshot())
    station.ask("load", "Put unit SN2 into jig B", "B", unit="SN2", picture=str(picture), headless="skip")
    station.ask("approve", "First article: is it good?", "A", ("yes", "no"))
    opened(page, panel)
    first = page.get_by_role("region", name="Question p1")
    expect(first).to_contain_text("Put unit SN2 into jig B")
    expect(first).to_contain_text("Where nobody answers, the answer is “skip”")
    assert until(lambda: first.locator("img").evaluate("image => image.naturalWidth") > 0)
    first.get_by_role("button", name="The board is in").click()
    expect(first).to_have_count(0)
    page.get_by_role("button", name="no", exact=True).click()
    expect(page.locator("#prompts section")).to_have_count(0)
    assert [(each["prompt"], each["answer"]) for each in station.commands] == [("p1", "done"), ("p2", "no")]
    expect(page.locator("#scan-text")).to_be_focused()


def test_a_stopped_line_and_a_slot_that_is_out_are_released_by_somebody(
    page: Any, panel: Panel, station: FakeStation
) -> None:
    station.begin("C", "SN1")
    station.end("C", "blocked", "no-current", "the slot draws 0.1 mA")
    station.live.slot("C", state="out")
    station.changed(state="stopped-line", why="3 units failed in a row", operator="M. Fischer")
    opened(page, panel)
    expect(page.locator("#banners")).to_contain_text("The line has stopped. 3 units failed in a row")
    expect(tile(page, "C")).to_contain_text("OUT OF USE")
    expect(tile(page, "C")).to_contain_text("BLOCKED")
    page.get_by_role("button", name="Let the line go on").click()
    page.get_by_role("dialog").get_by_label("Who").fill("K. Berg")
    page.get_by_role("dialog").get_by_role("button", name="Go on").click()
    expect(page.locator("#banners")).not_to_contain_text("stopped")
    tile(page, "C").get_by_role("button", name="Use again").click()
    page.get_by_role("dialog").get_by_role("button", name="Use it again").click()
    expect(tile(page, "C")).not_to_contain_text("OUT OF USE")
    assert station.commands == [
        {"do": "release-line", "who": "K. Berg"}, {"do": "release", "slot": "C", "who": "M. Fischer"},
    ]  # fmt: skip


def test_with_keys_alone(page: Any, panel: Panel, station: FakeStation) -> None:
    station.begin("A", "SN1")
    station.until("A", "identify")
    station.ask("load", "Put unit SN2 into jig B", "B", unit="SN2")
    opened(page, panel)
    scan(page, "SN5")
    expect(tile(page, "B").locator(".serial")).to_have_text("SN5")

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()").startswith(name):
                return
        raise AssertionError(f"no way to {name} by Tab")

    tab_to("The board is in")
    page.keyboard.press("Space")
    expect(page.locator("#prompts section")).to_have_count(0)
    expect(page.locator("#scan-text")).to_be_focused()
    tab_to("Abort")
    station.until("A", "backup", 1, 2)  # what changes meanwhile does not take the focus away
    expect(tile(page, "A").locator(".step")).to_contain_text("backup")
    assert page.evaluate("document.activeElement.id") == "abort-A"
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(tile(page, "A").locator(".verdict")).to_have_text("ABORTED")
    tab_to("Evidence")
    page.keyboard.press("Escape")
    expect(page.locator("#scan-text")).to_be_focused()
    tab_to("Evidence")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("SN1")


def test_the_server_restarts_and_six_pages_change_nothing(chromium: Any, folder: Path, station: FakeStation) -> None:
    server = Panel(folder)
    context = chromium.new_context()
    context.set_default_timeout(60_000)
    pages = [opened(context.new_page(), server) for _ in range(6)]
    station.begin("A", "SN1")
    for page in pages:
        expect(tile(page, "A").locator(".serial")).to_have_text("SN1")
    scan(pages[0], "SN1")  # a browser has six connections to one server, and each of the six listens on one
    expect(pages[0].locator("#answer")).to_contain_text("already")
    station.live._write()  # what its thread may not have written yet: it changes nothing by itself from here on
    before = sorted((path, path.stat().st_mtime_ns) for path in station.folder.path.rglob("*"))
    server.stop(signal.SIGKILL)
    for page in pages:
        expect(page.locator("#link")).to_contain_text("Connection lost")
    scan(pages[0], "SN2")
    expect(pages[0].locator("#answer")).to_contain_text("does not answer")
    assert before == sorted((path, path.stat().st_mtime_ns) for path in station.folder.path.rglob("*"))
    station.until("A", "backup", 1, 2)
    station.end("A", "pass")
    again = Panel(folder, port=server.port)
    for page in pages:
        expect(page.locator("#link")).to_have_text("Connected")
        expect(tile(page, "A").locator(".verdict")).to_have_text("PASS")
    context.close()
    assert len(station.commands) == 1
    again.stop()


def test_a_station_that_dies_is_said_and_the_next_run_shows_by_itself(
    page: Any, panel: Panel, station: FakeStation, folder: Path
) -> None:
    station.begin("A", "SN1")
    station.until("A", "flash", 1, 2, "write")
    opened(page, panel)
    expect(tile(page, "A").locator(".step")).to_contain_text("flash")
    station.die()
    expect(page.locator("#banners")).to_contain_text("The station of this run is gone.")
    expect(page.locator("#banners")).to_contain_text("--resume")
    expect(tile(page, "A").locator(".verdict")).to_have_text("UNVERIFIED")
    with FakeStation(folder / "runs", run="20261123-000000-cd34", slots="X") as newer:
        newer.begin("X", "SN9")
        expect(tile(page, "X").locator(".serial")).to_have_text("SN9")


def test_a_unit_page_runs_its_script_in_a_box(page: Any, panel: Panel, station: FakeStation) -> None:
    station.begin("A", "SN1")
    evil = "fetch('/runs').then(() => document.title = 'reached', () => document.title = 'kept out')"
    (station.folder.unit_dir("SN1", 1) / "unit.html").write_text(f"<title>…</title><script>{evil}</script>")
    page.goto(f"{panel.url}/runs/{station.folder.id}/attempts/1/page")
    expect(page).to_have_title("kept out")
    assert page.evaluate("origin") == "null"
    page.goto("about:blank")  # nothing of that page is still to come
    page.said.clear()  # the browser says what it refused


def test_login_in_the_browser(chromium: Any, folder: Path, station: FakeStation) -> None:
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    server = Panel(folder, "--token-file", str(token))
    context = chromium.new_context()
    page = context.new_page()
    page.goto(server.url)
    page.get_by_label("Token").fill("a wrong one, but long")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the token.")
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    scan(ready(page), "SN1")
    expect(tile(page, "A").locator(".serial")).to_have_text("SN1")
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    context.close()
    server.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_issue(chromium: Any, panel: Panel, station: FakeStation, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    everything(station)
    context = chromium.new_context(viewport={"width": 820, "height": 1180}, color_scheme=scheme)
    page = context.new_page()
    paths = ["/"]
    paths += [f"/runs/{station.folder.id}{more}" for more in ("", "/attempts/2")] if scheme == "light" else []
    paths += ["/runs", "/login"] if scheme == "light" else []
    for path in paths:
        page.goto(panel.url + path)
        if path == "/":
            expect(page.locator("#link")).to_have_text("Connected")
        found = axe.run(page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        told = [(each["id"], [node["html"][:150] for node in each["nodes"]][:3]) for each in serious]
        assert told == [], f"{path} in {scheme}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than a tablet"
    page.goto(panel.url)
    tile(page, "A").get_by_role("button", name="Abort").click()
    found = axe.run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    context.close()


def everything(station: FakeStation) -> None:
    """Every state and outcome at once."""
    samples = [(at / 20, 3.3, 0.05 + at % 7 / 100) for at in range(300)]
    ends = (("B", "fail", "no-link"), ("C", "blocked", "weak-supply"), ("D", "marginal", None), ("E", "pass", None),
            ("F", "unverified", "half-written"), ("G", "aborted", None))  # fmt: skip
    station.begin("A", "SN-A")
    station.power("A", samples)
    station.log("A", "Info:MAIN:Boot\n" * 5)
    station.until("A", "flash", 1 << 20, 2 << 20, "write")
    for slot, outcome, code in ends:
        station.begin(slot, f"SN-{slot}")
        station.power(slot, samples)
        station.until(slot, STEPS[5])
        station.end(slot, outcome, code, "what happened here, in a sentence" if code else None)
    station.live.slot("C", state="out")
    station.ask("load", "Put unit SN-H into jig H", "H", unit="SN-H", headless="skip")
    station.ask("approve", "Is the first unit good?", "E", ("yes", "no"))
    station.changed(state="stopped-line", why="3 units failed in a row", operator="M. Fischer")
