"""The database's layouts: brought up and taken back with what is in them, on SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres, server
from synthetic_journals import SyntheticRun

from rig.cli import main
from rig.errors import UsageProblem
from rig.records.database import DatabaseProblem, contents, default_url, ingest, opened, rebuild
from rig.records.events import Reworked
from rig.records.layout import layout_of
from rig.records.migrate import migrate
from rig.records.models import LAYOUT, Base
from rig.records.run import list_runs

pytest.importorskip("alembic", reason="alembic is not installed (extra stations)")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with server() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return default_url(tmp_path)
    made: Postgres = request.getfixturevalue("postgres")
    return made.url(made.database())


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    with SyntheticRun(tmp_path / "r1", batch="w48") as run:
        run.attempt("SN1", "fail", code="no-link", stop_at="identify")
        run.write(Reworked, unit="SN1", what="resoldered", who="Kim")
        run.attempt("SN1", "pass", identity="uid-1", mac="c8:47", written=True)
        run.attempt("SN2", "pass", current=0.21)
        run.end()
    with SyntheticRun(tmp_path / "r2") as run:
        run.begin("SN3")
    return tmp_path


def held(url: str) -> dict[str, list[dict[str, Any]]]:
    with opened(url) as connection:
        return contents(connection)


def schema(url: str) -> dict[str, Any]:
    """All tables as the database itself describes them."""
    import sqlalchemy as sa

    found: dict[str, Any] = {}
    with opened(url, layout=False) as connection:
        look = sa.inspect(connection)
        for table in look.get_table_names():
            columns = {each["name"]: (str(each["type"]), each["nullable"]) for each in look.get_columns(table)}
            keys = look.get_pk_constraint(table)["constrained_columns"]
            indexes = sorted((str(each["name"]), tuple(each["column_names"])) for each in look.get_indexes(table))
            found[table] = (columns, keys, indexes)
    return found


def test_a_database_that_was_brought_up_is_one_that_was_made(url: str, tmp_path: Path) -> None:
    with opened(url, write=True, layout=False) as connection:
        assert migrate(connection) == (None, LAYOUT)
    brought = schema(url)
    with opened(url, write=True, layout=False) as connection:
        Base.metadata.drop_all(connection)
    with opened(url, write=True):
        pass
    assert schema(url) == brought
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with opened(url) as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_down_and_up_again_with_what_is_in_it(url: str, runs: Path) -> None:
    assert ingest(url, list_runs(runs)) == []
    before = held(url)
    assert [row["unit"] for row in before["attempts"]] == ["SN1", "SN1", "SN2", "SN3"]
    with opened(url, write=True) as connection:
        assert migrate(connection, "0002") == (LAYOUT, "0002")
    with opened(url, layout=False) as connection:  # as a rig of that layout looks at it
        assert connection.exec_driver_sql("select version from layout").scalar() == 2
        assert contents(connection) == before
    with opened(url, write=True, layout=False) as connection:
        assert migrate(connection) == ("0002", LAYOUT)
    assert held(url) == before
    with SyntheticRun(runs / "r3") as run:
        run.attempt("SN4", "pass")
    assert ingest(url, list_runs(runs)) == []
    again = default_url(runs / "again")
    assert rebuild(again, list_runs(runs)) == []
    assert held(url) == held(again)


def old(url: str, runs: Path) -> None:
    """A database that a rig of layout 2 left: without alembic's own table."""
    ingest(url, list_runs(runs))
    with opened(url, write=True, layout=False) as connection:
        migrate(connection, "0002")
        connection.exec_driver_sql("drop table alembic_version")
        assert layout_of(connection) == "0002"


def test_a_file_of_the_layout_before_is_brought_up_by_itself(runs: Path) -> None:
    url = default_url(runs)
    old(url, runs)
    with SyntheticRun(runs / "r3") as run:
        run.attempt("SN4", "pass")
    assert ingest(url, list_runs(runs)) == []
    again = default_url(runs / "again")
    rebuild(again, list_runs(runs))
    assert held(url) == held(again)


def test_a_server_of_the_layout_before_is_left_to_a_person(postgres: Postgres, runs: Path, capsys: Any) -> None:
    url = postgres.url(postgres.database())
    old(url, runs)
    with pytest.raises(DatabaseProblem, match=r"layout 0002, this one has 0003.*`rig records migrate` brings it up"):
        ingest(url, list_runs(runs))
    assert command("records", "migrate", "--url", url) == 0
    assert "0002 to 0003" in capsys.readouterr().out
    assert ingest(url, list_runs(runs)) == []
    assert command("records", "migrate", "--url", url, "--to", "0002") == 0
    with opened(url, layout=False) as connection:
        assert layout_of(connection) == "0002"
    assert command("records", "migrate", "--url", url, "--to", "0099") == 2
    assert "0002, 0003 are known" in capsys.readouterr().err


def command(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["rig", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


def test_what_no_rig_of_this_layout_made(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = default_url(runs)
    ingest(url, list_runs(runs))
    with opened(url, write=True) as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '0004'")
    with pytest.raises(DatabaseProblem, match="newer rig"), opened(url):
        pass
    with pytest.raises(UsageProblem, match="no way"), opened(url, write=True, layout=False) as connection:
        migrate(connection)
    with contextlib.suppress(FileNotFoundError):
        (runs / "rig.db").unlink()
    old(url, runs)
    monkeypatch.setitem(__import__("sys").modules, "alembic", None)
    with pytest.raises(DatabaseProblem, match=r"pip install -e '\.\[stations\]'.*Or delete it"):
        ingest(url, list_runs(runs))
