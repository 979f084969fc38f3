"""Call of a command in this process, as a user does: exit code, stdout and the lines of stderr."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import click
from click.testing import CliRunner


class Result(NamedTuple):
    code: int
    out: str
    errors: list[str]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def call(command: click.Command, *arguments: object) -> Result:
    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    return Result(done.exit_code, done.stdout, done.stderr.splitlines())
