"""The check of every change: it runs the README's own test line, and fails if there is none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "run"


@pytest.mark.parametrize(
    "readme", ["# x\n", "## Test\n\nnothing\n", "## Test\n```\n\n```\n", "```\ntrue\n```\n## Test\n"]
)
def test_no_test_line_is_no_pass(readme: str, tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
    (tmp_path / "README.md").write_text(readme)
    done = subprocess.run(
        ["bash", str(tmp_path / ".ci" / "run")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "no fenced block under '## Test'" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ci", "README.md"]  # before anything is installed
