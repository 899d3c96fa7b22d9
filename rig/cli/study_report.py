"""`rig report` of studies: of supply failures, side by side if several; of flasher releases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from rig.cli.terminal import say
from rig.errors import UsageProblem


def studies_in(sources: Sequence[str]) -> list[Path]:
    """The folders of studies among what was named; those of runs, databases and Parquet are not."""
    from rig.power.trial import STUDY

    return [Path(each) for each in sources if "://" not in each and (Path(each) / STUDY).is_file()]


def report_studies(sources: Sequence[str], out: Path | None, as_json: bool) -> None:
    """Write the report and say where it is. All that is named must be studies of one kind. Raises UsageProblem."""
    from rig.power.record import is_power_run

    found = studies_in(sources)
    power = [each for each in found if is_power_run(each)]
    if len(found) < len(sources):
        other = next(each for each in sources if Path(each) not in found)
        raise UsageProblem(f"{found[0]} is a study and {other} is none: a report is of one or the other")
    if power and len(power) < len(found):
        other_study = next(each for each in found if each not in power)
        raise UsageProblem(f"{power[0]} is a study of supplies and {other_study} is one of flashers: name one kind")
    if power:
        import reports.power

        page = reports.power.write(power, out)
        told, sentence = page.parent / "power.json", reports.power.sentence(power)
    else:
        import reports.releases

        if len(found) > 1:
            raise UsageProblem("studies of flashers are reported one by one; two of them: rig releases --against")
        if out is not None:
            raise UsageProblem("the report of a study of flashers goes into its folder: leave --out out")
        page = reports.releases.write(found[0])
        told = page.parent / "verdict.json"
        sentence = str(json.loads(told.read_text(encoding="utf-8"))["sentence"])
    if as_json:
        typer.echo(json.dumps(json.loads(told.read_text(encoding="utf-8")), indent=2))
        return
    say(sentence)
    say(f"Report: {page}")
