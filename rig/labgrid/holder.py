"""Runs in labgrid's environment, never in the rig's: takes a place, holds it, gives it back.

    python holder.py ADDRESS PLACE MARKER      lines of JSON out; one line in: "acquire"; end of input: give it back

It is a process of its own so that the place is given back whatever becomes of the rig. MARKER is a file that stands
while a place that this took may be held: what is left of one says that nobody gave it back.

Out: {"event": "found", "resources": […], "acquired": …}, then on "acquire" {"event": "acquired", "ours": bool,
"resources": […]}; {"event": "error", "text": …} ends it. Later {"event": "lost"} when the coordinator goes away,
{"event": "back"} once the place is ours again, {"event": "taken", "by": …}. At last {"event": "released"}.
Written against labgrid 26.0, `remote/client.py`: a place stays acquired when its client goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

_AGAIN_S = 1.0  # between two tries to reach a coordinator that went away
_ANSWER_S = 15.0  # a call to the coordinator: it asks its exporters, which start ser2net
_CONNECT_S = 15.0


class Refused(Exception):
    """One sentence."""


def tell(event: str, **more: Any) -> None:
    with contextlib.suppress(OSError):  # the rig is gone: the place is given back all the same
        os.write(1, (json.dumps({"event": event, **more}) + "\n").encode())


class Holder:
    def __init__(self, address: str, place: str, marker: Path) -> None:
        import grpc.aio  # type: ignore[import-not-found, import-untyped, unused-ignore]
        import labgrid.remote.client as client  # type: ignore[import-not-found]
        import labgrid.remote.generated.labgrid_coordinator_pb2 as messages  # type: ignore[import-not-found]
        from labgrid.util.proxy import proxymanager  # type: ignore[import-not-found]

        self._client, self._messages, self._failed = client, messages, grpc.aio.AioRpcError
        self._address = proxymanager.get_grpc_address(address, default_port=20408)
        self._name, self._said, self._marker = place, address, marker
        self._session: Any = None
        self._ours = False  # taken by this, so to be given back
        self._paths: set[tuple[str, ...]] = set()  # of the slots that the place had when it was taken

    async def connect(self) -> None:
        session = self._client.ClientSession(self._address, asyncio.get_running_loop())
        try:
            await asyncio.wait_for(session.start(), _CONNECT_S)
        except (self._client.Error, TimeoutError):
            await self._leave(session)
            raise Refused(f"no labgrid coordinator answers at {self._said}") from None
        self._session = session

    async def _leave(self, session: Any) -> None:
        session.stopping.set()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(session.stop(), 2)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(session.close(), 2)

    async def leave(self) -> None:
        if self._session is not None:
            await self._leave(self._session)

    @property
    def place(self) -> Any:
        place = self._session.places.get(self._name)
        if place is None:
            known = ", ".join(sorted(self._session.places)) or "none"
            raise Refused(
                f"the labgrid coordinator at {self._said} knows no place {self._name!r} (it knows {known}): "
                f"labgrid-client -p {self._name} create, then add-match"
            )
        return place

    @property
    def me(self) -> str:
        return f"{self._session.gethostname()}/{self._session.getuser()}"

    def resources(self) -> list[dict[str, Any]]:
        """What the place matches, named as it names it."""
        found, place = [], self.place
        for exporter, named in sorted(self._session.resources.items()):
            for group, members in sorted(named.items()):
                for name, entry in sorted(members.items()):
                    if not entry.data or not (match := place.getmatch((exporter, group, entry.cls, name))):
                        continue
                    found.append(
                        {
                            "exporter": exporter,
                            "group": group,
                            "name": match.rename or name,
                            "cls": entry.cls,
                            "avail": entry.avail,
                            "params": dict(entry.args),
                            "extra": dict(entry.extra),
                        }
                    )
        return found

    async def acquire(self, *, again: bool = False) -> None:
        """Ours, or Refused. One that this user had already is used, and given back only where MARKER says that it was
        taken here before."""
        holder, left = self.place.acquired, self._marker.exists()
        if holder is not None and holder != self.me:
            raise Refused(f"place {self._name} is acquired by {holder}: wait until it is released")
        if holder is None:
            self._ours = True
            self._marker.touch()
            await self._call("AcquirePlace", self._messages.AcquirePlaceRequest(placename=self._name))
        else:
            self._ours = left or again
        if not again:
            self._paths = _slots(self.resources())

    async def again(self) -> bool:
        """After the coordinator went away: whether it is there, with all that the place had, and whose that is."""
        try:
            await self.connect()
        except Refused:
            return False
        try:
            if not self._paths <= _slots(self.resources()):
                raise Refused("not all of it is there yet")  # its exporter comes a little later
            holder = self.place.acquired
            if holder is not None and holder != self.me:
                self._ours = False
                self._marker.unlink(missing_ok=True)
                tell("taken", by=holder)
            else:
                await self.acquire(again=True)
                tell("back")
            return True
        except (Refused, TimeoutError):
            await self.leave()
            return False

    async def release(self) -> None:
        """Given back, where it is ours. Where no coordinator answers the marker stays: one that was restarted has
        forgotten who had what, of one that was cut off the next run takes the place over."""
        if not self._ours or self._session is None:
            return
        with contextlib.suppress(Refused, TimeoutError):
            if self._session.stopping.is_set():
                await self.connect()
            request = self._messages.ReleasePlaceRequest(placename=self._name, fromuser=self.me)
            await self._call("ReleasePlace", request)
            self._marker.unlink(missing_ok=True)
            tell("released")

    async def _call(self, name: str, request: Any) -> None:
        try:
            await asyncio.wait_for(getattr(self._session.stub, name)(request), _ANSWER_S)
            await asyncio.wait_for(self._session.sync_with_coordinator(), _ANSWER_S)
        except TimeoutError:
            raise Refused(f"the labgrid coordinator at {self._said} does not answer") from None
        except self._failed as problem:
            raise Refused(f"place {self._name}: {problem.details()}") from None

    async def hold(self, ended: asyncio.Event) -> None:
        """Until `ended`."""
        over = asyncio.ensure_future(ended.wait())
        while not ended.is_set():
            gone = asyncio.ensure_future(self._session.stopping.wait())
            await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if ended.is_set():
                break
            tell("lost")
            await self.leave()
            while not ended.is_set() and not await self.again():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(over), _AGAIN_S)
        over.cancel()


def _slots(resources: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    return {(one["exporter"], one["group"], one["name"]) for one in resources if one["cls"] == "RigSlot"}


async def run(address: str, place: str, marker: Path) -> int:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    told = asyncio.StreamReader()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    holder = Holder(address, place, marker)
    try:
        await holder.connect()
        tell("found", resources=holder.resources(), acquired=holder.place.acquired, me=holder.me)
        if (await told.readline()).strip() == b"acquire" and not ended.is_set():
            await holder.acquire()
            tell("acquired", ours=holder._ours, resources=holder.resources())
            eof = asyncio.ensure_future(_end(told, ended))
            await holder.hold(ended)
            eof.cancel()
    except Refused as problem:
        tell("error", text=str(problem))
        return 1
    finally:
        await holder.release()
        await holder.leave()
    return 0


async def _end(told: asyncio.StreamReader, ended: asyncio.Event) -> None:
    while await told.readline():
        pass
    ended.set()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
