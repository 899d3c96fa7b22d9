"""A PostgreSQL of the test's own (Debian's programs, a folder of its own, loopback), and a relay that can be cut."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

PASSWORD = "not-a-secret"
_PROGRAMS = sorted(
    Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(re.sub(r"\D", "", path.parent.name))
)


class Postgres:
    """A server at `port`; `stop` and `start` as often as a test likes. Its data last as long as this object."""

    def __init__(self) -> None:
        programs = next((path for path in reversed(_PROGRAMS) if (path / "initdb").exists()), None)
        if programs is None:
            pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
        self._programs = programs
        self._user: list[str] = []
        if os.getuid() == 0:  # it refuses to run as root
            try:
                self._ids = pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("there is no user postgres to run PostgreSQL as")
            self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.folder = Path(tempfile.mkdtemp(prefix="rig-pg-", dir="/tmp"))
        self._data = self.folder / "data"
        (self.folder / "password").write_text(PASSWORD)
        if self._user:
            for path in (self.folder, self.folder / "password"):
                os.chown(path, self._ids.pw_uid, self._ids.pw_gid)
        words = [
            "-D",
            self._data,
            "-U",
            "rig",
            "-A",
            "scram-sha-256",
            "--no-sync",
            f"--pwfile={self.folder}/password",
        ]
        self._run("initdb", *words, "-E", "UTF8", "--locale=C.UTF-8")
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0

    def start(self) -> None:
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder,
                    "shared_buffers": "16MB", "max_connections": 60}  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [*self._user, self._programs / "postgres", "-D", self._data, *words], stdout=log, stderr=log, cwd="/tmp"
        )
        log.close()
        wait_until(self._answers, 60, "PostgreSQL at work")

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT: connections are ended (fast); SIGQUIT: as in a crash (immediate)."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def url(self, database: str, port: int | None = None) -> str:
        """Without a password: that is in the environment."""
        return f"postgresql+psycopg://rig@127.0.0.1:{port or self.port}/{database}"

    def database(self) -> str:
        """A fresh one; its name."""
        import psycopg

        self._count += 1
        name = f"rig{self._count}_{secrets.token_hex(2)}"
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="rig", dbname="postgres", autocommit=True
        ) as made:
            made.execute(f"create database {name}")
        return name

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        words = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(words, check=False).returncode == 0

    def _run(self, program: str, *words: object) -> None:
        command = [*self._user, str(self._programs / program), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/tmp")
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def server() -> Iterator[Postgres]:
    """At work, with its password in the environment; skips where it, psycopg or alembic is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra stations)")
    pytest.importorskip("alembic", reason="alembic is not installed (extra stations)")
    made = Postgres()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        try:
            made.start()
            yield made
        finally:
            made.close()


class Relay:
    """A network between a station and a server: `cut` ends all that goes through and lets nobody in, `hang` lets
    everything in and nothing through; `mend` puts it right."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._state = "whole"
        self._over = threading.Event()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._guard = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        self._state = "cut"
        self._drop()

    def hang(self) -> None:
        self._state = "hung"

    def mend(self) -> None:
        self._drop()
        self._state = "whole"

    def close(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop(self) -> None:
        with self._guard:
            for pair in self._pairs:
                for each in pair:
                    with contextlib.suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._state == "cut":
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._to), 5)
            except OSError:
                near.close()
                continue
            thread = threading.Thread(target=self._carry, args=((near, far),), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._guard:
            self._pairs.add(pair)
        near, far = pair
        try:
            while not self._over.is_set():
                for source in select.select(pair, [], [], 0.2)[0]:
                    if self._state == "hung":
                        self._over.wait(0.05)
                        continue
                    data = source.recv(65536)
                    if not data:
                        return
                    (far if source is near else near).sendall(data)
        except OSError:
            pass
        finally:
            with self._guard:
                self._pairs.discard(pair)
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
