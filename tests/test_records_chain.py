"""The chain: what it is, that every change of a journal breaks it, and that the break is where the change was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import UsageProblem
from rig.records import chain
from rig.records import journal as journal_module
from rig.records.events import Noted
from rig.records.journal import Journal, JournalLost, line_of, read_journal


def noted(number: int, **more: object) -> Noted:
    return Noted(text=f"note {number}", **more)


def journal_of(path: Path, lines: int) -> list[bytes]:
    with Journal(path) as journal:
        for number in range(lines):
            journal.append(noted(number))
    return path.read_bytes().splitlines()


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return journal_of(tmp_path_factory.mktemp("chain") / "journal.jsonl", 12)


def test_a_link_is_the_sha256_of_the_one_before_and_the_line(lines: list[bytes]) -> None:
    """By hand, from the words of the contract."""
    before = "0" * 64
    for line in lines:
        told = json.loads(line)
        assert list(told)[-1] == "chain"
        body = line[: line.rindex(b',"chain"')] + b"}"
        before = hashlib.sha256(before.encode() + body).hexdigest()
        assert told["chain"] == before
    assert chain.check(lines) == chain.Chain([chain.split(line)[1] for line in lines], [], 0)


def test_the_head_goes_on_over_a_reopening(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    heads = []
    for number in range(4):
        with Journal(path) as journal:
            assert journal.head == (heads[-1] if heads else chain.START)
            journal.append(noted(number))
            heads.append(journal.head)
    assert chain.head(path) == heads[-1]
    assert chain.check(path.read_bytes().splitlines()).breaks == []


def test_the_chain_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    lines = journal_of(path, 3)
    path.write_bytes(path.read_bytes() + lines[0][: len(lines[0]) // 2])
    assert chain.head(path) == chain.split(lines[-1])[1]
    with Journal(path) as journal:
        journal.append(noted(4))
    found = chain.check(path.read_bytes().splitlines())
    assert (len(found.links), found.breaks) == (4, [])


def test_a_line_that_was_not_written_is_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(noted(1))
        head = journal.head

        def full(fd: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(journal_module.os, "fsync", full)
        with pytest.raises(JournalLost):
            journal.append(noted(2))
        monkeypatch.undo()
        assert journal.head == head == chain.head(journal.path)


def test_an_older_journal_begins_its_chain_where_it_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(line_of(noted(n, schema_version=2)) for n in range(3)))
    with Journal(path) as journal:
        journal.append(noted(4))
    lines = path.read_bytes().splitlines()
    found = chain.check(lines)
    assert (found.unchained, found.breaks) == (3, [])
    assert read_journal(path)[0][3].chain is None  # a link is of the line, not of the event
    for changed in ([lines[0], *lines], lines[1:], [lines[1], lines[0], *lines[2:]]):  # the first link holds them too
        assert len(chain.check(changed).breaks) == 1


def test_a_journal_of_this_rig_without_its_chain_is_no_older_one(tmp_path: Path, lines: list[bytes]) -> None:
    stripped = [chain.split(line)[0] for line in lines]
    assert [each.line for each in chain.check(stripped).breaks] == list(range(1, 13))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_edit_is_found_and_its_line_named(lines: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(lines) - 1))
    where = data.draw(st.integers(0, len(lines[at]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != lines[at][where] and value != 10))
    changed = [*lines]
    changed[at] = lines[at][:where] + bytes([byte]) + lines[at][where + 1 :]
    named = {each.line for each in chain.check(changed).breaks}
    assert named
    assert named <= {at + 1, at + 2}
    assert at + 1 in named or where > lines[at].rindex(b',"chain"')


@settings(max_examples=40, deadline=None, derandomize=True)
@given(at=st.integers(0, 10), count=st.integers(1, 11))
def test_lines_that_were_removed_are_missed(lines: list[bytes], at: int, count: int) -> None:
    changed = lines[:at] + lines[at + count :]
    found = chain.check(changed)
    if at + count >= len(lines):  # its end: nothing but a head kept elsewhere can tell
        assert found.breaks == []
        assert found.head != chain.check(lines).head
    else:
        assert [each.line for each in found.breaks] == [at + 1]
        assert "removed" in found.breaks[0].sentence


@settings(max_examples=40, deadline=None, derandomize=True)
@given(one=st.integers(0, 11), other=st.integers(0, 11))
def test_another_order_is_found(lines: list[bytes], one: int, other: int) -> None:
    changed = [*lines]
    changed[one], changed[other] = changed[other], changed[one]
    breaks = chain.check(changed).breaks
    assert bool(breaks) == (one != other)
    if one != other:
        assert min(one, other) + 1 in {each.line for each in breaks}
        assert any("order" in each.sentence or "moved" in each.sentence for each in breaks)


@pytest.mark.parametrize("at", [0, 5, 12])
@pytest.mark.parametrize("what", ["copy", "forged", "bare", "foreign", "older"])
def test_a_line_put_in_is_found(tmp_path: Path, lines: list[bytes], at: int, what: str) -> None:
    body = line_of(noted(99)).rstrip(b"\n")
    before = chain.START if at == 0 else chain.split(lines[at - 1])[1]
    assert before is not None
    put_in = {
        "copy": lines[at - 1],
        "forged": chain.forged(before, body)[0].rstrip(b"\n"),  # fits what is before it
        "bare": body,
        "older": line_of(noted(99, schema_version=2)).rstrip(b"\n"),  # of a time when lines carried no link
        "foreign": journal_of(tmp_path / "journal.jsonl", 3)[1],
    }[what]
    breaks = chain.check([*lines[:at], put_in, *lines[at:]]).breaks
    if what == "forged" and at == len(lines):
        assert breaks == []  # a line at the end is what the next event is too
    else:
        assert breaks
        assert breaks[0].line in (at + 1, at + 2)


def test_an_edit_with_a_new_link_breaks_at_the_next_line(lines: list[bytes]) -> None:
    body = chain.split(lines[4])[0].replace(b"note 4", b"note X")
    before = chain.split(lines[3])[1]
    assert before is not None
    changed = [*lines[:4], chain.forged(before, body)[0].rstrip(b"\n"), *lines[5:]]
    assert [each.line for each in chain.check(changed).breaks] == [6]


def test_no_journal_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="cannot be read"):
        chain.head(tmp_path / "none.jsonl")
    (tmp_path / "empty").touch()
    assert chain.head(tmp_path / "empty") == chain.START
