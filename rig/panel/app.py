"""The page's addresses. Runs and attempts are looked up in what the folder and its journals hold; see `runs`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from rig.errors import UsageProblem
from rig.line.control import tell_station
from rig.panel.access import SESSION_S, Access
from rig.panel.book import Attempt
from rig.panel.commands import command_of
from rig.panel.line import line_of
from rig.panel.logs import secrets_of, whole_log
from rig.panel.pages import STATIC, Parts, page, parts, shown
from rig.panel.plot import power_of
from rig.panel.runs import Runs, RunView
from rig.panel.shield import FOREIGN, Shield
from rig.panel.stations import ORDER, Stations

TICK_S = 0.25
MOST_WATCHERS = 64
_PING_S = 10
_SLOWEST_S = 20.0  # a reader that takes nothing for so long is let go
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
_LARGEST_PICTURE = 8 << 20  # bytes


def make_app(runs: Path, access: Access, database: str | None = None) -> FastAPI:
    """The application over a folder of runs; with the URL of the database that stations share over them all, too."""
    return _Panel(Runs(runs), access, None if database is None else Stations(database)).app


class _Panel:
    def __init__(self, runs: Runs, access: Access, stations: Stations | None = None) -> None:
        self.runs = runs
        self.stations = stations
        self.access = access
        self.watchers = 0
        self._seen: dict[str, tuple[float, Parts]] = {}
        app = FastAPI(title="rig panel", docs_url=None, redoc_url=None, openapi_url=None)
        app.add_middleware(Shield, access=access)
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
        get, post = app.get, app.post
        get("/login", response_class=HTMLResponse)(self.login)
        post("/login")(self.log_in)
        post("/logout")(self.log_out)
        get("/", response_class=HTMLResponse)(self.line)
        get("/events")(self.events)
        get("/alive", status_code=204)(self.alive)
        get("/runs", response_class=HTMLResponse)(self.list)
        get("/runs/{run}", response_class=HTMLResponse)(self.run)
        post("/runs/{run}/do")(self.do)
        get("/runs/{run}/prompts/{prompt}/picture")(self.picture)
        get("/runs/{run}/attempts/{number}", response_class=HTMLResponse)(self.attempt)
        get("/runs/{run}/attempts/{number}/page")(self.unit_page)
        get("/runs/{run}/attempts/{number}/log")(self.boot_log)
        get("/units", response_class=HTMLResponse)(self.unit)
        get("/stations", response_class=HTMLResponse)(self.overview)
        app.add_exception_handler(StarletteHTTPException, self._missing)
        self.app = app

    # -- the door --------------------------------------------------------------------------------------

    def login(self) -> str:
        return self._page("login.html", problem=None)

    def log_in(self, request: Request, token: Annotated[str, Form(max_length=1000)] = "") -> Response:
        who = request.client.host if request.client else ""
        if self.access.too_many_tries(who):
            return self._refused("Too many wrong tokens: wait a minute.", 429)
        if not self.access.right_token(token, who):
            return self._refused("This is not the token.", 403)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            self.access.cookie, self.access.new_session(), max_age=SESSION_S, path="/",
            secure=self.access.secure, httponly=True, samesite="strict",
        )  # fmt: skip
        return answer

    def log_out(self) -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(
            self.access.cookie, path="/", secure=self.access.secure, httponly=True, samesite="strict"
        )
        return answer

    def _refused(self, problem: str, status: int) -> Response:
        return HTMLResponse(self._page("login.html", problem=problem), status)

    # -- the line --------------------------------------------------------------------------------------

    def line(self, run: str | None = None) -> str:
        view = self._find(run) if run else self.runs.current()
        if view is None:
            return self._page("empty.html", folder=self.runs.path)
        line = line_of(view)
        return self._page("line.html", line=line, parts=parts(line), pinned=run is not None)

    async def events(self, run: str) -> Response:
        """Server-sent events: at first all parts of the line, then those that changed."""
        if self.watchers >= MOST_WATCHERS:
            return PlainTextResponse(f"{MOST_WATCHERS} pages are open already.", 503)
        view = await asyncio.to_thread(self._find, run)
        return EventSourceResponse(
            self._changes(view), ping=_PING_S, ping_message_factory=_still_here, send_timeout=_SLOWEST_S
        )

    def alive(self) -> None:
        """For a page that has lost its events: whether it is the server that is gone, or the session."""

    async def _changes(self, view: RunView) -> AsyncIterator[dict[str, str]]:
        self.watchers += 1
        before: Parts | None = None
        try:
            while True:
                now = await asyncio.to_thread(self._look, view)
                if message := now.since(before):
                    yield {"event": "line", "data": json.dumps(message)}
                before = now
                if (newer := await asyncio.to_thread(self._newer, view)) is not None:
                    yield {"event": "newer", "data": newer}
                await asyncio.sleep(TICK_S)
        finally:
            self.watchers -= 1

    def _look(self, view: RunView) -> Parts:
        """The same look serves all who watch a run."""
        when, seen = self._seen.get(view.id, (float("-inf"), None))
        if seen is None or time.monotonic() - when >= TICK_S * 0.8:
            seen = parts(line_of(view.refresh()))
            self._seen = {key: kept for key, kept in self._seen.items() if kept[0] > when - 60}
            self._seen[view.id] = time.monotonic(), seen
        return seen

    def _newer(self, view: RunView) -> str | None:
        """The id of a run that has begun while this one is over."""
        if view.alive:
            return None
        current = self.runs.current()
        return current.id if current is not None and current.alive and current.id != view.id else None

    async def do(self, run: str, request: Request) -> Response:
        """Pass a command on to the run's station."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return JSONResponse({"error": "Commands are JSON."}, 415)
        try:
            command = command_of(await request.body())
        except ValidationError as problem:
            first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            return JSONResponse({"error": f"This is no command of the page: {where} {first['msg']}".strip()}, 422)
        view = await asyncio.to_thread(self._find, run)
        if not view.alive or view.live is None:
            return JSONResponse({"error": "This run has no station at work: nothing was done."})
        if "who" in command and command["who"] is None:
            command["who"] = view.live.operator
        try:
            # not in the few threads that look for all who watch: a station that hangs would hold them
            return JSONResponse(await run_in_threadpool(tell_station, Path(view.live.control or ""), command))
        except UsageProblem as problem:
            return JSONResponse({"error": shown(problem)})  # an answer too, and no failure of the page

    def picture(self, run: str, prompt: str) -> Response:
        """The picture that a prompt names (the station took it out of the product's profile)."""
        view = self._find(run)
        asked = next((each for each in (view.live.prompts if view.live else []) if each.id == prompt), None)
        path = Path(asked.picture) if asked is not None and asked.picture else None
        if path is None or not path.is_absolute() or path.suffix.lower() not in _PICTURES or not path.is_file():
            raise HTTPException(404)
        if path.stat().st_size > _LARGEST_PICTURE:
            raise HTTPException(404)
        return FileResponse(path, media_type=_PICTURES[path.suffix.lower()])

    # -- what was --------------------------------------------------------------------------------------

    def list(self) -> str:
        return self._page("runs.html", runs=self.runs.lines(), folder=self.runs.path)

    def run(self, run: str) -> str:
        return self._page("run.html", line=line_of(self._find(run)))

    def unit(self, serial: str = "") -> str:
        found = self.runs.attempts_at(serial.strip()[:200]) if serial.strip() else []
        return self._page("unit.html", serial=serial.strip()[:200], found=found)

    def attempt(self, run: str, number: int) -> str:
        view, mine = self._attempt(run, number)
        folder = view.folder_of(mine)
        return self._page(
            "attempt.html", run=view, attempt=mine, book=view.book,
            log=whole_log(folder, secrets_of(view.book.started)),
            power=power_of(folder / "power.csv"), has_page=_has_content(folder / "unit.html"),
            rework=[each for each in view.book.reworks if each.unit == mine.unit],
        )  # fmt: skip

    def unit_page(self, run: str, number: int) -> Response:
        view, mine = self._attempt(run, number)
        path = view.folder_of(mine) / "unit.html"
        if not _has_content(path):
            raise HTTPException(404)
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": FOREIGN})

    def boot_log(self, run: str, number: int) -> Response:
        view, mine = self._attempt(run, number)
        log = whole_log(view.folder_of(mine), secrets_of(view.book.started))
        if log is None:
            raise HTTPException(404)
        return PlainTextResponse(log)

    def overview(self) -> str:
        if self.stations is None:
            raise HTTPException(404)
        return self._page("stations.html", found=self.stations.look(), order=ORDER)

    # -- look-ups --------------------------------------------------------------------------------------

    def _find(self, run: str) -> RunView:
        view = self.runs.find(run)
        if view is None:
            raise HTTPException(404)
        return view

    def _attempt(self, run: str, number: int) -> tuple[RunView, Attempt]:
        view = self._find(run)
        mine = view.attempt(number)
        if mine is None:
            raise HTTPException(404)
        return view, mine

    def _page(self, template: str, **values: Any) -> str:
        has_stations = self.stations is not None
        return page(template, needs_login=self.access.needs_login, has_stations=has_stations, **values)

    async def _missing(self, request: Request, problem: Exception) -> Response:
        status = getattr(problem, "status_code", 500)
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(self._page("missing.html", status=status), status)
        return JSONResponse({"error": "There is nothing here." if status == 404 else "This cannot be done."}, status)


def _still_here() -> ServerSentEvent:
    return ServerSentEvent(event="alive", data="yes")


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
