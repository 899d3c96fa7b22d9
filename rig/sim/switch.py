"""A stand-in for a converted switch in a network: OpenBeken's web page and its MQTT, with faults on demand.

It has no firmware and no radio: it says what OpenBeken 1.18.300 says, as its sources and the texts in its image have
it. The simulated boards execute the firmware and have no network; this has a network and executes nothing.

    python -m rig.sim.switch --broker 127.0.0.1:1883 --mac c8:47:8c:01:59:f7 --http 127.0.0.5:8080 [--fault NAME]
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

import typer

FAULTS: Final = {
    "never-joins": "it finds no network, and nobody hears of it",
    "own-access-point": "it opens an access point of its own instead of joining",
    "canned": "its web server answers Tasmota-style commands and no page",
    "watchdog": "its last reset was by its watchdog",
    "safe-mode": "it comes up in safe mode, which a boot that completes ends",
    "stuck-safe-mode": "it comes up in safe mode each time",
    "no-broker": "it joins and never comes to the broker",
    "no-discovery": "it never announces itself to Home Assistant",
    "broken-discovery": "what it announces has no command topic",
    "wrong-name": "it speaks under another topic",
    "wrong-page-name": "its page has another name",
    "forgets-name": "it takes a new name and has the old one after a restart",
    "stuck-relay": "its last relay is reported as it was, whatever it is told",
    "wrong-version": "it is another version",
}
_POWER, _RESTART, _WATCHDOG = 0, 1, 2
_WORDS = {_POWER: "Pwr", _RESTART: "Rbt", _WATCHDOG: "Wdt"}
_JOIN_S, _OWN_AP_S, _COMPLETE_S, _RESTART_S = 6.0, 6.0, 5.0, 3.0  # Source: OpenBeken's sources; joining is a guess
_OTHER_VERSION = "1.17.203"
# Constants in OpenBeken's answer to `Status 0` (Source: its sources): they say nothing of the device
_CANNED = {"StatusPRM": {"RestartReason": "HardwareWatchdog", "BootCount": 22}, "StatusSTS": {"UptimeSec": 7}}


@dataclass
class Switch:
    """One switch. `power(True)` boots it; `pace`: how many times faster than real it is."""

    broker: tuple[str, int]
    mac: str
    web: tuple[str, int]
    client: str = ""
    long_name: str = ""
    version: str = "1.18.300"
    relays: tuple[int, ...] = (1, 2)
    user: str = ""
    password: str = field(default="", repr=False)
    web_password: str = field(default="", repr=False)
    announces: bool = True
    pace: float = 1.0
    fault: str | None = None
    channels: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fault is not None and self.fault not in FAULTS:
            raise ValueError(f"there is no fault {self.fault!r}")
        digits = self.mac.replace(":", "").upper()
        self.client = self.client or f"obk{digits[-8:]}"
        self.long_name = self.long_name or f"OpenBK7231N_{digits[-8:]}"
        self.short_name = self.client
        self._saved_name = self.long_name
        if self.fault == "wrong-name":
            self.client = f"{self.client}_old"
        if self.fault == "wrong-page-name":
            self.long_name = self._saved_name = "OpenBK7231N_00000000"
        if self.fault == "wrong-version":
            self.version = _OTHER_VERSION
        self._guard = threading.RLock()
        self._cause = _POWER
        self._began = 0.0
        self._failures = 6 if self.fault in ("safe-mode", "stuck-safe-mode") else 0
        self._safe = False
        self._timers: list[threading.Timer] = []
        self._server: ThreadingHTTPServer | None = None
        self._mqtt: Any = None

    # -- power -----------------------------------------------------------------------------------------

    def power(self, on: bool) -> None:
        self._down()
        if on:
            self._boot(_WATCHDOG if self.fault == "watchdog" else _POWER)

    def __enter__(self) -> Switch:
        self.power(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.power(False)

    def _boot(self, cause: int) -> None:
        with self._guard:
            self._cause, self._began = cause, time.monotonic()
            self._safe = self._failures > 4  # Source: RESTARTS_REQUIRED_FOR_SAFE_MODE
            self.long_name = self._saved_name
            self.channels = dict.fromkeys(self.relays, 0)
            self._later(_COMPLETE_S, self._complete)
            if self._safe or self.fault == "own-access-point":
                self._later(_OWN_AP_S, self._serve)  # nobody but who joins that access point meets it
            elif self.fault != "never-joins":
                self._later(_JOIN_S, self._join)

    def _complete(self) -> None:
        with self._guard:
            if self.fault != "stuck-safe-mode":
                self._failures = 0

    def _join(self) -> None:
        self._serve()
        if self.fault not in ("no-broker", "canned"):
            self._to_broker()

    def _down(self) -> None:
        with self._guard:
            timers, self._timers = self._timers, []
            server, self._server = self._server, None
            client, self._mqtt = self._mqtt, None
        for timer in timers:
            timer.cancel()
        if server is not None:
            server.shutdown()
            server.server_close()
        if client is not None:
            client.on_message = client.on_connect = None
            if (line := client.socket()) is not None:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)  # as a device goes that loses its power: without a word
            threading.Thread(target=client.loop_stop, daemon=True).start()  # its thread takes up to a second to end

    def _restart(self) -> None:
        self._down()
        self._boot(_RESTART)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        timer = threading.Timer(seconds / self.pace, act)
        timer.daemon = True
        with self._guard:
            self._timers.append(timer)
        timer.start()

    # -- the web server --------------------------------------------------------------------------------

    def _serve(self) -> None:
        switch = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = switch.answer(self.path, self.headers.get("Authorization", ""))
                data = body.encode()
                self.send_response(status)
                self.send_header("Content-type", kind)
                self.send_header("Connection", "close")  # no length: OpenBeken sends none
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(self.web, Handler)
        server.daemon_threads = True
        with self._guard:
            self._server = server
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, target: str, authorization: str) -> tuple[int, str, str]:
        """Status, type and body of a GET."""
        if self.web_password:
            token = base64.b64encode(f"admin:{self.web_password}".encode()).decode()
            if authorization != f"Basic {token}":
                return 401, "text/html", ""
        parts = urlsplit(target)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/cm":
            return 200, "application/json", json.dumps(self._command(asked.get("cmnd", "")))
        if parts.path == "/index" and self.fault != "canned":
            if "restart" in asked:
                self._later(_RESTART_S, lambda: threading.Thread(target=self._restart, daemon=True).start())
            return 200, "text/html", self.page()
        return 404, "text/html", "Not found.<br/>"

    def page(self) -> str:
        with self._guard:
            name = html.escape(self.long_name)
            channels = ", ".join(f"Channel {number} = {value:.2f}" for number, value in sorted(self.channels.items()))
            told = [
                f"<!DOCTYPE html><html><head><title>{name}</title></head><body><h1>{name}</h1>",
                '<div id="changed"></div><div id="state">',
                f"<h5>{'' if self._safe else channels}</h5>",
                f"<h5>Cfg size: 3584, change counter: 3, ota counter: 0, incomplete boots: {self._failures}</h5>",
                "<h5>Wifi RSSI: Good (-48dBm)</h5>",
                f"<h5>Reboot reason: {self._cause} - {_WORDS[self._cause]}</h5>",
                f'<h5>MQTT State: <span style="color:green">{self._mqtt_state()}</span> RES: 0(ERR_OK)<br>',
            ]
            if self._safe:
                told.append("<h5 class='safe'>You are in safe mode (AP mode) because full reboot failed ")
                told.append(f"{self._failures} times. Pins, relays, etc are disabled.</h5>")
            uptime = int((time.monotonic() - self._began) * self.pace)
            told += [
                f"</div><br>Built on Aug  2 2026 19:38:07 version {self.version}",
                f'<br>Online for&nbsp;<span id="onlineFor" data-initial="{uptime}">-</span>',
                f"<br>Device MAC: {self.mac.upper()}",
                f"<br>Short name: {html.escape(self.short_name)}, Chipset BK7231N</body></html>",
            ]
            return "\n".join(told)

    def _mqtt_state(self) -> str:
        return "connected" if self._mqtt is not None and self._mqtt.is_connected() else "disconnected"

    def _command(self, text: str) -> dict[str, Any]:
        word, _, rest = text.partition(" ")
        if word.lower() == "status":
            return _CANNED
        if word.lower() == "friendlyname" and rest:
            with self._guard:
                self.long_name = rest.strip('"')
                if self.fault != "forgets-name":
                    self._saved_name = self.long_name
        elif word.lower() == "schedulehadiscovery":
            self._later(float(rest or 5), self._announce)
        return {word: rest}

    # -- MQTT ------------------------------------------------------------------------------------------

    def _to_broker(self) -> None:
        from paho.mqtt import client as paho
        from paho.mqtt import enums

        client = paho.Client(enums.CallbackAPIVersion.VERSION2, client_id=self.client)
        if self.user:
            client.username_pw_set(self.user, self.password)
        client.will_set(f"{self.client}/connected", "offline", retain=True)
        client.on_connect = self._connected
        client.on_message = self._heard
        with self._guard:
            self._mqtt = client
        client.connect_async(*self.broker, keepalive=10)
        client.loop_start()

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            return
        client.subscribe([(f"{self.client}/+/set", 1), (f"cmnd/{self.client}/+", 1), ("bekens_n/+/set", 1)])
        self._say("connected", "online", kept=True)
        self._say("ip", self.web[0])
        for what, text in (("host", self.short_name), ("build", self.version), ("mac", self.mac.upper())):
            self._say(what, text)
        for channel in self.relays:
            self._say(f"{channel}/get", str(self.channels[channel]))
        if self.announces:
            self._later(1.0, self._announce)

    def _say(self, what: str, text: str, *, kept: bool = False) -> None:
        client = self._mqtt
        if client is not None:
            client.publish(f"{self.client}/{what}", text, retain=kept)

    def _heard(self, client: Any, data: Any, message: Any) -> None:
        parts, payload = message.topic.split("/"), message.payload.decode("utf-8", "replace").strip()
        if parts[-1] != "set" or not parts[-2].isdecimal() or int(parts[-2]) not in self.channels:
            return
        channel, value = int(parts[-2]), int(payload == "1")
        stuck = self.fault == "stuck-relay" and channel == self.relays[-1]
        with self._guard:
            if self.channels[channel] == value:
                return  # only a change is reported
            if not stuck:
                self.channels[channel] = value
            shown = self.channels[channel]
        self._say(f"{channel}/get", str(shown))

    def _announce(self) -> None:
        client = self._mqtt
        if client is None or self.fault == "no-discovery":
            return
        unique = self.long_name.replace(" ", "_")
        for channel in self.relays:
            told = {
                "dev": {
                    "ids": [self.long_name], "name": self.short_name, "sw": self.version, "mf": "Beken Corporation",
                    "mdl": "BK7231N", "cu": f"http://{self.web[0]}/index",
                },
                "name": f"{channel}", "~": self.client, "avty_t": "~/connected", "pl_on": "1", "pl_off": "0",
                "uniq_id": f"{unique}_relay_{channel}", "qos": 1, "stat_t": f"~/{channel}/get",
                "cmd_t": f"~/{channel}/set",
            }  # fmt: skip
            if self.fault == "broken-discovery":
                del told["cmd_t"]
            client.publish(f"homeassistant/switch/{unique}_relay_{channel}/config", json.dumps(told), retain=True)


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(f"{text!r} is no HOST:PORT")
    return host, int(port)


def main(
    broker: Annotated[str, typer.Option(metavar="HOST:PORT", help="The MQTT broker.")],
    mac: Annotated[str, typer.Option(help="Its MAC, with colons.")],
    web: Annotated[str, typer.Option("--http", metavar="ADDRESS:PORT", help="Where its page answers.")],
    fault: Annotated[str | None, typer.Option(help=f"One of {', '.join(FAULTS)}.")] = None,
    version: Annotated[str, typer.Option(help="Its firmware's version.")] = "1.18.300",
    pace: Annotated[float, typer.Option(help="How many times faster than real it boots.")] = 1.0,
) -> None:
    """A stand-in switch until Ctrl-C: says what OpenBeken says, executes nothing."""
    if fault is not None and fault not in FAULTS:
        raise typer.BadParameter(f"there is no fault {fault!r}: {', '.join(FAULTS)}")
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # its threads leave them to us
    with Switch(_host_port(broker), mac.lower(), _host_port(web), version=version, pace=pace, fault=fault):
        print(f"A switch {mac} at http://{web}/index", flush=True)  # noqa: T201
        signal.sigwait(stops)


if __name__ == "__main__":
    typer.run(main)
