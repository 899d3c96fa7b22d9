"""Labels: filled in, kept, printed by a command; and nothing that goes wrong there costs a unit."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rig.errors import UsageProblem
from rig.line.labels import Made, check_label, check_printer, make_label, read_template
from rig.line.rules import Label
from tests.waiting import wait_until

FIELDS = {
    "unit": "SN000001",
    "mac": "02:52:49:00:00:01",
    "batch": "w48",
    "product": "ds-121",
    "utc": "2026-11-23T03:00Z",
    "firmware": "OpenBeken 1.18.300",
    "sha256": "5a" * 32,
    "sha12": "5a" * 6,
}


def template(folder: Path, text: str, name: str = "label.zpl") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def made(rule: Label, folder: Path, **more: object) -> Made:
    result = make_label(rule, FIELDS, folder, **more)  # type: ignore[arg-type]
    assert result is not None
    return result


def test_a_label_is_filled_in_kept_and_handed_to_the_command(tmp_path: Path) -> None:
    out = tmp_path / "unit"
    out.mkdir()
    printer = tmp_path / "printed"
    command = [sys.executable, "-c", f"import shutil, sys; shutil.copy(sys.argv[1], {str(printer)!r})", "{file}"]
    text = "^XA^FD{unit}^FS^FD{mac} {batch} {product} {utc}^FS^FD{firmware} {{x}}^FS^FD{sha12} {sha256}^FS^XZ"
    result = made(Label(template=template(tmp_path, text), command=command), out)
    assert result == Made(out / "label.zpl", True)
    said = (
        "^XA^FDSN000001^FS^FD02:52:49:00:00:01 w48 ds-121 2026-11-23T03:00Z^FS^FDOpenBeken 1.18.300 {x}^FS"
        f"^FD{'5a' * 6} {'5a' * 32}^FS^XZ"
    )
    assert (out / "label.zpl").read_text() == said
    assert printer.read_text() == said


def test_without_a_template_there_is_no_label_and_without_a_command_it_is_kept(tmp_path: Path) -> None:
    assert make_label(Label(), FIELDS, tmp_path) is None
    assert made(Label(template=template(tmp_path, "{unit}", "t")), tmp_path) == Made(tmp_path / "label.txt", True)


def test_a_printer_that_is_not_there_is_found_out_beforehand(tmp_path: Path) -> None:
    check_printer(Label())
    check_printer(Label(template=tmp_path / "l", command=[sys.executable, "{file}"]))
    (tmp_path / "lp").write_text("no program")
    for command in ("no-such-printer", str(tmp_path / "lp")):
        with pytest.raises(UsageProblem, match="no such program"):
            check_printer(Label(template=tmp_path / "l", command=[command, "{file}"]))


def test_words_of_the_command_go_to_no_shell(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    show = "import sys; sys.exit(repr(sys.argv[1:]))"
    command = [sys.executable, "-c", show, f"; touch {canary}", "$(id)", "--in={file}"]
    result = made(Label(template=template(tmp_path, "{unit}"), command=command), tmp_path)
    assert not result.printed
    assert f"; touch {canary}" in result.said
    assert "'$(id)'" in result.said
    assert not canary.exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["/no/such/printer", "{file}"], "/no/such/printer: No such file"),
        ([sys.executable, "-c", "import sys; sys.exit('out of paper')", "{file}"], "exit code 1: out of paper"),
        ([sys.executable, "-c", "raise SystemExit(3)", "{file}"], "exit code 3: it said nothing"),
    ],
)
def test_a_printer_that_fails_is_a_remark(command: list[str], says: str, tmp_path: Path) -> None:
    result = made(Label(template=template(tmp_path, "{unit}"), command=command), tmp_path)
    assert result.path == tmp_path / "label.zpl"
    assert not result.printed
    assert says in result.said


def test_a_printer_that_hangs_is_stopped_with_all_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    rule = Label(template=template(tmp_path, "{unit}"), command=[sys.executable, "-c", parent, "{file}"])
    began = time.monotonic()
    result = made(rule, tmp_path, timeout_s=1.0)
    assert time.monotonic() - began < 20
    assert "did not end within 1 s" in result.said
    if text := pid.read_text() if pid.exists() else "":  # else it was stopped before it had come so far
        wait_until(lambda: not _alive(int(text)), 60, "the printer's child to be gone")


def test_a_printer_that_leaves_something_running_has_printed(tmp_path: Path) -> None:
    """A spooler that it started holds its output open: neither the end of it nor the slot waits for that."""
    pid = tmp_path / "pid"
    child = f"import os, time; os.setsid(); open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    rule = Label(template=template(tmp_path, "{unit}"), command=[sys.executable, "-c", parent, "{file}"])
    result = made(rule, tmp_path, timeout_s=20.0)
    wait_until(lambda: pid.exists() and pid.read_text() != "", 20, "the spooler to be there")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert result.printed, result.said


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "fields", "secrets", "says"),
    [
        ("{unit} {firmware}", {"firmware": None}, (), "{firmware}, which is not known"),
        ("{unit}", {"unit": "SN^XZ^XA"}, (), "take for a command"),
        ("{unit}", {"unit": "SN\nEVIL"}, (), "take for a command"),
        ("{batch}", {"batch": "hush-hush-42"}, ("hush-hush-42",), "would show a secret"),
        ("{batch}", {"batch": "my password: hush-hush"}, (), "would show a secret"),
    ],
)
def test_a_label_that_must_not_be(
    text: str, fields: dict[str, str | None], secrets: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    rule = Label(template=template(tmp_path, text), command=["touch", str(canary), "{file}"])
    out = tmp_path / "unit"
    out.mkdir()
    result = make_label(rule, FIELDS | fields, out, secrets=secrets)
    assert result is not None
    assert (result.path, result.printed) == (None, False)
    assert says in result.said
    assert "hush" not in result.said
    assert not list(out.iterdir())
    assert not canary.exists()


def test_what_the_command_prints_of_a_secret_is_hidden(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('cannot reach hush-hush-42')", "{file}"]
    rule = Label(template=template(tmp_path, "{unit}"), command=command)
    assert "cannot reach ***" in made(rule, tmp_path, secrets=("hush-hush-42",)).said


def test_a_folder_that_cannot_be_written_is_a_remark(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = made(Label(template=template(tmp_path, "{unit}")), tmp_path / "file" / "x")
    assert result.path is None
    assert "could not be written" in result.said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{serial}", "no field {serial}"),
        ("{unitt}", "did you mean 'unit'"),
        ("{unit", "written twice"),
        ("{unit:>9}", "takes no format"),
        ("{unit.__class__}", "no field"),
        ("wifi password: hush-hush", "for all to read"),
        ("x" * 70_000, "64 KiB"),
    ],
)
def test_a_template_that_is_none(text: str, says: str, tmp_path: Path) -> None:
    path = template(tmp_path, text)
    with pytest.raises(UsageProblem) as caught:
        read_template(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "hush" not in str(caught.value)


def test_rules_that_make_no_label(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no label's template"):
        check_label(Label(template=tmp_path / "none.zpl"))
    with pytest.raises(UsageProblem, match="needs a template"):
        check_label(Label(command=["lp", "{file}"]))
    with pytest.raises(UsageProblem, match=r"\{file\}"):
        check_label(Label(template=template(tmp_path, "{unit}"), command=["lp"]))
    check_label(Label(template=tmp_path / "label.zpl", command=["lp", "{file}"]))
