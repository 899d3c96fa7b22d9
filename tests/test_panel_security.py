"""Who may use the page, what it takes, and what it never shows."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from rig.errors import UsageProblem
from rig.panel import access, logs, shield
from rig.panel import serve as serve_module
from rig.panel.access import Access
from rig.panel.app import make_app
from rig.panel.logs import HIDDEN_LOG
from rig.panel.serve import door, listen
from rig.panel.shield import LONGEST_BODY
from tests.panel_station import FakeStation
from tests.sim_process import rig_inside

TOKEN = "correct-horse-battery-staple"
HERE = "http://localhost"
RUN = "20261122-171500-ab12"
OWN = {"origin": HERE}


def client(runs: Path, token: str | None = None, secure: bool = False) -> TestClient:
    base = HERE.replace("http", "https") if secure else HERE
    return TestClient(make_app(runs, Access(token, secure=secure)), base_url=base, follow_redirects=False)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[FakeStation]:
    with FakeStation(tmp_path) as made:
        made.begin("A", "SN1")
        made.log("A", "Info:MAIN:Using SSID [workshop] and Using Pass [hunter2hunter2]\nand then\nhalf of a li")
        made.live._write()
        yield made


# -- the address --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.20", "::", "rig.example"])
def test_an_address_that_others_reach_takes_tls_and_a_token(host: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with pytest.raises(UsageProblem, match="--tls-cert"):
        door(host, None, None, None)
    with pytest.raises(UsageProblem, match="--tls-cert"):
        door(host, None, None, token)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_alone_needs_neither(host: str) -> None:
    assert not door(host, None, None, None).needs_login


def test_a_token_is_private_and_long(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o640)
    with pytest.raises(UsageProblem, match="chmod 600"):
        door("127.0.0.1", None, None, path)
    path.chmod(0o600)
    assert door("127.0.0.1", None, None, path).needs_login
    path.write_text("short")
    with pytest.raises(UsageProblem, match="at least 16"):
        door("127.0.0.1", None, None, path)


def test_the_command_says_it_in_a_sentence(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        answers = [
            rig_inside("panel", "--host", "0.0.0.0", cwd=tmp_path),
            rig_inside("panel", "--tls-cert", "no.pem", "--tls-key", "no.key", cwd=tmp_path),
            rig_inside("panel", "--port", str(taken.getsockname()[1]), cwd=tmp_path),
        ]
    assert [answer.returncode for answer in answers] == [2, 2, 2]
    assert "--token-file" in answers[0].stderr
    assert "no.pem" in answers[1].stderr
    assert "cannot listen" in answers[2].stderr
    assert not any("Traceback" in answer.stderr for answer in answers)


def test_what_remains_of_an_open_run_is_open(station: FakeStation, tmp_path: Path) -> None:
    assert "open</b>" not in client(tmp_path).get("/").text
    station.live._fixed["scanned"] = True
    station.changed(units_total=None)
    station.live._write()
    assert "<b>open</b>" in client(tmp_path).get("/").text


# -- the door -----------------------------------------------------------------------------------------


def test_nothing_is_shown_without_a_session(station: FakeStation, tmp_path: Path) -> None:
    page = client(tmp_path, TOKEN)
    evidence = f"/runs/{RUN}/attempts/1/log"
    for path in ("/", "/runs", f"/runs/{RUN}", evidence, f"/events?run={RUN}", "/units?serial=SN1"):
        assert page.get(path).status_code == 401, path
        assert page.get(path, headers={"accept": "text/html"}).headers["location"] == "/login"
        for cookie in ("", "9999999999.00", f"9999999999.{'0' * 64}", "x", "9" * 40, "\u00b2.0"):
            got = page.get(path, headers={b"cookie": f"rig-panel={cookie}".encode()})
            assert got.status_code == 401, cookie
    assert page.post(f"/runs/{RUN}/do", json={"do": "abort"}, headers=OWN).status_code == 401
    assert station.commands == []


def test_the_token_opens_a_session_that_only_this_site_sends(tmp_path: Path) -> None:
    page = client(tmp_path, TOKEN, secure=True)
    own = {"origin": "https://localhost"}
    assert page.post("/login", data={"token": "wrong"}, headers=own).status_code == 403
    got = page.post("/login", data={"token": TOKEN}, headers=own)
    assert got.status_code == 303
    cookie = got.headers["set-cookie"]
    for word in ("__Host-rig-panel=", "HttpOnly", "SameSite=strict", "Secure", "Path=/"):
        assert word in cookie
    assert TOKEN not in cookie
    assert page.get("/runs").status_code == 200
    session = {"cookie": cookie.partition(";")[0]}
    assert client(tmp_path, TOKEN, secure=True).get("/runs", headers=session).status_code == 200  # after a restart
    assert client(tmp_path, TOKEN + "2", secure=True).get("/runs", headers=session).status_code == 401
    assert "Strict-Transport-Security" not in got.headers  # it would end plain HTTP on every port of this machine


def test_a_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Access(TOKEN, secure=False)
    session = door.new_session()
    assert door.admits(session)
    assert not door.admits(session.replace(session[:4], "9999"))
    later = time.time() + access.SESSION_S + 1
    monkeypatch.setattr(access.time, "time", lambda: later)
    assert not door.admits(session)


def test_guessing_is_slow(tmp_path: Path) -> None:
    page = client(tmp_path, TOKEN)
    answers = [page.post("/login", data={"token": f"guess {n}"}, headers=OWN).status_code for n in range(12)]
    assert answers == [403] * 10 + [429] * 2
    assert page.post("/login", data={"token": TOKEN}, headers=OWN).status_code == 429


def test_who_guesses_keeps_nobody_else_out() -> None:
    door = Access(TOKEN, secure=True)
    for number in range(10):
        assert not door.right_token("guess", "10.0.0.9")
        assert not door.right_token("guess", f"2001:db8::{number}")
    assert door.too_many_tries("10.0.0.9")
    assert door.too_many_tries("2001:db8::ffff")  # the same machine, for all that anyone can tell
    assert not door.too_many_tries("10.0.0.10")
    assert not door.too_many_tries("2001:db8:0:1::1")


# -- other sites --------------------------------------------------------------------------------------


def test_another_site_cannot_command(station: FakeStation, tmp_path: Path) -> None:
    page = client(tmp_path)
    for origin in (None, "null", "http://evil.example", "http://localhost.evil.example", "https://localhost"):
        headers = {} if origin is None else {"origin": origin}
        assert page.post(f"/runs/{RUN}/do", json={"do": "abort"}, headers=headers).status_code == 403, origin
    assert station.commands == []


def test_a_name_that_was_bent_to_this_machine_is_refused(station: FakeStation, tmp_path: Path) -> None:
    """DNS rebinding: a page of evil.example whose name now leads here would read the log with its own Origin."""
    page = client(tmp_path)
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "192.168.1.20"):
        assert page.get("/", headers={"host": host}).status_code == 403, host
    for host in ("localhost", "127.0.0.1:8080", "[::1]:8080"):
        assert page.get("/runs", headers={"host": host}).status_code == 200, host


def test_another_site_may_link_here_and_no_more(station: FakeStation, tmp_path: Path) -> None:
    """Its pictures, scripts and event sources would be answered, and each would cost the page its time."""
    page = client(tmp_path)
    for path in (f"/units?serial={RUN}", f"/events?run={RUN}", "/static/panel.js"):
        for site in ("cross-site", "same-site"):
            got = page.get(path, headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"})
            assert got.status_code == 403, (path, site)
    assert page.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200
    assert page.get("/", headers={"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}).status_code == 200


def test_a_form_of_another_site_is_no_command(station: FakeStation, tmp_path: Path) -> None:
    page = client(tmp_path)
    got = page.post(f"/runs/{RUN}/do", content='{"do":"abort"}', headers=OWN | {"content-type": "text/plain"})
    assert got.status_code == 415
    got = page.post(f"/runs/{RUN}/do", json={"do": "abort"}, headers=OWN | {"sec-fetch-site": "same-site"})
    assert got.status_code == 403
    assert station.commands == []


# -- what is taken ------------------------------------------------------------------------------------


def test_only_what_the_page_has_buttons_for_is_passed_on(station: FakeStation, tmp_path: Path) -> None:
    page = client(tmp_path)
    bodies: list[object] = [
        {"do": "shell", "text": "id"}, {"do": "abort", "slot": "A", "signal": 9}, {"do": "scan"}, [], "abort",
        {"do": "scan", "text": "x" * 201}, {"do": "rework", "unit": "SN1", "what": "", "who": "M"},
        {"do": "answer", "prompt": "p1", "answer": "yes", "by": "terminal"},
    ]  # fmt: skip
    for body in bodies:
        got = page.post(f"/runs/{RUN}/do", json=body, headers=OWN)
        assert got.status_code == 422, body
        assert "no command" in got.json()["error"]
    assert station.commands == []


def test_a_command_reaches_the_station_and_its_refusal_comes_back(station: FakeStation, tmp_path: Path) -> None:
    page = client(tmp_path)
    assert page.post(f"/runs/{RUN}/do", json={"do": "scan", "text": " SN7 "}, headers=OWN).json()["unit"] == "SN7"
    got = page.post(f"/runs/{RUN}/do", json={"do": "scan", "text": "SN7"}, headers=OWN)
    assert "already" in got.json()["error"]
    assert station.commands[0] == {"do": "scan", "slot": None, "text": "SN7", "who": None}


def test_bodies_are_bounded_whatever_they_claim(station: FakeStation, tmp_path: Path) -> None:
    page = client(tmp_path)
    much = b'{"do": "scan", "text": "' + b"x" * LONGEST_BODY + b'"}'
    json = OWN | {"content-type": "application/json"}

    def pieces() -> Iterator[bytes]:
        yield much[:100]
        yield much[100:]

    assert page.post(f"/runs/{RUN}/do", content=much, headers=json).status_code == 413
    assert page.post(f"/runs/{RUN}/do", content=pieces(), headers=json).status_code == 413
    assert station.commands == []


def answered(place: socket.socket, text: bytes) -> bytes:
    """The beginning of the answer; nothing where the connection is closed, maybe before all is sent."""
    with socket.create_connection(place.getsockname(), timeout=60) as slow:
        try:
            slow.sendall(text)
            return slow.recv(10)
        except ConnectionError:
            return b""


def test_what_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads and bodies that never end: each holds a connection, of which there are only so many."""
    monkeypatch.setattr(shield, "SLOWEST_S", 0.2)
    body = b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 99\r\n"
    body += b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntok"
    with listen("127.0.0.1", 0) as place:
        server = uvicorn.Server(serve_module.config_of(make_app(tmp_path, Access(TOKEN, secure=False)), None, None))
        thread = threading.Thread(target=server.run, args=([place],), daemon=True)
        thread.start()
        try:
            assert answered(place, body) == b"HTTP/1.1 4"  # of patience for its head there is enough
            monkeypatch.setattr(serve_module, "REQUEST_S", 0.2)
            for head in (b"", b"GET / HTTP/1.1\r\nHost: loc"):
                assert answered(place, head) == b"", head
        finally:
            server.should_exit = True
            thread.join(60)
        assert not thread.is_alive()


def test_no_request_names_a_file(station: FakeStation, tmp_path: Path) -> None:
    page = client(tmp_path)
    for path in (
        "/runs/%2e%2e", "/runs/..%2f..%2fetc", f"/runs/{RUN}/attempts/0", f"/runs/{RUN}/attempts/-1", "/runs/%2e",
        f"/runs/{RUN}/attempts/2", f"/runs/{RUN}/attempts/%2e%2e", f"/runs/{RUN}/attempts/1%2f..%2f..", "/runs/%00",
        f"/runs/{RUN}/prompts/..%2f..%2fetc%2fpasswd/picture", "/static/%2e%2e/app.py", "/static/..%2fapp.py",
        f"/runs/{RUN}/attempts/1/page", f"/?run=..%2f{RUN}", "/events?run=../x", "//etc/passwd",
    ):  # fmt: skip
        got = page.get(path)
        assert got.status_code in (404, 422), path
        assert "root:" not in got.text
        assert "import" not in got.text


def test_a_serial_number_that_is_markup_or_a_path_stays_text(tmp_path: Path) -> None:
    with FakeStation(tmp_path) as made:
        made.begin("A", "<img src=x onerror=alert(1)>/../..")
        made.end("A", "fail", "no-link", "<script>alert(1)</script>")
        page = client(tmp_path)
        found = "/units?serial=%3Cscript%3Ealert(1)%3C/script%3E"
        for path in ("/", f"/runs/{RUN}", f"/runs/{RUN}/attempts/1", found):
            got = page.get(path)
            assert got.status_code == 200
            assert "<script>alert" not in got.text
            assert "<img src=x" not in got.text


def test_headers_forbid_what_the_page_does_not_need(station: FakeStation, tmp_path: Path) -> None:
    (station.folder.unit_dir("SN1", 1) / "unit.html").write_text("<script>1</script>")
    page = client(tmp_path)
    for path in ("/", "/runs", "/static/panel.js", "/nothing", f"/runs/{RUN}/attempts/1"):
        got = page.get(path)
        policy = got.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["cache-control"] == "no-store"
        assert "style=" not in got.text
        assert " on" + "click" not in got.text
    policy = page.get(f"/runs/{RUN}/attempts/1/page").headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")  # its own script runs, and reaches nothing of the page
    assert "allow-same-origin" not in policy


# -- what is never shown ------------------------------------------------------------------------------


def test_logs_are_scrubbed_and_a_torn_line_waits(station: FakeStation, tmp_path: Path) -> None:
    page = client(tmp_path)
    for path in ("/", f"/runs/{RUN}/attempts/1", f"/runs/{RUN}/attempts/1/log"):
        text = page.get(path).text
        assert "Using Pass [***]" in text, path
        assert "and then" in text
        assert "hunter2" not in text
        assert "half of a li" not in text


def test_a_log_whose_secrets_cannot_be_known_is_not_shown(tmp_path: Path) -> None:
    """A firmware may print a provisioned password in a way that no pattern knows."""
    with FakeStation(tmp_path, job={"provision": str(tmp_path / "gone.toml")}) as made:
        made.begin("A", "SN1")
        made.log("A", "the word is swordfish-99\n")
        made.live._write()
        page = client(tmp_path)
        for path in ("/", f"/runs/{RUN}/attempts/1", f"/runs/{RUN}/attempts/1/log"):
            assert "swordfish" not in page.get(path).text
            assert HIDDEN_LOG[:40] in page.get(path).text.replace("&#39;", "'")


def test_a_provisioning_that_changed_hides_the_logs_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page runs for weeks, and passwords change: it knows neither the old one from now on nor the new one yet."""
    secret, told = tmp_path / "wifi", tmp_path / "home.toml"
    secret.touch(0o600)
    secret.write_text("swordfish-99")
    told.write_text('[provision.wifi]\nssid = "workshop"\npassword = { file = "wifi" }\n')
    with FakeStation(tmp_path / "runs", job={"provision": str(told)}) as made:
        made.begin("A", "SN1")
        made.log("A", "the word is swordfish-99\nit was marlin-1234 before\n")
        made.live._write()
        page = client(tmp_path / "runs")
        assert "the word is ***\nit was marlin" in page.get(f"/runs/{RUN}/attempts/1/log").text
        secret.write_text("marlin-1234")
        later = time.monotonic() + 60
        monkeypatch.setattr(logs.time, "monotonic", lambda: later)
        assert page.get(f"/runs/{RUN}/attempts/1/log").text == HIDDEN_LOG


def test_a_picture_is_one_that_a_prompt_names(station: FakeStation, tmp_path: Path) -> None:
    good, bad = tmp_path / "how.png", tmp_path / "token.txt"
    good.write_bytes(b"\x89PNG")
    bad.write_text(TOKEN)
    station.ask("load", "Put it in", "A", picture=str(good))
    station.ask("load", "Put it in", "B", picture=str(bad))
    station.live._write()
    page = client(tmp_path)
    assert page.get(f"/runs/{RUN}/prompts/p1/picture").headers["content-type"] == "image/png"
    assert page.get(f"/runs/{RUN}/prompts/p2/picture").status_code == 404
    assert page.get(f"/runs/{RUN}/prompts/p3/picture").status_code == 404
