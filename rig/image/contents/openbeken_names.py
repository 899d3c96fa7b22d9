"""OpenBeken's numbers by name: pin roles and flags.

Source: new_pins.h (ioRole_t, OBK_FLAG_*) of OpenBeken's sources, and, number by number, the tables of names in the
program of OpenBeken 1.18.300 for BK7231N; numbers are never reused, so older versions know a beginning of each list.
"""

from __future__ import annotations

# A role's number is its place. The names are those of the firmware's own pages and commands; 0 has none there.
_ROLE_NAMES = """
    None Rel Rel_n Btn Btn_n LED LED_n PWM WifiLED WifiLED_n Btn_Tgl_All Btn_Tgl_All_n dInput dInput_n TglChanOnTgl
    dInput_NoPullUp dInput_NoPullUp_n BL0937SEL BL0937CF BL0937CF1 ADC SM2135DAT SM2135CLK BP5758D_DAT BP5758D_CLK
    BP1658CJ_DAT BP1658CJ_CLK PWM_n IRRecv IRSend Btn_NextColor Btn_NextColor_n Btn_NextDimmer Btn_NextDimmer_n
    AlwaysHigh AlwaysLow UCS1912_DIN SM16703P_DIN Btn_NextTemperature Btn_NextTemperature_n Btn_ScriptOnly
    Btn_ScriptOnly_n DHT11 DHT12 DHT21 DHT22 CHT83XX_SDA CHT83XX_SCK SHT3X_SDA SHT3X_SCK SoftSDA SoftSCL SM2235DAT
    SM2235CLK BridgeFWD BridgeREV Btn_SmartLED Btn_SmartLED_n DoorSnsrWSleep DoorSnsrWSleep_nPup BAT_ADC BAT_Relay
    TM1637_DIO TM1637_CLK BL0937SEL_n DoorSnsrWSleep_pd SGP_CLK SGP_DAT ADC_Button GN6932_CLK GN6932_DAT GN6932_STB
    TM1638_CLK TM1638_DAT TM1638_STB BAT_Relay_n KP18058_CLK KP18058_DAT DS1820_IO PWM_ScriptOnly PWM_ScriptOnly_n
    Counter_f Counter_r IRRecv_nPup StripState StripState_n HLW_8112_SCSN RCRecv RCRecv_nPup Btn_pd Btn_pd_n
    TglChanOnTgl_pd ShutterA ShutterB BtnShutterUp BtnShutterDown BL0939_SCLK BL0939_MOSI BL0939_MISO
"""
ROLES = tuple(_ROLE_NAMES.split())

# A flag's number is its place. The names are the sources' constants in lower case, their spelling put right.
_FLAG_NAMES = """
    mqtt-broadcast-led-params-together mqtt-broadcast-led-final-color mqtt-broadcast-self-state-per-minute
    led-raw-channels-mode led-force-show-rgbcw-controller cmd-enable-tcp-raw-putty-server btn-instant-touch
    mqtt-always-set-retain led-alternate-cw-mode sm2135-separate-modes mqtt-broadcast-self-state-on-connect slow-pwm
    led-remember-last-state http-pin-monitor ir-publish-received ir-allow-unknown led-broadcast-full-rgbcw
    led-autoenable-on-www-action led-smooth-transitions tuyamcu-always-publish-channels led-force-mode-rgb
    mqtt-retain-power-channels ir-publish-received-in-json led-autoenable-on-any-action led-emulate-cool-with-rgb
    power-allow-negative use-secondary-uart automatic-hass-discovery led-setting-white-rgb-enables-cw
    use-short-device-name-as-hostname do-tasmota-tele-publishes cmd-accept-uart-commands led-use-old-linear-mode
    publish-multiplied-values mqtt-hass-add-relays-as-lights not-publish-availability drv-disable-autostart
    wifi-fast-connect power-force-zero-if-relays-open mqtt-publish-all-channels mqtt-energy-in-kwh button-disable-all
    doorsensor-invert-state tuyamcu-use-queue http-disable-auth-in-safe-mode discovery-dont-merge-lights
    tuyamcu-store-raw-data tuyamcu-store-all-data power-invert-ac http-no-onoff-words mqtt-never-append-get
    wifi-enhanced-fast-connect
"""
FLAGS = tuple(_FLAG_NAMES.split())

ROLE_NUMBERS = {name.lower(): number for number, name in enumerate(ROLES)}
FLAG_NUMBERS = {name: number for number, name in enumerate(FLAGS)}


def role_name(number: int) -> str:
    """`Rel` for 1; `role 120` for a number this table does not know."""
    return ROLES[number] if 0 <= number < len(ROLES) else f"role {number}"


def flag_name(number: int) -> str:
    """`automatic-hass-discovery` for 27; `flag 60` for a number this table does not know."""
    return FLAGS[number] if 0 <= number < len(FLAGS) else f"flag {number}"
