"""Errors that name the place, what was found, what is allowed and the fix.

A check collects every ``Problem`` and raises once; a ``Rule`` is the fixed part of a check, written once.
Each error class carries the exit code of the commands (2 usage, 3 invalid or unsupported input, 4 verification
failed, 5 backend failed, 6 does not fit the chip or a budget).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

LONGEST = 1000
"""Characters of each part of a problem that are shown."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: stable kebab-case identifier for programs, such as ``weights-not-finite``.
        where: the file, option, layer or field concerned.
        found: what was found there.
        allowed: what is allowed; empty if that is obvious.
        remedy: what the user can do; empty if there is nothing.
    """

    code: str
    where: str
    found: str
    allowed: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        parts = [f"{self.code}: {self.where}: {self.found}"]
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        if self.remedy:
            parts.append(f"fix: {self.remedy}")
        return "; ".join(map(_printable, parts))

    def inside(self, where: str) -> Problem:
        """The same problem with ``where`` prefixed to its place.

        Args:
            where: the outer place.

        Returns:
            A copy whose place begins with ``where``.
        """
        place = where if self.where in ("", where) else f"{where}, {self.where}"
        return replace(self, where=place)


@dataclass(frozen=True)
class Rule:
    """The fixed part of a check: its code, what is allowed and the fix; both may hold ``{names}`` to fill in.

    >>> STEPS = Rule("n-steps", "at least {least}", "pass --steps {least}")
    >>> str(STEPS.broken("model", "0", least=1))
    'n-steps: model: 0; allowed: at least 1; fix: pass --steps 1'
    """

    code: str
    allowed: str = ""
    fix: str = ""

    def broken(self, where: str, found: object, **values: object) -> Problem:
        """The problem to report when this rule is broken; ``values`` fill the ``{names}``.

        Args:
            where: the file, option, layer or field concerned.
            found: what was found there.
            **values: what fills the ``{names}``.

        Returns:
            The problem with the rule's code, what it allows and its fix.
        """
        allowed, fix = self.allowed.format(**values), self.fix.format(**values)
        return Problem(self.code, where, str(found), allowed, fix)

    def check(self, problems: Problems, holds: bool, where: str, found: object, **values: object) -> bool:
        """Note a problem unless ``holds``; returns ``holds`` so that dependent checks can be skipped.

        Args:
            problems: receives the problem.
            holds: whether the rule holds.
            where: the file, option, layer or field concerned.
            found: what was found there.
            **values: what fills the ``{names}``.

        Returns:
            ``holds`` as a bool.
        """
        if not holds:
            problems.note(self.broken(where, found, **values))
        return bool(holds)


def _printable(text: str) -> str:
    """One line of bounded length without control characters: names and values come from files."""
    line = " ".join(text.split())
    if len(line) > LONGEST:
        line = line[:LONGEST] + " …"
    if line.isprintable():
        return line
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


class LbiError(Exception):
    """Base class of this package's errors: a non-empty tuple of problems, found in one pass."""

    exit_code = 1

    def __init__(self, *problems: Problem) -> None:
        if not problems:
            raise TypeError(f"{type(self).__name__} needs at least one Problem")
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class LbiWarning(UserWarning):
    """Base class of this package's warnings; the commands print them regardless of Python's filters."""


class UsageError(LbiError, ValueError):
    """An option has an unknown value, or options contradict each other."""

    exit_code = 2


class InputError(LbiError, ValueError):
    """A file, an array or a network is invalid or contains something unsupported."""

    exit_code = 3


class VerificationError(LbiError, ArithmeticError):
    """Two backends that must agree spike for spike disagree."""

    exit_code = 4


class BackendError(LbiError, RuntimeError):
    """A backend failed, is absent, or exceeded its time limit."""

    exit_code = 5


class MissingPackageError(BackendError, ImportError):
    """An optional package is not installed; the remedy names the extra that brings it."""


class FitError(LbiError, ValueError):
    """The network does not fit the chip, or exceeds a budget."""

    exit_code = 6


class Problems:
    """Problems collected during one pass of checks, raised together.

    >>> problems = Problems()
    >>> Rule("n-steps", "at least 1").check(problems, 3 >= 1, "model", 3)
    True
    >>> problems.raise_as(InputError)
    """

    def __init__(self, found: Iterable[Problem] = ()) -> None:
        self._found = list(found)

    def note(self, problem: Problem) -> None:
        """Note one problem.

        Args:
            problem: the problem.
        """
        self._found.append(problem)

    def take(self, error: LbiError, inside: str = "") -> None:
        """Note all problems of a caught error, each with ``inside`` prefixed to its place.

        Args:
            error: the caught error.
            inside: the outer place; empty for none.
        """
        self._found.extend(problem.inside(inside) if inside else problem for problem in error.problems)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def raise_as(self, error: type[LbiError]) -> None:
        """Raise ``error`` with everything noted, if anything was.

        Args:
            error: the class of error to raise.

        Raises:
            LbiError: of class ``error``, with all problems noted.
        """
        if self._found:
            raise error(*self._found)


def require(package: str, extra: str) -> None:
    """Check that an optional package is installed, without importing it.

    A package that is installed but broken then fails with its own traceback.

    Args:
        package: dotted name of the module to find.
        extra: the extra of this package that brings it.

    Raises:
        MissingPackageError: naming the extra to install.
    """
    from importlib.util import find_spec

    try:
        found = find_spec(package) is not None
    except ModuleNotFoundError:  # a dotted name whose parent is absent
        found = False
    if not found:
        raise MissingPackageError(
            Problem(
                "package-missing",
                package,
                "not installed",
                remedy=f"pip install 'lbi-snn[{extra}]'",
            )
        )
