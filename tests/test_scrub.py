"""Secrets do not get through, everything else does."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.scrub import HIDDEN, scrub

LOG_DIR = os.environ.get("RIG_LOG_DIR")
real_logs = pytest.mark.skipif(not LOG_DIR, reason="RIG_LOG_DIR names no folder of kept logs")

# What passwords are made of in practice; a space or bracket where the print's form allows it is tested by hand.
SECRETS = st.text("abcdefghijkmnopqrstuvwxyzABCDEFGH0123456789!#$%_-+", min_size=8, max_size=24).filter(
    lambda text: "***" not in text
)
PRINTS = [
    "Info:MAIN:Using Pass [{}]",
    "Info:MAIN:ssid:Net work key:{}",
    "Info:MAIN:ssid:OpenBK7231N_8C000000 key:{} mode:0",
    "Password1 {}",
    "Info:CMD:[WebApp Cmd 'backlog SSID1 net; Password1 {}; restart']",
    "mqtt_pass {}",
    "MqttPassword {}",
    '{{"ssid":"net","passwd":"{}","x":1}}',
    "/cfg_wifi_set?ssid=net&pass={}&x=1",
    "web_admin_password={}",
    "mqtt://user:{}@broker:1883",
    "psk: {}",
    'auzkey:"{}"',
    "local_key={}",
    "passwd:'{}'",
    "pwd {}",
    "key: {}",
    "password is {}",
    "Password is set to {}",
    "Authorization: Basic {}",
    '{{"Authorization":"Bearer {}"}}',
    "apikey={}",
    "api_key: '{}'",
    '{{\\"passwd\\":\\"{}\\"}}',
]
# Lines that hold no secret though they come near one.
HARMLESS = [
    "Info:MAIN:Using SSID [RIG_TEST_AP]",
    "Info:MAIN:Using Pass []",
    "Info:MAIN:ssid:OpenBK7231N_8C000000 key: mode:0",
    "[01-01 18:12:15 TUYA N][lr:0xcae5b] key_addr: 0x1ee000   block_sz 4096",
    "[01-01 18:12:15 TUYA N][lr:0x605df] wd key[wd_lock_mem] is null",
    "[01-01 18:12:18 TUYA N][lr:0xb4a33] wifi soc init. pid:key5ckdnys3pqgec firmwarekey:key5ckdnys3pqgec ver:1.3.5",
    "[KEY] - pin:8,\t io_drive:1,\t type:0,\t long_press:5000",
    "read stat:[KEY_TYPE]:2",
    "scan SSID: 74 75 79 61 5F 6D 64 65 76 5F 74 65 73 74 31 ",
    "Info:GEN:dhcp=0 ip=5.100.13.144 gate=5.100.13.1 mask=255.255.255.0 mac=c8:47:8c:10:60:6b",
    "password wrong",
    "password is wrong",
    "password is not set, using default",
    "password accepted",
    "pwd ok",
    "[KEY]: pressed",
    "key: pressed",
    "dev id key: 16",
    "bpsk: 5, qpsk: 7, passed: 3, bypass=1",
    "SVC:000000D3          00401C1C 000033AC",
]


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.sampled_from(PRINTS), SECRETS)
def test_no_secret_gets_through(form: str, secret: str) -> None:
    line = form.format(secret)
    text = f"V:BK7231N_1.0.1\n{line}\nbk_misc_init_start_type 0 0\n"
    shown = scrub(text)
    assert secret not in shown
    assert HIDDEN in shown
    assert shown.split("\n")[0] == "V:BK7231N_1.0.1"
    assert shown.split("\n")[2] == "bk_misc_init_start_type 0 0"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Using Pass [a]b c]", "Using Pass [***]"),
        ("Using Pass [cut of", "Using Pass [***"),
        ("Info:MAIN:ssid:My Net key:pass word 1", "Info:MAIN:ssid:My Net key:***"),
        ('"Password1":"hun\\"ter2","x":1', '"Password1":"***","x":1'),
        ("Password1 hunter2; restart", "Password1 ***; restart"),
        (
            "PSK (ASCII passphrase) - hexdump_ascii(len=8): 61 62",
            "PSK (ASCII passphrase) - hexdump_ascii(len=8): ***",
        ),
        ("dev id key: 16\nd4 1d 8c d9 8f 00 b2 04 \nx", "dev id key: 16\n*** \nx"),
        ("N][lr:0xcaf2b] get key:\n\n0xdb 0xe5 0xf5 0xde", "N][lr:0xcaf2b] get key:\n\n***"),
        ("Password: a b c", "Password: ***"),
        ("Password: hunter22 saved\nread hunter22", "Password: ***\nread ***"),
        ("wifi-pass [a b]", "wifi-pass [***]"),
        ("Password: [a b] saved", "Password: [***] saved"),
        ("password='it's me', x=1", "password='***', x=1"),
        ('"passwd":"a b","x":1', '"passwd":"***","x":1'),
        ("{ssid:net,passwd:a b c,x:1}", "{ssid:net,passwd:***,x:1}"),
        ("/cfg?ssid=net&pass=a%20b&x=1 HTTP", "/cfg?ssid=net&pass=***&x=1 HTTP"),
        ("password hunter22 is kept", "password *** is kept"),
        ("Authorization: Basic dXNlcjp4", "Authorization: Basic ***"),
        ("Using Pass [********]", "Using Pass [********]"),
        ("Using Pass [hunter22]\nsaved hunter22 to flash", "Using Pass [***]\nsaved *** to flash"),
    ],
)
def test_forms(line: str, shown: str) -> None:
    assert scrub(line) == shown


@pytest.mark.parametrize("line", HARMLESS)
def test_what_is_no_secret_stays(line: str) -> None:
    assert scrub(line) == line


def test_key_bytes_far_from_their_name_are_data() -> None:
    text = "get key:\n1\n2\n3\n4\nd4 1d 8c d9 8f 00\n"
    assert scrub(text) == text


def test_known_secrets_are_hidden_wherever_they_are() -> None:
    assert scrub("nothing says hush here", known=["hush"]) == "nothing says *** here"
    assert scrub("a\nb", known=["", "*", "**", "\n", " "]) == "a\nb"


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.lists(
        st.sampled_from([*PRINTS, *HARMLESS, "dev id key: 16", "d4 1d 8c d9 8f 00", "{}", "x{}pass: {}"]), max_size=8
    ),
    SECRETS,
)
def test_twice_is_once_and_lines_stay_lines(forms: list[str], secret: str) -> None:
    text = "\n".join(form.replace("{}", secret) for form in forms)
    shown = scrub(text)
    assert scrub(shown) == shown
    assert shown.count("\n") == text.count("\n")


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text("pas swdk:=[]*\"'\\{},;&@/e0 1\n", max_size=80), st.lists(st.text("pas*:k", max_size=4), max_size=3))
def test_any_text_ends_and_twice_is_once(text: str, known: list[str]) -> None:
    shown = scrub(text, known)
    assert scrub(shown, known) == shown
    assert shown.count("\n") == text.count("\n")


@real_logs
def test_real_logs_lose_their_secrets_and_nothing_else() -> None:
    changed = 0
    for path in sorted(Path(str(LOG_DIR)).rglob("*")):
        if path.suffix not in (".txt", ".log"):
            continue
        text = path.read_text()
        shown = scrub(text)
        assert "rigtest1234" not in shown
        assert not re.search(r"(?:0x[0-9a-f]{2} ){16}|d4 1d 8c d9", shown)
        differing = [pair for pair in zip(text.split("\n"), shown.split("\n"), strict=True) if pair[0] != pair[1]]
        assert all(HIDDEN in after for _, after in differing)
        changed += len(differing)
    assert changed == 5
