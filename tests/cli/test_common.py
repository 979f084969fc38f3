"""What all commands share, called in the process of a notebook."""

from __future__ import annotations

import warnings

import click
import pytest
from click.testing import CliRunner

from lbi.cli.common import Command, common_options, debugging
from lbi.errors import LbiWarning

pytestmark = pytest.mark.filterwarnings("default")


@click.command(cls=Command, name="one")
@common_options
def one(as_json: bool, quiet: bool) -> None:
    """Warn, and fail."""
    warnings.warn("ours", LbiWarning, stacklevel=1)
    warnings.warn("a library's", stacklevel=1)
    raise RuntimeError(f"debugging: {debugging()}")


def test_pythons_warnings_are_as_before_a_command():
    before = warnings.showwarning, list(warnings.filters)
    done = CliRunner().invoke(one, [])
    assert (done.exit_code, done.stderr.splitlines()) == (
        1,
        [
            "warning: ours",
            "error: internal: RuntimeError: debugging: False; fix: run again with --debug and report it",
        ],
    )
    assert (warnings.showwarning, list(warnings.filters)) == before
    with pytest.warns(UserWarning, match="the user's own"):
        warnings.warn("the user's own", stacklevel=1)


def test_debug_is_an_option_of_the_call(monkeypatch):
    monkeypatch.setattr("sys.argv", ["notebook"])
    done = CliRunner().invoke(one, ["--debug"])
    assert "Traceback" in done.stderr
    assert "warning: UserWarning: a library's" in done.stderr
    assert "debugging: True" in done.stderr
    monkeypatch.setattr("sys.argv", ["notebook", "--debug"])
    assert "Traceback" not in CliRunner().invoke(one, []).stderr
