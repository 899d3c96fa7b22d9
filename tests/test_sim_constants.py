"""The physical constants: a study's own over the shipped ones, for all boards or one, and every mistake named."""

from __future__ import annotations

from pathlib import Path

import pytest

from rig.errors import UsageProblem
from rig.sim.constants import load_constants, read_overrides
from rig.sim.spec import SimOptions, board_constants, check_options

OURS = """
[amps]
rf_cal = 0.3
[rail]
cable_ohms = 0.4
[source.battery]
volts = 3.0
ohms = 0.5
farads = 1e-5
slew = 1e6
[slot.B.rail]
cable_ohms = 0.02
"""


def test_what_differs_is_over_what_is_shipped_board_by_board(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(OURS)
    check_options(SimOptions(boards=2, constants=path, source="battery"))
    found = {slot: load_constants(tables) for slot, tables in board_constants(SimOptions(2, constants=path)).items()}
    assert [found[slot].rail.cable_ohms for slot in "AB"] == [0.4, 0.02]
    assert [found[slot].amps.rf_cal for slot in "AB"] == [0.3, 0.3]
    assert found["A"].amps.rf_tx == load_constants().amps.rf_tx
    assert found["B"].part("battery").volts == 3.0
    assert found["B"].part("bench").volts is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[rail]\ncabel_ohms = 1", "unknown key 'rail.cabel_ohms'; did you mean 'cable_ohms'?"),
        ("[slot.B.amps]\nrfcal = 1", "slot B: unknown key 'amps.rfcal'; did you mean 'rf_cal'?"),
        ("[slot.C.rail]\ncable_ohms = 1", "no slot 'C'"),
        ("[rial]\nx = 1", "unknown key 'rial'; did you mean 'rail'?"),
        ("[flash]\ninhibit_volts = 3", "inhibit_volts must be below works_volts"),
        ("[rail]\nreset_falling_volts = 2.5", "reset_falling_volts must be below"),
        ("[rail]\nboard_farads = 0", "'rail.board_farads' is 0"),
        ("[amps]\nrom = 'much'", "'amps.rom' is 'much'"),
        ("[source.x]\nohms = 1", "'source.x.farads' is missing"),
        ("rail = 3", "must be a table"),
        ("slot = 3", "`slot` must be tables"),
        ("[rail", "not valid TOML"),
    ],
)
def test_a_mistake_is_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(UsageProblem) as caught:
        read_overrides(path, ["A", "B"])
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_source_that_there_is_not() -> None:
    with pytest.raises(UsageProblem, match=r"no source 'cp2103-pin'.*did you mean 'cp2102-pin'"):
        check_options(SimOptions(source="cp2103-pin"))
