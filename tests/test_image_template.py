"""OpenBeken's pins from Tuya's parameters: single rules, devices of every kind, and real dumps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.image.contents.template import PinTemplate, pin_template
from rig.image.contents.tuya import TuyaStorage, read_storage
from tests.image_files import FIRMWARE_DIR, real_images


def template(pins: dict[str, int | str], keys: tuple[str, ...] = (), **device: str) -> PinTemplate:
    return pin_template(TuyaStorage(0, keys=keys, device=device, pins=pins))


def shown(pins: dict[str, int | str]) -> list[str]:
    return [f"{pin.pin} {pin.name} {pin.channel}" for pin in template(pins).pins]


@pytest.mark.parametrize(
    ("parameters", "roles"),
    [
        ({"rl1_pin": 24, "rl1_lv": 1}, ["24 Rel 1"]),
        ({"rl2_pin": 24, "rl2_lv": 0}, ["24 Rel_n 2"]),
        ({"rl3_pin": 24}, ["24 Rel 3"]),
        ({"rl": 9}, ["9 Rel 1"]),
        ({"bt1_pin": 8, "bt1_lv": 0}, ["8 Btn 1"]),
        ({"bt4_pin": 8, "bt4_lv": 1}, ["8 Btn_n 4"]),
        ({"bt_pin": 8}, ["8 Btn 1"]),
        ({"k2pin_pin": 8}, ["8 Btn 2"]),
        ({"total_bt_pin": 7, "total_bt_lv": 0}, ["7 Btn_Tgl_All 0"]),
        ({"total_bt_pin": 7, "total_bt_lv": 1}, ["7 Btn_Tgl_All_n 0"]),
        ({"netled_pin": 22, "netled_lv": 0}, ["22 WifiLED_n 0"]),
        ({"netled1_pin": 22, "netled1_lv": 1}, ["22 WifiLED 0"]),
        ({"wfst": 22}, ["22 WifiLED_n 0"]),
        ({"led2_pin": 6, "led2_lv": 0}, ["6 LED_n 2"]),
        ({"r_pin": 6, "g_pin": 7, "b_pin": 8, "c_pin": 9, "w_pin": 24, "c_lv": 0},
         ["6 PWM 1", "7 PWM 2", "8 PWM 3", "9 PWM_n 4", "24 PWM 5"]),
        ({"ele_pin": 7, "vi_pin": 8, "sel_pin_pin": 24}, ["7 BL0937CF 0", "8 BL0937CF1 0", "24 BL0937SEL 0"]),
        ({"door1_magt_pin": 14}, ["14 dInput 1"]),
        ({"infre": 7, "infrr": 8}, ["7 IRSend 0", "8 IRRecv 0"]),
        ({"samp_pin": 23, "samp_sw_pin": 14}, ["14 BAT_Relay 0", "23 BAT_ADC 0"]),
    ],
)  # fmt: skip
def test_one_rule(parameters: dict[str, int | str], roles: list[str]) -> None:
    assert shown(parameters) == roles
    assert template(parameters).notes == ()


def test_a_light_behind_a_chip() -> None:
    found = template({"iicscl": 24, "iicsda": 26, "dccur": 40, "drgbcur": 20, "dwcur": 30,
                      "iicr": 1, "iicg": 0, "iicb": 2, "iicc": 3, "iicw": 4})  # fmt: skip
    assert [str(pin) for pin in found.pins] == ["P24 BP5758D_CLK (channel 0)", "P26 BP5758D_DAT (channel 0)"]
    assert found.startup == "backlog BP5758D_Current 20 40; LED_Map 1 0 2 3 4"
    unknown = template({"iicscl": 24, "iicsda": 26})
    assert unknown.pins == ()
    assert "which chip it is" in " ".join(unknown.notes)


def test_a_device_with_a_controller_of_its_own() -> None:
    found = template({"module": "CB3S"}, ("baud_cfg",), baud="9600")
    assert (found.pins, found.startup) == ((), "startDriver TuyaMCU")
    assert "by hand" in found.notes[0]
    assert template({}, baud="115200").startup == "backlog startDriver TuyaMCU; tuyaMcu_setBaudRate 115200"
    relay = template({"rl1_pin": 6}, ("baud_cfg",), baud="4800")
    assert relay.startup == ""
    assert "energy meter" in relay.notes[0]
    assert "no pins are named" in template({"module": "CB3S"}).notes[0]


def test_two_uses_of_one_pin_and_pins_that_are_none() -> None:
    found = template({"rl2_pin": 6, "bt2_pin": 6, "rl1_pin": 99, "rl3_pin": "x", "rl77_pin": 5})
    assert [str(pin) for pin in found.pins] == ["P6 Rel (channel 2)"]
    notes = "\n".join(found.notes)
    assert "bt2_pin = 6 not taken over: P6 is Rel already, by rl2_pin" in notes
    assert "rl1_pin = 99 is no pin of this chip" in notes
    assert "rl3_pin = x is no pin" in notes
    assert "no channel 77" in notes


def test_pins_of_both_uarts_are_pointed_out() -> None:
    notes = "\n".join(template({"bt1_pin": 10, "rl1_pin": 11, "netled_pin": 0}).notes)
    assert "P10 (Btn) and P11 (Rel): UART1, which flashing goes through" in notes
    assert "P0 (WifiLED_n): UART2's TX: the boot log ends" in notes


names = st.sampled_from(
    ["rl1_pin", "rl1_lv", "bt_pin", "netled_pin", "netled_lv", "rl_on1_pin", "buzzer_io", "ch_dpid1", "reset_t",
     "mosi", "iicscl", "iicsda", "ehccur", "iicr", "onoff1", "remote_io"]
) | st.text("abc_", min_size=1, max_size=8)  # fmt: skip


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.dictionaries(names, st.integers(-1, 300) | st.text(max_size=4), max_size=12))
def test_nothing_is_dropped_without_a_word(parameters: dict[str, int | str]) -> None:
    found = template(parameters)
    notes = "\n".join(found.notes)
    levels = {f"{key[:-4]}_lv" for key in parameters if key.endswith("_pin")}
    used = {pin.pin for pin in found.pins}
    for key, value in parameters.items():
        assert key in notes or key in levels or value in used or key in ("ehccur", "iicr"), key
    assert len(used) == len(found.pins)


# --- real dumps ---------------------------------------------------------------------------------------------------


def real(name: str) -> PinTemplate:
    storage = read_storage((Path(FIRMWARE_DIR or "") / name).read_bytes())
    assert storage is not None
    return pin_template(storage)


@real_images
def test_a_four_channel_switch() -> None:
    found = real("tywb_4ch_rf_switch_CB3S_1.2.1.bin")
    assert [f"{pin.pin} {pin.name} {pin.channel}" for pin in found.pins] == [
        "6 Rel 2", "7 Btn_Tgl_All 0", "8 Btn 1", "9 Btn 2", "10 Btn 3", "11 Btn 4", "14 Rel 4", "20 RCRecv 0",
        "22 WifiLED_n 0", "24 Rel 1", "26 Rel 3",
    ]  # fmt: skip
    assert found.notes[0].startswith("P10 (Btn) and P11 (Btn): UART1")
    for key in ("ch_dpid1", "inch_dp", "net_trig", "series_ctrl"):
        assert key in " ".join(found.notes)


@real_images
def test_switches_of_one_and_of_four_gangs() -> None:
    one = real("smartled_8044_1gang_CBU_virgin.bin")
    assert [str(pin) for pin in one.pins] == [
        "P20 Btn_n (channel 1)", "P22 WifiLED_n (channel 0)", "P28 Rel (channel 1)"
    ]  # fmt: skip
    four = real("ds101jl_4gang_switch_WB3S_1.1.5.bin")
    assert {pin.pin: pin.channel for pin in four.pins if pin.name == "Rel"} == {6: 1, 9: 2, 7: 3, 26: 4}
    assert {pin.pin: pin.channel for pin in four.pins if pin.name == "Btn"} == {24: 1, 10: 2, 8: 3, 14: 4}
