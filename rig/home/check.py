"""A converted unit as its user will meet it: it joins, its page answers, it announces itself, its relays follow, it
has its name. Everything is what the unit says over the network: no contact of a relay is measured.

What was said before the unit got its power counts for nothing: a broker keeps what a device said in an earlier life.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rig.errors import BenchBlocked, UnitFailed
from rig.home.config import Home
from rig.home.discovery import Entity, parse_discovery
from rig.home.http import NoAnswer, Web, is_near
from rig.home.mqtt import Broker, Message
from rig.home.page import POWER_ON, RESTARTED, Page, parse_page
from rig.home.where import leased, plain, resolved

_OWN_AP = "its own access point"
_LOOK_S = 0.4  # between two looks for an address
_OWN_AP_S = 8.0  # choice: so long nothing, and its own access point is asked; OpenBeken opens one after 5 s
_UNASKED_S = 5.0  # choice: it announces itself a second or two after it has an address
_SETTLED_S = 1.5  # no further entity for so long: all are there (OpenBeken sends several a second)
_SAVED_S = 2.0  # it saves its configuration once a second (Source: its sources): cut off before, the name is lost
_UP_S = 6  # seconds of uptime by which a boot counts as complete: 5 (Source: OpenBeken's default)


@dataclass(frozen=True)
class Expected:
    """What the unit should be. `mac` None: it is known by its topic only. `version` None: any."""

    client: str
    short_name: str
    long_name: str
    mac: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Joined:
    """Where it is reached, how that was found out, and seconds since its power came."""

    address: str
    found_by: str
    seconds: float


@dataclass(frozen=True)
class Switched:
    """One relay that followed, both ways: seconds of the slower one, from command to report."""

    channel: int
    seconds: float


class HomeCheck:
    """The checks, in their order: `begin` before power, `join`, `look`, `announced`, `relays`, `named`.

    Each raises UnitFailed with a code of its own; BenchBlocked where broker or access point are to blame. `note`
    takes what is worth recording; `restart` starts the unit anew (its page is asked to, where that is None).
    """

    def __init__(
        self,
        home: Home,
        broker: Broker,
        expected: Expected,
        *,
        password: str = "",
        note: Callable[[str], None] = lambda text: None,
        restart: Callable[[], None] | None = None,
    ) -> None:
        self.home, self.expected = home, expected
        self.page: Page | None = None
        self.joined: Joined | None = None
        self.entities: tuple[Entity, ...] = ()
        self.base = expected.client
        self._broker, self._password, self._note, self._restart = broker, password, note, restart
        self._since, self._began = broker.now, time.monotonic()
        self._causes = {POWER_ON}

    def begin(self) -> None:
        """From here on counts what is said: right before the unit gets its power."""
        check_interface(self.home.interface)
        self._since, self._began = self._broker.now, time.monotonic()

    def powered(self, mono_ns: int) -> None:
        """When that was, for how long it took to join."""
        self._began = mono_ns / 1e9

    # -- it joins, and answers -------------------------------------------------------------------------

    def join(self) -> Joined:
        """Until its page answers at an address that is its own. UnitFailed("home-no-join"), ("home-no-page")."""
        deadline, said, pages = time.monotonic() + self.home.join, dict[str, str](), dict[str, Page]()
        while True:
            for address, how in self._addresses():
                try:
                    page = parse_page(self._web(address).get("/index"))
                except NoAnswer as problem:
                    said[address] = str(problem)
                    continue
                if page is None:
                    said[address] = "/index is not OpenBeken's page"
                elif not self._is_own(page):
                    said.pop(address, None)
                elif how == _OWN_AP and not page.safe_mode:
                    pages[address] = page
                else:
                    self.page = page
                    self.joined = Joined(address, how, time.monotonic() - self._began)
                    return self.joined
            if time.monotonic() > deadline:
                raise self._never_joined(said, pages)
            self._broker.wait_for(_of_address, self._broker.now, _LOOK_S)

    def _never_joined(self, said: dict[str, str], pages: dict[str, Page]) -> UnitFailed:
        waited = f"within {self.home.join:g} s"
        if pages:
            return UnitFailed(
                "home-no-join",
                f"it did not join {waited}: it opened its own access point instead, so it knows no network",
            )
        said.pop(self.home.own_ap, None)
        if not said:
            check_interface(self.home.interface)
            return UnitFailed("home-no-join", f"it was not seen in the network {waited}: no message, lease or ARP")
        address, why = next(iter(said.items()))
        canned = self._canned(address)
        return UnitFailed("home-no-page", f"it is at {address}, and its page never answered {waited} ({why}){canned}")

    def _canned(self, address: str) -> str:
        """What there is to say where it answers something after all."""
        try:
            told = json.loads(self._web(address).command("Status 0"))
        except (NoAnswer, ValueError):
            return ""
        if not isinstance(told, dict):
            return ""
        return "; its `Status 0` answers, which proves nothing: reset cause and counters in it are constants"

    def _addresses(self) -> list[tuple[str, str]]:
        """Where it may be, and by what. Its topic is found on the way."""
        heard = self._broker.since(self._since)
        self.base = self._base(heard)
        found = {
            message.payload.strip(): "mqtt" for message in heard if message.topic == f"{self.base}/ip"
        }  # what it says itself, once it has one
        mac = self.expected.mac
        if mac is not None:
            if address := leased(self.home.lease_file, mac):
                found.setdefault(address, "lease")
            if address := resolved(mac):
                found.setdefault(address, "arp")
        if time.monotonic() - self._began > min(_OWN_AP_S, self.home.join / 2):
            found.setdefault(self.home.own_ap, _OWN_AP)
        return [(address, how) for address, how in found.items() if is_near(address)]

    def _base(self, heard: list[Message]) -> str:
        """The topic that it speaks under: that of the message with its MAC, else the one that it should have."""
        mac = self.expected.mac
        for message in heard:
            base, _, what = message.topic.partition("/")
            if mac is not None and what == "mac" and plain(message.payload) == plain(mac):
                return base
        return self.base

    def _is_own(self, page: Page) -> bool:
        mac = self.expected.mac
        return mac is None or page.mac is None or plain(page.mac) == plain(mac)

    def _web(self, address: str) -> Web:
        return Web(address, self.home.http_port, self._password)

    @property
    def _own_web(self) -> Web:
        assert self.joined is not None
        return self._web(self.joined.address)

    def _look_again(self) -> Page:
        """Its page as it is now. UnitFailed("home-no-page") where it does not answer any more."""
        why = "/index is not OpenBeken's page any more"
        for _ in range(3):  # one web server for all, on a small chip: it may be busy
            try:
                if (page := parse_page(self._own_web.get("/index"))) is not None:
                    self.page = page
                    return page
            except NoAnswer as problem:
                why = str(problem)
        raise UnitFailed("home-no-page", f"its page answered at first and does not any more ({why})")

    # -- what its page says ----------------------------------------------------------------------------

    def look(self) -> Page:
        """Version and reset cause, by its page; safe mode is left first. UnitFailed("home-safe-mode"),
        ("home-reset-cause"), ("home-version")."""
        page = self.page or self._look_again()
        if page.safe_mode:
            page = self._leave_safe_mode(page)
        if page.cause not in self._causes:
            raise UnitFailed(
                "home-reset-cause", f"it was switched on, and says that its last reset was: {page.cause_said}"
            )
        if self.expected.version is not None and page.version != self.expected.version:
            raise UnitFailed(
                "home-version", f"its page says version {page.version}, {self.expected.version} was written"
            )
        return page

    def _leave_safe_mode(self, page: Page) -> Page:
        self._note("it came up in safe mode: it is held until its boot completes, and started again")
        deadline = time.monotonic() + max(self.home.answer, _UP_S + 2)
        while (page.uptime or 0) < _UP_S and page.incomplete_boots != 0 and time.monotonic() < deadline:
            self._broker.wait_for(lambda new: None, self._broker.now, _LOOK_S)  # a boot cut short is one more
            page = self._look_again()
        self._again()
        left = self._look_again()
        if left.safe_mode:
            raise UnitFailed("home-safe-mode", "it is in safe mode, and a boot that completed did not end it")
        self._note("it left safe mode")
        return left

    def _again(self) -> None:
        """It starts anew, and joins again."""
        if self._restart is not None:
            self.begin()
            self._restart()
        else:
            before = self._look_again()
            self.begin()
            self._causes = {RESTARTED}
            try:
                self._own_web.get("/index?restart=1")
            except NoAnswer as problem:
                raise UnitFailed("home-no-page", f"it cannot be asked to restart: {problem}") from None
            self._wait_down(before)
        self.join()

    def _wait_down(self, before: Page) -> None:
        """Until it is gone, or has begun anew; it restarts a few seconds after it was asked to."""
        deadline = time.monotonic() + self.home.answer
        while time.monotonic() < deadline:
            try:
                page = parse_page(self._own_web.get("/index"))
            except NoAnswer:
                return
            if page is not None and (page.uptime or 0) < (before.uptime or 0):
                return
            self._broker.wait_for(lambda new: None, self._broker.now, _LOOK_S / 2)
        raise UnitFailed("home-no-page", "it was asked to restart, and does not")

    # -- it announces itself ---------------------------------------------------------------------------

    def announced(self) -> bool:
        """It is at the broker, under its own topic, and Home Assistant would find it. Whether it said so unasked.

        UnitFailed("home-no-mqtt"), ("home-wrong-name"), ("home-no-discovery")."""
        online = self._broker.wait_for(self._online, self._since, self.home.answer)
        if online is None:
            state = self._look_again().mqtt
            raise UnitFailed("home-no-mqtt", f"it is in the network and not at the broker; by its page: {state}")
        if self.base != self.expected.client:
            raise UnitFailed(
                "home-wrong-name", f"its topic at the broker is {self.base!r}, and should be {self.expected.client!r}"
            )
        asked = False
        patience = self.home.answer if self.home.discovery == "itself" else min(_UNASKED_S, self.home.answer)
        first = self._broker.wait_for(self._any_entity, self._since, patience)
        if first is None and self.home.discovery == "ask":
            asked = True
            self._tell("scheduleHADiscovery 1")
            first = self._broker.wait_for(self._any_entity, self._since, self.home.answer)
        if first is None:
            how = ", though it was asked to" if asked else " by itself"
            raise UnitFailed("home-no-discovery", f"it does not announce itself to Home Assistant{how}")
        self.entities = self._all_entities()
        for entity in self.entities:
            if entity.problems:
                what = f"{entity.component} {entity.unique_id}"
                raise UnitFailed(
                    "home-no-discovery", f"Home Assistant cannot use its {what}: {', '.join(entity.problems)}"
                )
        return not asked

    def _tell(self, command: str) -> None:
        try:
            self._own_web.command(command)
        except NoAnswer as problem:
            raise UnitFailed("home-no-page", f"it does not take a command: {problem}") from None

    def _online(self, heard: list[Message]) -> bool | None:
        self.base = self._base(heard)
        return next(
            (True for each in heard if each.topic == f"{self.base}/connected" and each.payload == "online"), None
        )

    def _entities(self, heard: list[Message]) -> tuple[Entity, ...]:
        prefix = self.home.broker.prefix
        found = (parse_discovery(prefix, message.topic, message.payload) for message in heard)
        own = {each.unique_id: each for each in found if each is not None and each.base == self.base}
        return tuple(own.values())

    def _any_entity(self, heard: list[Message]) -> bool | None:
        return True if self._entities(heard) else None

    def _all_entities(self) -> tuple[Entity, ...]:
        wanted = set(self.home.relays or ())
        deadline = time.monotonic() + self.home.answer
        while True:
            seen = self._broker.now
            found = self._entities(self._broker.since(self._since))
            there = {entity.channel for entity in found}
            wrong = any(entity.problems for entity in found)
            if wrong or (wanted and wanted <= there) or time.monotonic() > deadline:
                return found
            new = self._broker.wait_for(lambda new: True if new else None, seen, _SETTLED_S)
            if new is None and not wanted - there:
                return found

    # -- its relays follow -----------------------------------------------------------------------------

    def relays(self) -> list[Switched]:
        """Each relay switched over MQTT, the other way and back, its report and its page read.

        UnitFailed("home-relay") for one that does not follow, ("home-no-discovery") for one that is not there."""
        switches = {entity.channel: entity for entity in self.entities if entity.channel is not None}
        for channel in self.home.relays or ():
            if channel not in switches:
                raise UnitFailed("home-no-discovery", f"it does not announce its relay {channel}")
        wanted = sorted(switches) if self.home.relays is None else self.home.relays
        return [self._switch(channel, switches[channel]) for channel in wanted]

    def _switch(self, channel: int, entity: Entity) -> Switched:
        before = self._look_again().channels.get(channel)
        if before is None:
            raise UnitFailed("home-relay", f"its page does not tell the state of relay {channel}")
        on = before != 0  # only a change is reported
        slowest = 0.0
        for wanted in (not on, on):
            slowest = max(slowest, self._set(channel, entity, wanted))
        return Switched(channel, slowest)

    def _set(self, channel: int, entity: Entity, on: bool) -> float:
        """Seconds until it reported that the relay is as it was told to be."""
        payload, name = (entity.on, "on") if on else (entity.off, "off")
        since, began = self._broker.now, time.monotonic()
        self._broker.publish(entity.command, payload)

        def reported(heard: list[Message]) -> bool | None:
            last = [each.payload.strip() for each in heard if each.topic == entity.state]
            return True if last and last[-1] == payload else None

        if self._broker.wait_for(reported, since, self.home.answer) is None:
            last = [each.payload.strip() for each in self._broker.since(since) if each.topic == entity.state]
            said = f"it reports {last[-1]!r}" if last else "it reports nothing"
            raise UnitFailed("home-relay", f"relay {channel} was switched {name} over MQTT, and {said}")
        took = time.monotonic() - began
        if (self._look_again().channels.get(channel) != 0) != on:
            raise UnitFailed("home-relay", f"relay {channel} was reported {name}, and its page says otherwise")
        return took

    # -- its name --------------------------------------------------------------------------------------

    def named(self, name: str | None = None) -> Page:
        """Its names, by page and by discovery; `name`: set over the network first, and kept over a restart.

        UnitFailed("home-wrong-name")."""
        page = self._look_again()
        if name is not None:
            self.expected = replace(self.expected, long_name=name)
            if page.name != name:
                page = self._rename(name)
        told = [entity.device for entity in self.entities if entity.device]
        for what, is_, should in (
            ("its page is called", page.name, self.expected.long_name),
            ("its short name is", page.short_name, self.expected.short_name),
            ("Home Assistant knows it as", told[0] if told else None, self.expected.short_name),
        ):
            if is_ is not None and is_ != should:
                raise UnitFailed("home-wrong-name", f"{what} {is_!r}, and should be {should!r}")
        return page

    def _rename(self, name: str) -> Page:
        self._tell(f'FriendlyName "{name}"')
        deadline = time.monotonic() + self.home.answer
        while (page := self._look_again()).name != name:
            if time.monotonic() > deadline:
                raise UnitFailed("home-wrong-name", f"it was named {name!r}, and its page is called {page.name!r}")
            self._broker.wait_for(lambda new: None, self._broker.now, _LOOK_S)
        self._broker.wait_for(lambda new: None, self._broker.now, _SAVED_S)
        self._again()
        return self._look_again()


def _of_address(heard: list[Message]) -> bool | None:
    """Whether any device said where it is."""
    return True if any(message.topic.endswith(("/ip", "/mac")) for message in heard) else None


def check_interface(name: str | None, folder: Path = Path("/sys/class/net")) -> None:
    """BenchBlocked("access-point-down") where the interface of the access point is not there, or is down."""
    if name is None:
        return
    try:
        state = (folder / name / "operstate").read_text().strip()
    except OSError:
        raise BenchBlocked("access-point-down", f"there is no network interface {name}") from None
    if state not in ("up", "unknown"):
        raise BenchBlocked("access-point-down", f"the network interface {name} is {state}")
