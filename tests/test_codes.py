"""Failure codes: the document is the table, and the program uses none that is not in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.codes import CODES, as_markdown

ROOT = Path(__file__).parent.parent


def raised() -> Iterator[tuple[str, str, str]]:
    """(where, class, code) of every coded error that is made with its code written out."""
    for folder in ("rig", "fixtures", "tests_hil"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                    continue
                first = node.args[0]
                if node.func.id in ("BenchBlocked", "UnitFailed") and isinstance(first, ast.Constant):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.func.id, str(first.value)


def test_the_document_is_the_table() -> None:
    assert (ROOT / "docs" / "failure-codes.md").read_text(encoding="utf-8") == as_markdown()
    for code in CODES.values():
        assert f"| `{code.name}` | {code.cause} | {code.action} |" in as_markdown()


def test_every_code_says_what_and_what_to_do() -> None:
    for code in CODES.values():
        assert code.cause.endswith(".")
        assert code.action.endswith(".")
        assert "|" not in code.cause + code.action


def test_every_error_has_a_code_of_the_table_that_blames_the_same() -> None:
    found = list(raised())
    assert len(found) > 20
    blames = {"BenchBlocked": "bench", "UnitFailed": "board"}
    wrong = [(w, k, c) for w, k, c in found if c not in CODES or CODES[c].blames != blames[k]]
    assert wrong == []


def test_names_are_unique() -> None:
    from rig import codes

    assert len(codes._TABLE) == len(CODES)


def test_the_module_prints_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    import runpy
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        runpy.run_module("rig.codes", run_name="__main__")
    assert capsys.readouterr().out == as_markdown()
