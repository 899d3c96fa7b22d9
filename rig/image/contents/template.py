"""OpenBeken's pin roles from the parameters of Tuya's firmware (user_param_key): rl1_pin 24 becomes P24 Rel.

A parameter's level says how the pin works: rl1_lv 1 is a relay that a high level switches on, bt1_lv 0 a button
that pulls its pin low, netled_lv 0 a light that a low level switches on. Source of the names and their meaning: the
template maker of OpenBeken's flash tool (TuyaConfig.cs, 2026; without a level it takes relays as high, buttons as
low and the Wi-Fi light as inverted, as is done here), and its list of devices, where those of the same makers agree.
Of lights, colours go to channels 1 to 5 in the order red, green, blue, cool, warm, where its light driver looks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rig.image.contents.openbeken import CHANNELS, PINS, PinRole
from rig.image.contents.openbeken_names import ROLE_NUMBERS
from rig.image.contents.tuya import TuyaStorage


@dataclass(frozen=True)
class PinTemplate:
    """Pin roles, what could not be taken over or needs a person's eye (`notes`, sentences), and a start-up command
    that belongs to them, "" where none does."""

    pins: tuple[PinRole, ...]
    notes: tuple[str, ...]
    startup: str


@dataclass(frozen=True)
class _Rule:
    """A parameter that is a pin: its role with a high level and with a low one, and which is taken without a level.
    `channel`: where the name has no number; None: the role needs none."""

    pattern: str
    high: str
    low: str
    level: int = 1
    channel: int | None = 1

    def role(self, level: int) -> str:
        return self.high if level else self.low


# In the order in which they win a pin that two of them name.
_RULES = (
    _Rule(r"rl(\d*)_pin|rl", "Rel", "Rel_n"),
    _Rule(r"total_bt_pin", "Btn_Tgl_All_n", "Btn_Tgl_All", 0, None),
    _Rule(r"bt(\d*)_pin|k(\d+)pin_pin|bt|reset_pin", "Btn_n", "Btn", 0),
    _Rule(r"r_pin", "PWM", "PWM_n", channel=1),
    _Rule(r"g_pin", "PWM", "PWM_n", channel=2),
    _Rule(r"b_pin", "PWM", "PWM_n", channel=3),
    _Rule(r"c_pin", "PWM", "PWM_n", channel=4),
    _Rule(r"w_pin", "PWM", "PWM_n", channel=5),
    _Rule(r"led(\d+)_pin|led_pin|backlit_io_pin", "LED", "LED_n"),
    _Rule(r"netled\d*_pin|wfst|wfst_pin|status_led_pin", "WifiLED", "WifiLED_n", 0, None),
    _Rule(r"door(\d+)_magt_pin|gate_sensor_pin_pin|basic_pin_pin", "dInput", "dInput"),
    _Rule(r"onoff(\d+)", "TglChanOnTgl", "TglChanOnTgl"),
    _Rule(r"ele_pin|epin", "BL0937CF", "BL0937CF", channel=None),
    _Rule(r"vi_pin|ivpin", "BL0937CF1", "BL0937CF1", channel=None),
    _Rule(r"sel_pin_pin|ivcpin", "BL0937SEL", "BL0937SEL", channel=None),
    _Rule(r"samp_pin", "BAT_ADC", "BAT_ADC", channel=None),
    _Rule(r"samp_sw_pin", "BAT_Relay", "BAT_Relay", channel=None),
    _Rule(r"irpin|infrr", "IRRecv", "IRRecv", channel=None),
    _Rule(r"infre", "IRSend", "IRSend", channel=None),
    _Rule(r"remote_io", "RCRecv", "RCRecv", channel=None),
)


@dataclass(frozen=True)
class _LightChip:
    """A light driver on two wires. `signs`: parameters that only its devices have; `rgb`, `white`: the parameters of
    its currents in mA."""

    name: str
    data: str
    clock: str
    signs: tuple[str, ...]
    rgb: tuple[str, ...]
    white: tuple[str, ...]


_LIGHT_CHIPS = (
    _LightChip("SM2135", "SM2135DAT", "SM2135CLK", ("ehccur", "wampere", "iicccur"), ("ehccur", "iicccur", "campere"),
               ("ehwcur", "iicwcur", "wampere")),
    _LightChip("BP5758D", "BP5758D_DAT", "BP5758D_CLK", ("dccur",), ("drgbcur",), ("dwcur", "dccur")),
    _LightChip("BP1658CJ", "BP1658CJ_DAT", "BP1658CJ_CLK", ("cjwcur",), ("cjccur",), ("cjwcur",)),
    _LightChip("SM2235", "SM2235DAT", "SM2235CLK", ("2235ccur",), ("2235ccur",), ("2235wcur",)),
    _LightChip("KP18058", "KP18058_DAT", "KP18058_CLK", ("kp58wcur",), ("kp58wcur",), ("kp58ccur",)),
)  # fmt: skip
_LIGHT_WIRES = ("iicsda", "iicscl")
_LIGHT_ORDER = ("iicr", "iicg", "iicb", "iicc", "iicw")
_SAYS_NOTHING = {"crc", "jv", "module", "Jsonver", "ch_num"}  # checksum, format, and what is said elsewhere
_UNMAPPED_PIN = re.compile(r"pin$|_io$|^mic|^buzzer|^iic|^mosi$|^miso$|^SCL$|^CS$|^rl_o(?:n|ff)\d*_pin$")
_LATCHING = re.compile(r"rl_o(?:n|ff)\d*_pin")
_DATA_POINT = re.compile(r"dp(?:id)?\d*$")


def pin_template(storage: TuyaStorage) -> PinTemplate:
    """The roles that these parameters mean. Never raises: what it cannot take over is in the notes."""
    made = _Made(dict(storage.pins))
    for rule in _RULES:
        for key in sorted(made.left):
            found = re.fullmatch(rule.pattern, key)
            if found:
                made.add(rule, key, found)
    _light_chip(made)
    _mcu(made, storage)
    _shared_pins(made)
    _rest(made)
    pins = tuple(made.pins[pin] for pin in sorted(made.pins))
    commands = "; ".join(made.startup)
    startup = f"backlog {commands}" if len(made.startup) > 1 else commands
    return PinTemplate(pins, tuple(made.notes), startup)


class _Made:
    """A template in the making; `left`: the parameters not looked at yet."""

    def __init__(self, parameters: dict[str, int | str]) -> None:
        self.left = parameters
        self.pins: dict[int, PinRole] = {}
        self.names: dict[int, str] = {}  # of the parameter that gave a pin its role
        self.notes: list[str] = []
        self.startup: list[str] = []

    def add(self, rule: _Rule, key: str, found: re.Match[str]) -> None:
        value = self.left.pop(key)
        level = self.left.pop(f"{key.removesuffix('_pin')}_lv", rule.level)
        number = next((group for group in found.groups() if group), None)
        channel = 0 if rule.channel is None else int(number) if number else rule.channel
        if channel >= CHANNELS:
            self.notes.append(f"{key} = {value}: OpenBeken has no channel {channel}")
            return
        self.put(key, value, rule.role(rule.level if level not in (0, 1) else int(level)), channel)

    def put(self, key: str, value: int | str, role: str, channel: int) -> None:
        if not isinstance(value, int) or not 0 <= value < PINS:
            self.notes.append(f"{key} = {value} is no pin of this chip (P0 to P{PINS - 1}): not taken over")
        elif value in self.pins:
            self.notes.append(
                f"{key} = {value} not taken over: P{value} is {self.pins[value].name} already, by {self.names[value]}"
            )
        else:
            self.pins[value] = PinRole(value, ROLE_NUMBERS[role.lower()], channel)
            self.names[value] = key


def _light_chip(made: _Made) -> None:
    if not all(wire in made.left for wire in _LIGHT_WIRES):
        return
    chip = next((chip for chip in _LIGHT_CHIPS if any(sign in made.left for sign in chip.signs)), None)
    if chip is None:
        made.notes.append("a light driver hangs on iicsda and iicscl, but which chip it is its currents do not say")
        return
    for wire, role in zip(_LIGHT_WIRES, (chip.data, chip.clock), strict=True):
        made.put(wire, made.left.pop(wire), role, 0)
    rgb, white = (
        max((int(value) for name in names if isinstance(value := made.left.pop(name, None), int)), default=1)
        for names in (chip.rgb, chip.white)
    )
    made.startup.append(f"{chip.name}_Current {rgb} {white}")
    order = [made.left.pop(name, -1) for name in _LIGHT_ORDER]
    if all(isinstance(place, int) for place in order):
        made.startup.append("LED_Map " + " ".join(str(place) for place in order))


def _mcu(made: _Made, storage: TuyaStorage) -> None:
    """A device whose own controller has the pins, and talks over UART1."""
    baud = storage.device.get("baud", "")
    if any(pin.name.startswith(("Rel", "PWM", "LED")) for pin in made.pins.values()) or made.startup:
        if baud:
            made.notes.append(f"a baud rate is set ({baud}): a TuyaMCU or an energy meter hangs on UART1 besides")
        return
    if baud or "baud_cfg" in storage.keys:
        made.startup.append("startDriver TuyaMCU")
        made.notes.append(
            "a TuyaMCU device: its own controller has the pins, and OpenBeken talks to it over UART1 (P10, P11) by "
            "startDriver TuyaMCU; its data points have to be mapped to channels by hand (linkTuyaMCUOutputToChannel)"
        )
        if baud.isdigit() and int(baud) != 9600:
            made.startup.append(f"tuyaMcu_setBaudRate {baud}")
    elif not made.pins:
        made.notes.append("no pins are named: a TuyaMCU device, or one whose firmware has them built in")


def _shared_pins(made: _Made) -> None:
    uart1 = [made.pins[pin] for pin in (10, 11) if pin in made.pins]
    if uart1:
        names = " and ".join(f"P{pin.pin} ({pin.name})" for pin in uart1)
        made.notes.append(
            f"{names}: UART1, which flashing goes through: a press, or a chip that drives it, disturbs flashing, and "
            "neither the UART console nor a TuyaMCU can be used with it"
        )
    if 0 in made.pins:
        made.notes.append(f"P0 ({made.pins[0].name}): UART2's TX: the boot log ends where this role begins")
    if any(pin.name == "RCRecv" for pin in made.pins.values()):
        made.notes.append("RCRecv: a radio remote's receiver; its codes have to be learned and mapped by hand")


def _rest(made: _Made) -> None:
    """Nothing of the parameters is dropped without a word."""
    left = {key: value for key, value in made.left.items() if key not in _SAYS_NOTHING}
    points = sorted(key for key in left if _DATA_POINT.search(key))
    for key in sorted(left):
        if _LATCHING.fullmatch(key):
            made.notes.append(f"{key} = {left.pop(key)}: one coil of a latching relay: choose BridgeFWD or BridgeREV")
        elif key not in points and _UNMAPPED_PIN.search(key):
            made.notes.append(f"{key} = {left.pop(key)}: a pin that no role is known for: not taken over")
    others = [f"{key} {left[key]}" for key in sorted(left) if key not in points]
    if points:
        made.notes.append(f"Tuya's cloud alone uses {', '.join(points)}: not taken over")
    if others:
        made.notes.append(f"settings of Tuya's firmware, not taken over: {', '.join(others)}")
