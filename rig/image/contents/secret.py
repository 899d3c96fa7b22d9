"""A secret in a TOML file: never itself, only where it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from rig.errors import UsageProblem
from rig.toml import NOT_SHOWN

_LONGEST = 1024  # bytes of a secret's file that are read


class Secret(BaseModel):
    """`{ env = "NAME" }`, an environment variable, or `{ file = "PATH" }`, a file of one line with mode 0600."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: str | None = None
    file: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_the_secret_itself(cls, value: Any) -> Any:
        if isinstance(value, dict | cls):
            return value
        raise PydanticCustomError(
            NOT_SHOWN, 'a secret never stands in this file: { env = "NAME" } or { file = "PATH" } says where it is'
        )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.env) == bool(self.file):
            raise ValueError('{ env = "NAME" } or { file = "PATH" }: one of the two')
        return self

    def reveal(self, where: str, folder: Path, table: str = "provision") -> str:
        """The secret; a file's path counts from `folder`. UsageProblem names `table` and `where` it was asked for,
        and why it cannot be had or must not be trusted."""
        asked = f"[{table}] ({where})"
        text = self._of_environment(asked) if self.env else self._of_file(asked, folder)
        if not text.isprintable():
            raise UsageProblem(f"{asked}: {self._place} has more than one line, or control characters")
        return text

    @property
    def _place(self) -> str:
        return f"the environment's {self.env}" if self.env else f"the file {self.file}"

    def _of_environment(self, asked: str) -> str:
        text = os.environ.get(self.env or "")
        if not text:
            state = "not set" if text is None else "empty"
            raise UsageProblem(f"{asked} is to come from {self._place}, which is {state}")
        return text

    def _of_file(self, asked: str, folder: Path) -> str:
        path = folder / Path(self.file or "").expanduser()
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(_LONGEST + 1)
        except OSError as problem:
            raise UsageProblem(f"{asked}: cannot read {path}: {problem.strerror}") from None
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise UsageProblem(f"{asked}: others can read {path}; chmod 600 {path}")
        text = data.decode("utf-8", "replace").rstrip("\r\n")
        if not text or len(data) > _LONGEST or "\ufffd" in text:
            what = "is empty" if not text else "holds no text of one line"
            raise UsageProblem(f"{asked}: {path} {what}")
        return text
