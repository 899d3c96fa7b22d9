"""The report's pages in a real browser: Debian's Chromium, from the disk, with and without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_reports_page import sixty

import reports

CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if not CHROMIUM.exists():
    pytest.skip(f"there is no {CHROMIUM}", allow_module_level=True)

expect = playwright.expect
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index over two batches, and their pages."""
    folder = tmp_path_factory.mktemp("browser")
    sixty(folder / "runs" / "run-1", batch="B1")
    sixty(folder / "runs" / "run-2", batch="B2")
    return reports.write_index([folder / "runs"], folder / "report").parent


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A tab; what its console says and what it asks of anything but the disk fails the test."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(60_000)
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda problem: said.append(str(problem)))
    tab.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else said.append(asked.url))
    yield tab
    context.close()
    assert said == []


def batch_of(out: Path) -> str:
    return (out / "batches" / "ds-121-B1" / "index.html").as_uri()


def test_links_lead_from_the_index_to_the_units_behind_a_number(page: Any, out: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((out / "index.html").as_uri())
    page.get_by_role("link", name="B1").click()
    assert len([url for url in asked if url.startswith("file:")]) == 2, "a page asks for nothing but itself"
    assert page.locator("#units-table tbody:visible").count() == 63
    page.locator("#failures ~ .scroll").first.get_by_role("link", name="2", exact=True).click()
    expect(page.locator("#shown")).to_have_text("2 of 63 rows")
    assert page.locator("#units-table tbody:visible .strong").all_inner_texts() == ["SN5", "SN6"]
    expect(page.locator("#chip")).to_contain_text("First failure no-link (2)")
    assert page.locator("#units").evaluate("it => it.getBoundingClientRect().top") < 200
    page.locator("#chip").click()
    expect(page.locator("#shown")).to_have_text("all 63 rows")
    page.get_by_label("Outcome").select_option("fail")
    expect(page.locator("#shown")).to_have_text("3 of 63 rows")
    page.get_by_label("Slot").select_option("D")
    page.get_by_label("Find").fill("verify-FAILED")
    assert page.locator("#units-table tbody:visible .strong").all_inner_texts() == ["SN7"]
    page.get_by_role("link", name="SN7").click()
    expect(page.locator("h1")).to_have_text("SN7")
    page.get_by_role("link", name="ds-121, batch B1").click()
    page.get_by_role("link", name="all batches").click()
    expect(page.locator("h1")).to_have_text("2 batches, 120 boards")


def test_without_scripts_a_link_leads_to_a_list(chromium: Any, out: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(batch_of(out))
    assert not page.locator("#filter").is_visible()
    assert page.locator(".set:visible").count() == 0
    page.locator("#failures ~ .scroll").first.get_by_role("link", name="2", exact=True).click()
    expect(page.locator(".set:visible")).to_contain_text("First failure no-link")
    page.locator(".set:visible").get_by_role("link", name="SN6").first.click()
    assert page.locator("tbody:target .strong").inner_text() == "SN6"
    context.close()


def test_it_prints_every_row_on_a4_in_light_colours(chromium: Any, out: Path) -> None:
    context = chromium.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(batch_of(out))
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_label("Find").fill("SN7")
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert b"/MediaBox [0 0 594.95996 841.91998]" in pdf or b"/MediaBox [0 0 595" in pdf
    page.emulate_media(media="print")
    assert page.locator("#units-table tbody:visible").count() == 63
    assert not page.locator("nav.toc").is_visible()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark, light) == ("rgb(20, 23, 26)", "rgb(255, 255, 255)")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_issue(chromium: Any, out: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    context = chromium.new_context(viewport={"width": 820, "height": 1180}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    folder = out / "batches" / "ds-121-B1"
    for path in (folder / "index.html", out / "index.html", folder / "unit-pages" / "SN6.html"):
        page.goto(path.as_uri())
        found = axe.run(page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        told = [(each["id"], [node["html"][:150] for node in each["nodes"]][:3]) for each in serious]
        assert told == [], f"{path.name} in {scheme}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than a tablet"
    context.close()
