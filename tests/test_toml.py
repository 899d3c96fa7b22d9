"""Users' TOML files: every mistake is one sentence with the file, the key and the nearest right one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rig.errors import UsageProblem
from rig.toml import checked, nearest, read_toml


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    volts: float = Field(default=3.3, ge=0)
    names: list[str] = []
    low: int | None = None
    high: int | None = None

    @model_validator(mode="after")
    def _both(self) -> Inner:
        if self.low is not None and self.high is None:
            raise ValueError("'low' needs 'high'")
        return self


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str
    one: Inner | None = None
    many: dict[str, Inner] = {}
    row: list[Inner] = []
    which: list[int] | Literal["all"] = "all"
    kind_: str = Field(default="", alias="kind")

    @model_validator(mode="after")
    def _whole(self) -> Outer:
        if self.title == "empty":
            raise ValueError("There is nothing in it")
        return self


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({}, "f.toml: 'title' is missing"),
        ({"titel": "x"}, "f.toml: unknown key 'titel'; did you mean 'title'?"),
        ({"title": "x", "titel": 1}, "f.toml: unknown key 'titel'; did you mean 'title'?"),
        ({"title": "x", "kin": ""}, "f.toml: unknown key 'kin'; did you mean 'kind'?"),
        ({"title": "x", "zzz": 1}, "f.toml: unknown key 'zzz'; there is kind, many, one, row, title, which"),
        ({"title": "x", "one": {"volt": 1}}, "f.toml: unknown key 'one.volt'; did you mean 'volts'?"),
        ({"title": "x", "many": {"a": {"volt": 1}}}, "f.toml: unknown key 'many.a.volt'; did you mean 'volts'?"),
        ({"title": "x", "many": {"one": {"volt": 1}}}, "f.toml: unknown key 'many.one.volt'; did you mean 'volts'?"),
        ({"title": "x", "row": [{"volt": 1}]}, "f.toml: unknown key 'row.0.volt'; did you mean 'volts'?"),
        ({"title": "x", "many": {"a": {"volts": -1}}},
         "f.toml: 'many.a.volts' is -1: this must be 0 or more"),
        ({"title": "x", "which": "some"},
         "f.toml: 'which' is 'some': this must be a list, in square brackets"),
        ({"title": 3}, "f.toml: 'title' is 3: this must be text, in quotes"),
        ({"title": "x", "many": {"a": 921600}}, "f.toml: 'many.a' is 921600: this must be a table"),
        ({"title": "x", "many": 1}, "f.toml: 'many' is 1: this must be a table"),
        ({"title": "x", "one": {"volts": "3.3 V"}}, "f.toml: 'one.volts' is '3.3 V': this must be a number"),
        ({"title": "x", "one": {"names": "a"}},
         "f.toml: 'one.names' is 'a': this must be a list, in square brackets"),
        ({"title": "x", "one": {"low": 1}}, "f.toml: [one] 'low' needs 'high'"),
        ({"title": "empty"}, "f.toml: there is nothing in it"),
    ],
)  # fmt: skip
def test_mistakes(data: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        checked(Outer, data, "f.toml")
    assert str(caught.value) == sentence


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(UsageProblem) as caught:
        checked(Outer, {"title": list(range(500))}, "f.toml")
    assert len(str(caught.value)) < 150


def test_what_is_right_comes_through() -> None:
    assert checked(Outer, {"title": "x", "many": {"a": {"volts": 5}}}, "f").many["a"].volts == 5.0


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with pytest.raises(UsageProblem, match=f"^no bench file at {path}$"):
        read_toml(path, "bench file")
    path.write_text("a = ")
    with pytest.raises(UsageProblem, match=f"^{path} is not valid TOML: "):
        read_toml(path, "bench file")
    path.write_bytes(b'a = "\xff"')
    with pytest.raises(UsageProblem, match=f"^cannot read the bench file {path}: it is not text in UTF-8$"):
        read_toml(path, "bench file")
    with pytest.raises(UsageProblem, match=f"^cannot read the bench file {tmp_path}: is a directory$"):
        read_toml(tmp_path, "bench file")
    path.write_text('a = "ö"', encoding="utf-8-sig")
    assert read_toml(path, "bench file") == {"a": "ö"}


def test_the_nearest_name() -> None:
    assert nearest("rigol-dp80", ["rigol-dp800", "keysight-e36300"]) == "did you mean 'rigol-dp800'?"
    assert nearest("x", ["b", "a"]) == "there is a, b"
    assert nearest("x", []) == "there is none"
