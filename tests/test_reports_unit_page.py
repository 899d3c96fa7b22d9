"""The unit's page: pytest-html with the evidence in it, whatever is missing; and the plots it shows."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.plots import bar_svg, steps_svg
from reports.power_plot import draw_power, power_svg
from reports.trace import Span, read_power, spans_of, thin
from rig.errors import UsageProblem
from rig.records.events import Outcome, PhaseEnded, PhaseStarted

ROOT = Path(__file__).parent.parent

CONFTEST = """
    import os, sys, time
    from pathlib import Path
    import pytest
    for name in os.environ.get("WITHOUT", "").split():
        sys.modules[name] = None
    pytest_plugins = ["fixtures.evidence"]
    from fixtures.evidence import *
    from rig.records.events import Measured, Outcome

    @pytest.fixture(scope="session", autouse=True)
    def unit(request):
        stash = request.config.stash
        folder = Path("units/SN1/2"); folder.mkdir(parents=True)
        stash[UNIT_DIR_KEY] = folder
        stash[UNIT_CONTEXT_KEY] = {"Unit": "SN<1>", "Bench": "sim:4 <i>fast</i>", "Note": "password=hunter2secret"}
        who = dict(unit="SN1", slot="A", attempt=2, phase="boot")
        stash[MEASURED_KEY].append(Measured(**who, name="boot_current", value=0.0712, unit_of="A", minimum=0.02,
                                            maximum=0.25, marginal_maximum=0.2))
        stash[MEASURED_KEY].append(Measured(**who, name="rail", value=None, unit_of="V", outcome=Outcome.FAIL))
        yield
        now = time.monotonic_ns()
        lines = [f"{now - 10**9 + n * 10**7},{3.3 if n % 9 else 2.5},0.07,cv" for n in range(90)]
        (folder / "power.csv").write_text("mono_ns,volts,amps,mode\\n" + "\\n".join(lines) + "\\n12,3.")
        lines = [b"[     0.100] <b>V:BK7231S</b>\\r", b"[     0.200] Using Pass [hunter2secret]", b"\\xff"]
        (folder / "boot.log").write_bytes(b"\\n".join(lines))
"""
TESTS = """
    import pytest
    def test_power_on(): print("Using Pass [hunter2secret]")
    def test_boot(): assert "Using Pass [hunter2secret]" == "", "Using Pass [hunter2secret]"
    def test_later(): pytest.skip("boot failed, password=hunter2secret")
"""


def run_unit(folder: Path, *arguments: str, without: str = "", page: bool = True) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(textwrap.dedent(CONFTEST))
    (folder / "test_unit.py").write_text(textwrap.dedent(TESTS))
    (folder / "pytest.ini").write_text("[pytest]\n")
    shown = ["--html=unit.html", "--self-contained-html"] if page else []
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *shown, *arguments],
        cwd=folder, env={"PATH": "", "PYTHONPATH": str(ROOT), "WITHOUT": without, "MPLCONFIGDIR": str(folder)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("unit")
    done = run_unit(folder)
    assert "1 failed, 1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    return (folder / "unit.html").read_text(), done.stdout


def test_the_page_has_the_evidence(made: tuple[str, str]) -> None:
    page, _ = made
    assert '<h1 id="title">Unit SN&lt;1&gt;, attempt 2</h1>' in page
    assert page.count("<h2>Volts and amps</h2>") == page.count("<h2>Boot log</h2>") == 1
    assert "boot_current</td><td class='n strong'>0.0712</td><td>A</td><td>0.02 to 0.25 (warning above 0.2)" in page
    assert "not measured" in page
    assert page.count('<svg class="plot"') == 1
    assert re.search(r">power on<", page), "the plot names the steps"
    assert "&lt;b&gt;V:BK7231S&lt;/b&gt;" in page
    assert "[     0.200] Using Pass [***]" in page


def test_the_page_keeps_secrets_and_markup_out(made: tuple[str, str]) -> None:
    page, terminal = made
    assert "hunter2" not in page
    assert "hunter2" not in terminal
    assert "FAILED test_unit.py::test_boot - AssertionError: Using Pass [***]" in terminal
    data = json.loads(html.unescape(page.split('data-jsonblob="')[1].split('"></div>')[0]))
    assert list(data["environment"])[:2] == ["Unit", "Bench"]
    assert data["environment"]["Bench"] == "sim:4 &lt;i&gt;fast&lt;/i&gt;"  # its script would put it in as markup
    assert data["initialSort"] == "original"
    outside = page.split("<footer>")[0]
    assert not re.search(r"(src|href)=[\"']https?://(?!pypi\.python\.org)", outside)


def test_the_page_needs_nothing_of_the_extra_for_reports(tmp_path: Path) -> None:
    done = run_unit(tmp_path, without="matplotlib pandas scipy statsmodels")
    page = (tmp_path / "unit.html").read_text()
    assert "1 failed, 1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert page.count('<svg class="plot"') == 1
    assert "boot_current" in page


def test_without_pytest_html_nothing_happens(tmp_path: Path) -> None:
    done = run_unit(tmp_path, "-p", "no:html", page=False)
    assert "1 failed, 1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr


def trace(path: Path, lines: list[str], tail: str = "") -> Path:
    path.write_text("\n".join(["mono_ns,volts,amps,mode", *lines]) + "\n" + tail)
    return path


def test_a_torn_sample_is_no_sample(tmp_path: Path) -> None:
    found = read_power(
        trace(
            tmp_path / "p.csv",
            ["1000,3.3,0.07,cv", "2000,,nan,", "x,1,2,cv", f"{10**30},1,2,cv", "1,2"],
            "3000,3.2,0.1",
        )
    )
    assert list(found.mono_ns) == [1000, 2000]
    assert np.isnan(found.volts[1])
    assert np.isnan(found.amps[1])
    assert found.skipped == 3


@pytest.mark.parametrize("content", ["", "mono_ns,volts", "mono_ns,volts,amps,mode\n", "mono_ns,volts,amps,mode\n1,"])
def test_a_trace_without_samples_is_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.csv").write_text(content)
    assert power_svg(tmp_path / "p.csv") == '<p class="none">No volts or amps were sampled.</p>'


def test_another_file_is_no_trace(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageProblem, match="not a power trace"):
        read_power(tmp_path / "p.csv")
    with pytest.raises(UsageProblem, match="cannot be read"):
        read_power(tmp_path / "none.csv")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.csv"
    path.write_bytes(b"mono_ns,volts,amps,mode\n5,3.3,0.1,cv\n" + junk)
    assert 5 in read_power(path).mono_ns


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(-10, 10) | st.just(float("nan")), min_size=1, max_size=400), st.integers(10, 50))
def test_thinning_keeps_every_extreme(values: list[float], most: int) -> None:
    series = np.array(values)
    kept = series[thin(series, most)]
    assert list(thin(series, most)) == sorted(set(thin(series, most)))
    if not np.isnan(series).all():
        assert np.nanmin(kept) == np.nanmin(series)
        assert np.nanmax(kept) == np.nanmax(series)
    if len(values) <= most:
        assert len(kept) == len(values)


def test_a_short_dip_is_in_the_plot_of_a_long_trace(tmp_path: Path) -> None:
    lines = [f"{n * 10**6},{1.1 if n == 31_234 else 3.3},0.07,cv" for n in range(60_000)]
    found = read_power(trace(tmp_path / "p.csv", lines))
    assert 1.1 in found.volts[thin(found.volts, 1600)]
    assert len(draw_power(found)) < 250_000


def test_a_gap_in_the_samples_is_a_gap_in_the_line(tmp_path: Path) -> None:
    def moves(svg: str) -> int:
        return sum(path.count("M ") for path in re.findall(r'<path d="([^"]+)"[^>]*stroke: var\(--volts', svg))

    whole = [f"{n * 10**8},3.3,0.07,cv" for n in range(100)]
    assert moves(power_svg(trace(tmp_path / "p.csv", whole))) == 1
    assert moves(power_svg(trace(tmp_path / "p.csv", whole[:40] + whole[70:]))) == 2
    lost = [line if not 40 <= n < 50 else f"{n * 10**8},,,cv" for n, line in enumerate(whole)]
    assert moves(power_svg(trace(tmp_path / "p.csv", lost))) == 2


def test_plots_are_clean_elements_for_the_middle_of_a_page(tmp_path: Path) -> None:
    csv = trace(tmp_path / "p.csv", [f"{n * 10**8},3.3,0.07,{'CC' if n > 5 else 'cv'}" for n in range(30)])
    spans = [Span("<b> & $x$ \n", 0, 10**9, Outcome.PASS), Span("boot", 10**9, 2 * 10**9, Outcome.FAIL)]
    first, second = power_svg(csv, spans, [("rebooted", 10**9)]), power_svg(csv, spans)
    steps = steps_svg([("power $on$ <", 3, 0.1, 0.2, 0.3, 0.4)])
    for svg in (first, second, steps):
        ET.fromstring(svg)
        assert "<style" not in svg
        assert "#0101" not in svg, "a stand-in colour was left"
        assert "http" not in svg
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in (first, second, steps)]
    assert not set(ids[0]) & set(ids[1])
    for svg, own in zip((first, second, steps), ids, strict=True):
        assert set(re.findall(r"(?:url\(|href=\")#([^\")]+)", svg)) <= set(own)
    assert "rebooted" in first
    assert "var(--fail-soft" in first
    assert "current limit" in first


def test_bars_and_step_times_without_anything() -> None:
    assert bar_svg([("pass", 0)]) == ""
    assert "no times" in steps_svg([])
    svg = ET.fromstring(bar_svg([("pass", 3), ("fail", 1), ("idle", 0)]))
    widths = [float(rect.get("width", "0")) + 3 for rect in svg]
    assert widths == pytest.approx([750, 250])


def test_spans_are_the_steps_of_one_attempt() -> None:
    who = {"unit": "1", "slot": "A", "attempt": 1}
    events = [
        PhaseStarted(**who, phase="boot", mono_ns=5),
        PhaseStarted(unit="2", slot="B", attempt=1, phase="boot", mono_ns=6),
        PhaseEnded(**who, phase="boot", outcome=Outcome.FAIL, duration_s=1, mono_ns=9),
        PhaseEnded(**who, phase="never begun", outcome=None, duration_s=0, mono_ns=9),
        PhaseStarted(**who, phase="never ended", mono_ns=10),
    ]
    assert spans_of(events, "1", 1) == [Span("boot", 5, 9, Outcome.FAIL)]
