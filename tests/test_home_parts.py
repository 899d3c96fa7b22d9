"""The parts of the check at home: pages, messages, addresses, its file, and how a job gets it."""

from __future__ import annotations

import itertools
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.bench.bench import read_bench
from rig.errors import BenchBlocked, UnitFailed, UsageProblem
from rig.home.check import check_interface
from rig.home.config import Home, HomeBroker, check_home, home_of, load_home
from rig.home.discovery import parse_discovery
from rig.home.http import NoAnswer, Web, is_near
from rig.home.page import parse_page
from rig.home.where import leased, plain, resolved
from rig.image.contents.openbeken_names import FLAG_NUMBERS
from rig.image.contents.provision import Mqtt, Provision, Wifi
from rig.line.home import guest_of, reach_brokers
from rig.line.job import Job, Stage, job_from_dict, job_to_dict
from rig.panel.logs import secrets_of
from rig.records import events
from rig.sim.switch import Switch
from tests.sim_process import rig_inside
from tests.test_batch_cli import StandIn, file, refused, run, table

__all__ = ["table"]
MAC = "c8:47:8c:01:59:f7"
SWITCH = Switch(("127.0.0.1", 1), MAC, ("127.0.0.2", 80))

# As OpenBeken 1.18.300 writes it: its texts, in its order, by its sources; values made up.
PAGE = """<!DOCTYPE html><html><head><title>Hall &amp; stairs</title><style></style></head>
<body><div id="main"><h1><a target="_blank" href="x">Hall &amp; stairs</a></h1>
<div id="changed"></div><div id="state"><table><tr><td class='on'>ON</td><td class='off'>OFF</td></tr></table>
<h5>Channel 1 = 1.00, Channel 2 = 0.00, 1 repeating events</h5>
<h5>Cfg size: 3584, change counter: 12, ota counter: 0, incomplete boots: 0</h5>
<h5>Chip temperature: 41.5&deg;C</h5><h5>Wifi RSSI: Good (-61dBm)</h5><h5>Reboot reason: 0 - Pwr</h5>
<h5>MQTT State: <span style="color:green">connected</span> RES: 0(ERR_OK)<br>MQTT ErrMsg:  <br></h5>
</div><form action="cfg"><input type="submit" value="Config"/></form> | <a>OpenBK</a><br>
Built on Aug  2 2026 19:38:07 version 1.18.300<br>Online for&nbsp;<span id="onlineFor" data-initial="14">-</span>
<br>Device MAC: C8:47:8C:01:59:F7<br>Short name: hall-1, Chipset BK7231N</div></body></html>"""


# -- its page ------------------------------------------------------------------------------------------------


def test_the_page_is_read() -> None:
    page = parse_page(PAGE)
    assert page is not None
    assert (page.name, page.short_name, page.mac, page.chipset) == ("Hall & stairs", "hall-1", MAC, "BK7231N")
    assert (page.version, page.cause, page.cause_said, page.uptime) == ("1.18.300", 0, "power-on", 14)
    assert dict(page.channels) == {1: 1.0, 2: 0.0}
    assert (page.incomplete_boots, page.rssi, page.mqtt, page.safe_mode) == (0, -61, "connected", False)
    safe = parse_page(
        PAGE.replace("</div><form", "<h5 class='safe'>You are in safe mode (AP mode) because</h5><form")
    )
    assert safe is not None
    assert safe.safe_mode


@pytest.mark.parametrize(("number", "said"), [(1, "restart"), (2, "watchdog"), (8, "data abort"), (11, "cause 11")])
def test_reset_causes(number: int, said: str) -> None:
    page = parse_page(PAGE.replace("Reboot reason: 0 - Pwr", f"Reboot reason: {number} - Unk"))
    assert page is not None
    assert page.cause_said == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<title>Tasmota</title>",
        json.dumps({"StatusPRM": {"RestartReason": "HardwareWatchdog", "BootCount": 22}}),
        PAGE.replace("Reboot reason", "Reason"),
        PAGE.replace("version 1", "1"),
    ],
)
def test_what_is_no_such_page(text: str) -> None:
    assert parse_page(text) is None


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([PAGE[at : at + 40] for at in range(0, len(PAGE), 40)]) | st.text(max_size=20)))
def test_any_text_is_a_page_or_none(parts: list[str]) -> None:
    page = parse_page("".join(parts))
    assert page is None or page.version


def test_the_stand_in_has_a_page_that_is_read_the_same() -> None:
    page = parse_page(SWITCH.page())
    assert page is not None
    assert (page.mac, page.name, page.short_name) == (MAC, "OpenBK7231N_8C0159F7", "obk8C0159F7")


# -- what it announces ---------------------------------------------------------------------------------------

SHORT = {
    "dev": {"ids": ["Hall"], "name": "hall-1"}, "~": "hall-1", "uniq_id": "Hall_relay_1", "stat_t": "~/1/get",
    "cmd_t": "~/1/set", "pl_on": "1", "pl_off": "0",
}  # fmt: skip
LONG = {
    "device": {"identifiers": ["Hall"], "name": "hall-1"}, "~": "hall-1", "unique_id": "Hall_relay_1",
    "state_topic": "hall-1/1/get", "command_topic": "hall-1/1/set", "payload_on": "1", "payload_off": "0",
}  # fmt: skip


def entity(told: object, topic: str = "homeassistant/switch/x/config") -> Any:
    return parse_discovery("homeassistant", topic, told if isinstance(told, str) else json.dumps(told))


def test_short_and_long_keys_say_the_same() -> None:
    assert entity(SHORT) == entity(LONG)
    found = entity(SHORT)
    assert (found.channel, found.command, found.on, found.off) == (1, "hall-1/1/set", "1", "0")
    assert (found.base, found.device, found.problems) == ("hall-1", "hall-1", ())


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("[1, 2]", "its message is no JSON object"),
        ("{", "its message is no JSON object"),
        (SHORT | {"uniq_id": ""}, "it has no uniq_id"),
        (SHORT | {"dev": {}}, "it belongs to no device"),
        (SHORT | {"stat_t": None}, "it has no stat_t"),
        ({key: value for key, value in SHORT.items() if key != "cmd_t"}, "it has no cmd_t"),
    ],
)
def test_what_home_assistant_could_not_use(told: object, problem: str) -> None:
    assert problem in entity(told).problems


@pytest.mark.parametrize(
    ("topic", "told"),
    [("homeassistant/status", "online"), ("other/switch/x/config", "{}"), ("homeassistant/switch/x/config", " ")],
)
def test_what_is_no_announcement(topic: str, told: str) -> None:
    assert entity(told, topic) is None


def test_a_sensor_is_no_relay() -> None:
    told = SHORT | {"stat_t": "~/rssi"}
    assert entity(told, "homeassistant/sensor/x/config").channel is None
    assert entity(SHORT | {"stat_t": "~/temp/get"}).channel is None
    for foreign in ("other/1/set", "~/+/set", "~/2/set", "cmnd/hall-1/1"):
        assert entity(SHORT | {"cmd_t": foreign}).channel is None, "another one's would be switched"


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*SHORT, *LONG]),
        st.none() | st.text(max_size=5) | st.integers() | st.just({"ids": 1}) | st.just([]),
    )
)
def test_any_message_is_an_entity(told: dict[str, Any]) -> None:
    assert entity(told) is not None


# -- where it is ---------------------------------------------------------------------------------------------


def test_leases_and_arp(tmp_path: Path) -> None:
    leases, arp = tmp_path / "leases", tmp_path / "arp"
    leases.write_text(f"1 {MAC} 192.168.7.20 * *\n\nduid x\n2 {MAC.upper()} 192.168.7.21 hall 01\n")
    assert leased(leases, MAC) == "192.168.7.21"
    assert leased(leases, "c8:47:8c:01:59:f8") is None
    assert leased(tmp_path / "none", MAC) is None
    assert leased(None, MAC) is None
    head = "IP address       HW type     Flags       HW address            Mask     Device\n"
    arp.write_text(f"{head}192.168.7.9 0x1 0x0 {MAC} * wlan1\n192.168.7.30 0x1 0x2 {MAC} * wlan1\n")
    assert resolved(MAC, arp) == "192.168.7.30"
    assert plain("C8-47-8C-01-59-F7") == plain(MAC) == "c8478c0159f7"


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("192.168.7.9", True),
        ("127.0.0.2", True),
        ("8.8.8.8", False),
        ("example.org", False),
        ("", False),
        ("::1", False),
    ],
)
def test_only_a_private_network_is_asked(address: str, near: bool) -> None:
    """Anybody at the broker could name another address."""
    assert is_near(address) is near
    if not near:
        with pytest.raises(NoAnswer, match="no address of a private network"):
            Web(address).get("/index")


@contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_a_page_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Drips(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.02)
            except OSError:
                pass

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Drips) as port:
        # a clock of its own: a byte counts as 25 s, and no byte comes too late by the real one
        monkeypatch.setattr("rig.home.http.time", SimpleNamespace(monotonic=itertools.count(0, 25).__next__))
        with pytest.raises(NoAnswer, match="not over after 60 s"):
            Web("127.0.0.1", port, timeout_s=60).get("/index")


def test_a_page_with_a_password() -> None:
    switch = Switch(("127.0.0.1", 1), MAC, ("127.0.0.2", 80), web_password="page-Passw0rd")

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, _, body = switch.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Page) as port:
        assert parse_page(Web("127.0.0.1", port, "page-Passw0rd").get("/index"))
        with pytest.raises(NoAnswer, match="asks for a password") as caught:
            Web("127.0.0.1", port, "another-one").get("/index")
        assert "another-one" not in str(caught.value)


def test_an_interface_that_is_not_up(tmp_path: Path) -> None:
    check_interface(None)
    (tmp_path / "wlan1").mkdir()
    (tmp_path / "wlan1" / "operstate").write_text("up\n")
    check_interface("wlan1", tmp_path)
    (tmp_path / "wlan1" / "operstate").write_text("down\n")
    with pytest.raises(BenchBlocked, match="wlan1 is down"):
        check_interface("wlan1", tmp_path)


# -- its file ------------------------------------------------------------------------------------------------

HOME = """
[home]
relays = [1, 2]
leases = "dnsmasq.leases"

[home.wifi]
ssid = "rig-station"
password = { file = "wifi.secret" }

[home.broker]
host = "192.168.7.1"
user = "station"
password = { env = "RIG_TEST_BROKER" }
"""


def home_file(folder: Path, text: str = HOME) -> Path:
    secret = folder / "wifi.secret"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    (folder / "home.toml").write_text(text)
    return folder / "home.toml"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIG_TEST_BROKER", "br0ker-Passw0rd")


@pytest.mark.usefixtures("secrets")
def test_a_home_file(tmp_path: Path) -> None:
    home = load_home(home_file(tmp_path))
    assert home.relays == (1, 2)
    assert home.lease_file == tmp_path / "dnsmasq.leases"
    assert home.secrets() == ("br0ker-Passw0rd", "correct horse battery")
    for shown in (repr(home), home.model_dump_json()):
        assert "correct horse" not in shown
        assert "br0ker" not in shown
    told = home.as_provision()
    assert told is not None
    config = told.config("SN1", MAC, None)
    assert (config.ssid, config.password, config.mqtt_host) == ("rig-station", "correct horse battery", "192.168.7.1")
    assert (config.mqtt_user, config.mqtt_password) == ("station", "br0ker-Passw0rd")
    assert FLAG_NUMBERS["automatic-hass-discovery"] in config.flags


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("relays", "relais"), "unknown key 'home.relais'; did you mean 'relays'?"),
        (("[1, 2]", "[64]"), "63 or less"),
        (('{ file = "wifi.secret" }', '"secret in clear"'), "a secret never stands in this file"),
        (("[home.broker]", "[home.brokers]"), "unknown key 'home.brokers'"),
    ],
)
def test_a_mistake_in_it_is_one_sentence(tmp_path: Path, wrong: tuple[str, str], said: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        load_home(home_file(tmp_path, HOME.replace(*wrong)))
    assert "home.toml" in str(caught.value)
    assert said in str(caught.value)
    assert "in clear" not in str(caught.value)


def test_secrets_that_are_missing_or_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = load_home(home_file(tmp_path))
    monkeypatch.delenv("RIG_TEST_BROKER", raising=False)
    with pytest.raises(UsageProblem, match=r"\[home\] \(broker\.password\) is to come from the environment's"):
        home.secrets()
    monkeypatch.setenv("RIG_TEST_BROKER", "br0ker-Passw0rd")
    (tmp_path / "wifi.secret").chmod(0o644)
    with pytest.raises(UsageProblem, match="others can read"):
        home.secrets()


def simple(**more: Any) -> Home:
    return Home(broker=HomeBroker(host="192.168.7.1"), **more)


def test_units_must_come_to_that_network_and_broker() -> None:
    wifi, mqtt = Wifi(ssid="customer", ssid2="rig-station"), Mqtt(host="192.168.7.1")
    own = simple(wifi=Wifi(ssid="rig-station"))
    assert check_home(own, Provision(wifi=wifi, mqtt=mqtt), converts=True) == ()
    assert check_home(simple(), Provision(wifi=wifi, mqtt=mqtt), converts=True) == ()
    assert check_home(simple(), None, converts=False) == ()
    with pytest.raises(UsageProblem, match="nothing tells them which"):
        check_home(simple(), None, converts=True)
    with pytest.raises(UsageProblem, match="the provisioning names none"):
        check_home(own, Provision(wifi=wifi), converts=True)
    with pytest.raises(UsageProblem, match=r"'rig-station' by .* sends units to 'customer'"):
        check_home(own, Provision(wifi=Wifi(ssid="customer"), mqtt=mqtt), converts=True)


def test_a_products_own_home_counts_unless_a_file_or_nothing_is_asked_for(tmp_path: Path) -> None:
    own, path = simple(), home_file(tmp_path)
    assert home_of(own, None) is own
    assert home_of(own, path) == load_home(path)
    assert home_of(own, None, off=True) is None
    with pytest.raises(UsageProblem, match="one of the two"):
        home_of(own, path, off=True)


def test_what_a_unit_should_be_called() -> None:
    guest = guest_of(simple(), None, "SN1", MAC, "1.18.300")
    assert guest.expected.client == guest.expected.short_name == "obk8C0159F7"
    assert (guest.expected.long_name, guest.expected.version, guest.name) == (
        "OpenBK7231N_8C0159F7",
        "1.18.300",
        None,
    )
    provision = Provision(
        name="Hall {serial}", short_name="hall-{serial}", pins="tuya", mqtt=Mqtt(host="b", client="dev-{mac6}")
    )
    guest = guest_of(simple(name="Lamp {serial}"), provision, "7", MAC, None)
    assert (guest.expected.client, guest.expected.short_name) == ("dev-0159F7", "hall-7")
    assert (guest.expected.long_name, guest.name) == ("Hall 7", "Lamp 7")
    with pytest.raises(UnitFailed, match="MAC is not known") as caught:
        guest_of(simple(), None, "SN1", None, None)
    assert caught.value.code == "home-wrong-name"


# -- how a job gets it ---------------------------------------------------------------------------------------


@pytest.fixture
def simulated(table: Path) -> Path:
    """A bench that says it is simulated."""
    bench = table / "bench.toml"
    bench.write_text(bench.read_text().replace('name = "t"\n', 'name = "t"\nsimulated_speed = 20.0\n'))
    return table


@pytest.mark.usefixtures("secrets")
def test_a_conversion_gets_a_last_stage(simulated: Path) -> None:
    home_file(simulated, HOME.replace("[home.wifi]\n", "").replace('ssid = "rig-station"\n', "").replace(
        'password = { file = "wifi.secret" }\n', ""))  # fmt: skip
    job = run(simulated, "convert", "--home", "home.toml")[0].job
    assert [stage.task for stage in job.stages] == ["convert", "home"]
    assert job.stages[1].image == job.stages[0].image
    assert job.stages[1].image_sha256
    assert job.secrets == ("br0ker-Passw0rd",)
    named = file(simulated, home="home.toml", image="demo.bin")
    job = run(simulated, "convert", "--batch", named)[0].job
    assert [stage.task for stage in job.stages] == ["convert", "home"]
    assert job.home == simulated / "home.toml"
    told = job_to_dict(job)
    assert "br0ker" not in json.dumps(told)
    assert job_from_dict(told) == replace(job, secrets=())
    started = events.RunStarted(
        run="r",
        command="",
        station="",
        bench="",
        simulated=True,
        product="ds-121",
        job=told,
        tasks=["convert", "home"],
    )
    assert secrets_of(started) == ("br0ker-Passw0rd",)
    assert "'batch.home'" in refused_now(simulated, "convert", "--batch", named, "--home", "home.toml")
    job = run(simulated, "run", "home", "--home", "home.toml", "--serial", "SN1")[0].job
    assert [stage.task for stage in job.stages] == ["home"]
    for words in ((), ("--no-home",)):
        assert [stage.task for stage in run(simulated, "convert", *words)[0].job.stages] == ["convert"]


def refused_now(folder: Path, *words: str) -> str:
    """As `refused`, after runs that were good."""
    StandIn.seen = []
    before = sorted((folder / "runs").iterdir()) if (folder / "runs").exists() else []
    done = rig_inside(*words, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert not StandIn.seen
    assert (sorted((folder / "runs").iterdir()) if (folder / "runs").exists() else []) == before
    return done.stderr.strip()


@pytest.mark.usefixtures("secrets")
def test_what_is_refused_before_the_start(table: Path) -> None:
    home_file(table)
    assert "provisioning writes OpenBeken's configuration" in refused(table, "convert", "--home", "home.toml")
    assert "only OpenBeken is met at home" in refused(table, "run", "home", "--home", "home.toml")
    assert "which network are units met in? --home FILE" in refused(table, "run", "home")
    for words in (("--home", "home.toml"), ("--no-home",)):
        assert "--home is for a conversion" in refused(table, "run", "verify", *words)
    assert "no home file at" in refused(table, "convert", "--home", "none.toml")


def test_a_broker_is_reached_before_the_first_board(simulated: Path) -> None:
    """On a bench where something can be met; with nobody to meet it is not asked."""
    pytest.importorskip("paho.mqtt")
    path = simulated / "home.toml"
    path.write_text('[home]\n[home.broker]\nhost = "127.0.0.1"\nport = 1\n')
    bench = read_bench(simulated / "bench.toml")
    slots, job = [*bench.slots.values()], Job(("1",), (Stage("home"),), home=path)
    reach_brokers(bench, slots, job)
    path.write_text(path.read_text().replace("[home]\n", "[home]\nstand_in = true\n"))
    with pytest.raises(BenchBlocked, match=r"127\.0\.0\.1:1 cannot be reached"):
        reach_brokers(bench, slots, job)
    reach_brokers(bench, slots, replace(job, stages=(Stage("convert"),)))
