"""Releases of outside tools as flashers, run unmodified, each in an environment of its own.

A tool gets the link's pseudo-terminal as its serial port. Every run begins with the board off: the tap powers it
at the tool's first link check, again when the tool pulls its reset lines, and stops what the guard does not let
through; the tool is ended then. What a run achieved is read from what the tool printed, as its profile says, and
from what it left: its exit code alone proves nothing. Whether the flash holds what was written is for the caller to
verify: `rig.flashers.judge`.
"""

from __future__ import annotations

import re
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rig.errors import UnitFailed, UsageProblem
from rig.files import write_durably
from rig.flashers.base import ChipIdentity, FlashResult, Link, Progress, no_progress
from rig.flashers.environment import Environment
from rig.flashers.process import Run, run_tool
from rig.flashers.profile import FieldName, Line, Operation, OperationName, Profile
from rig.scrub import HIDDEN, scrub
from rig.uart.lines import environment as telling_lines

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?) ?(?P<unit>[KM]?)i?B?")
_HEX = re.compile(r"(?:0[xX])?[0-9A-Fa-f]+")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}


@dataclass(frozen=True)
class _Job:
    """One invocation of the tool: what for, where, and what the file holds that it is given."""

    name: OperationName
    operation: Operation
    offset: int = 0
    length: int = 0
    content: bytes | None = None


class ExternalFlasher:
    """One release of one tool. `work` is a folder that keeps the output of every run (private files).

    Operations the tool does not have raise UsageProblem. A run that failed raises UnitFailed with the code
    `no-link` (the chip never answered the tool) or `flasher-failed`; whatever went wrong underneath (a lost port,
    a guard stop, the supply) comes first. `versions` are those of the packages its profile records, `sha256` is of
    all that was installed. `last_output` is what the tool printed then, secrets hidden.
    """

    def __init__(
        self,
        spec: str,
        profile: Profile,
        environment: Environment,
        *,
        chip: str = "BK7231N",
        work: Path | None = None,
    ) -> None:
        if chip not in profile.families:
            raise UsageProblem(f"{spec} does not work on {chip}: its profile names no family for it")
        self.name = spec
        self.profile = profile
        self.environment = environment
        self.versions = {
            package: environment.versions[package.lower()]
            for package in profile.record
            if package.lower() in environment.versions
        }
        self.sha256 = environment.sha256  # of what was installed
        self.last_output = ""
        self._family = profile.families[chip]
        self._tool = environment.executable(profile.executable)
        self._work = work
        self._runs = 0

    # -- the interface ---------------------------------------------------------------------------------

    def identify(self, link: Link, progress: Progress = no_progress) -> ChipIdentity:
        operation = self.profile.identify
        if operation is None:
            raise self._lacks("identify")
        return _identity(self._run(_Job("identify", operation), link, progress), operation.fields)

    def read(self, link: Link, offset: int, length: int, progress: Progress = no_progress) -> FlashResult:
        run = self._run(_Job("read", self._operation("read"), offset, length), link, progress)
        if len(run.left) != length:
            raise self._failed("read", f"says it is done and left {len(run.left)} of {length} bytes")
        return self._result(f"read {length} bytes", [run], length, run.left)

    def write(self, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress = no_progress) -> FlashResult:
        """One run of the tool a piece. What stands behind a piece in its last sector may be lost: most tools erase
        the whole sector. `seconds` is the tools' own time, without the power-cycles between."""
        self._aligned([offset for offset, _ in pieces])
        runs = self._run_each("write", link, pieces, progress)
        total = sum(len(data) for _, data in pieces)
        return self._result(f"wrote {total} bytes", runs, total)

    def verify(
        self, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress = no_progress
    ) -> FlashResult:
        runs = self._run_each("verify", link, pieces, progress)
        total = sum(len(data) for _, data in pieces)
        return self._result(f"{total} bytes agree, says {self.profile.title}", runs, total)

    def erase(self, link: Link, offset: int, length: int, progress: Progress = no_progress) -> FlashResult:
        job = _Job("erase", self._operation("erase"), offset, length)
        self._aligned([offset])
        return self._result(f"erased {length} bytes", [self._run(job, link, progress)], length)

    def close(self) -> None:
        """Nothing is held between runs."""

    # -- a run -----------------------------------------------------------------------------------------

    def _run_each(
        self, name: OperationName, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress
    ) -> list[Run]:
        operation = self._operation(name)
        total, done, runs = sum(len(data) for _, data in pieces), 0, []
        for offset, data in pieces:

            def tell(what: str, at: int, _: int, before: int = done) -> None:
                progress(what, before + at, total)

            runs.append(self._run(_Job(name, operation, offset, len(data), data), link, tell))
            done += len(data)
        return runs

    def _run(self, job: _Job, link: Link, progress: Progress) -> Run:
        """One invocation, judged: everything that can be wrong with it raises."""
        link.check()
        link.prepare()
        patience = self.profile.patience
        with tempfile.TemporaryDirectory(prefix="rig-flasher-") as name:  # private: flash holds Wi-Fi passwords
            scratch = Path(name)
            file = scratch / f"{job.name}-0x{job.offset:x}.bin"
            if job.content is not None:
                file.write_bytes(job.content)
            run = Run(tuple(job.operation.words(self._values(job, link, file))))
            try:
                run_tool(
                    run,
                    folder=scratch,
                    path=self.environment.bin,
                    variables=telling_lines(link.lines) if link.lines else {},
                    silence=patience.silence,
                    limit=patience.limit(job.length, link.baud),
                    check=link.check,
                    on_line=self._follower(job, progress),
                    tidy=self._tidy,
                )
            finally:
                self.last_output = run.output
                self._keep(job.name, run)
            link.check()
            self._judge(job, run)
            run.left = file.read_bytes() if file.is_file() else b""
        if job.length:
            progress(job.name, job.length, job.length)
        return run

    def _values(self, job: _Job, link: Link, file: Path) -> dict[str, object]:
        """What the placeholders of a command stand for."""
        return {
            "tool": self._tool,
            "port": link.path,
            "baud": link.baud,
            "family": self._family,
            "file": file,
            "offset": job.offset,
            "length": job.length,
        }

    def _judge(self, job: _Job, run: Run) -> None:
        output = self.profile.output
        error = next((found for line in reversed(run.lines) if (found := output.error.search(line))), None)
        missing = [wanted for wanted in job.operation.success if not _anywhere([wanted], run.lines)]
        if error is None and not missing and run.exit_code in self.profile.exit_codes:
            return
        said = scrub(error["value"].strip()).rstrip(".") if error else ""
        if not _anywhere([output.linked], run.lines) and _anywhere(output.unlinked, run.lines):
            raise UnitFailed(
                "no-link",
                f"the board has power but never answered {self.name}, which gave up after {run.seconds:.1f} s",
            )
        if said:
            raise self._failed(job.name, f"said: {said}")
        if run.exit_code not in self.profile.exit_codes:
            raise self._failed(job.name, f"ended with exit code {run.exit_code}; its last line: {_last(run)}")
        raise self._failed(job.name, f"ended without saying that it is done; its last line: {_last(run)}")

    def _follower(self, job: _Job, progress: Progress) -> Callable[[str], None]:
        """Reads how far the tool is out of its lines."""

        def follow(line: str) -> None:
            for pattern in self.profile.output.progress:
                found = pattern.match.search(line)
                if found is None:
                    continue
                groups = found.groupdict()
                percent, address = groups.get("percent"), groups.get("address")
                try:
                    done = (
                        round(float(percent) / 100 * job.length) if percent else int(address or "", 16) - job.offset
                    )
                except ValueError:
                    continue  # not the number it looked like
                progress(job.name, min(max(done, 0), job.length), job.length)
                return

        return follow

    def _tidy(self, line: str) -> str:
        output = self.profile.output
        if output.noise is not None:
            line = output.noise.sub("", line, count=1)
        for private in output.private:
            line = private.sub(lambda found: found[0].replace(found["value"] or found[0], HIDDEN), line)
        return line

    # -- small things ----------------------------------------------------------------------------------

    def _operation(self, name: OperationName) -> Operation:
        operation = self.profile.operation(name)
        if operation is None:
            raise self._lacks(name)
        return operation

    def _lacks(self, name: str) -> UsageProblem:
        return UsageProblem(f"{self.profile.title} has no {name}: use the native flasher")

    def _failed(self, name: str, what: str) -> UnitFailed:
        return UnitFailed("flasher-failed", f"{self.name}, {name}: it {what}")

    def _aligned(self, offsets: Sequence[int]) -> None:
        align = self.profile.write_align
        for offset in offsets:
            if offset % align:
                raise UsageProblem(
                    f"{self.profile.title} writes from multiples of 0x{align:x} only, not from 0x{offset:x}: "
                    "use the native flasher"
                )

    def _result(self, said: str, runs: Sequence[Run], size: int, data: bytes | None = None) -> FlashResult:
        lines = [line for run in runs for line in run.lines]
        retries = tuple(line for line in lines if _anywhere(self.profile.output.retry, [line]))
        output = "\n".join(run.output for run in runs)
        return FlashResult(True, said, sum(run.seconds for run in runs), size, retries, output, data)

    def _keep(self, name: str, run: Run) -> None:
        if self._work is None:
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        head = [
            f"$ {shlex.join(run.command)}",
            f"# {stamp} {' '.join(f'{name}=={version}' for name, version in self.versions.items())}",
            f"# installed: sha256 {self.environment.sha256}",
            f"# exit code {run.exit_code} after {run.seconds:.3f} s",
        ]
        while True:  # an earlier attempt's output stays
            self._runs += 1
            path = self._work / f"flasher-{self._runs:02d}-{name}.txt"
            if not path.exists():
                break
        write_durably(path, "\n".join([*head, "", run.output]) + "\n", private=True)


def _anywhere(patterns: Sequence[Line], lines: Sequence[str]) -> bool:
    return any(pattern.search(line) for pattern in patterns for line in lines)


def _last(run: Run) -> str:
    return scrub(run.lines[-1]) if run.lines else "(none)"


def _identity(run: Run, fields: Mapping[FieldName, Line]) -> ChipIdentity:
    found = {
        name: match["value"]
        for name, pattern in fields.items()
        if (match := next(filter(None, map(pattern.search, run.lines)), None)) and match["value"]
    }
    chip_id, flash_id, mac = found.get("chip_id"), found.get("flash_id"), found.get("mac")
    return ChipIdentity(
        chip=found.get("chip"),
        chip_id=int(chip_id, 16) if _HEX.fullmatch(chip_id or "") and chip_id else None,
        flash_id=bytes.fromhex("".join(re.findall("[0-9A-Fa-f]{2}", flash_id))) if flash_id else None,
        flash_size=_bytes(found.get("flash_size")),
        mac=mac.lower().replace("-", ":") if mac else None,
        text=run.output,
    )


def _bytes(text: str | None) -> int | None:
    """`2 MiB`, `512KB`, `2097152` or `0x200000` as bytes; units of 1024, as flash is made."""
    if text and text.lower().startswith("0x") and _HEX.fullmatch(text):
        return int(text, 16)
    match = _SIZE.fullmatch(text or "")
    return None if match is None else round(float(match["number"]) * _UNITS[match["unit"]])
