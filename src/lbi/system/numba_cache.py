"""numba compilation with an on-disk cache that tolerates unwritable folders and tracks compiled callees."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, NullCache

LOGGER = logging.getLogger(__name__)
"""Receives a line (level INFO) before a function with a name is compiled, which may take seconds."""

_options: dict[str, Any] = {"nogil": True, "_nrt": False, "forceinline": True}  # _nrt is not in numba's types
inlined: Callable[[Callable[..., Any]], Any] = njit(**_options)
"""Compilation of a small function into its callers, by LLVM. numba's ``inline="always"`` gives the same machine code, but copies the
function before types are known, in a pass whose time grows with the square of the caller: 31 of the 42 s that ``lbi.simulation.kernels.run`` took."""


class _Cache(FunctionCache):
    """A function cache for which a full disk or an unwritable folder is not an error.

    numba's own cache is invalidated by changes of the file that defines the function. This one is also
    invalidated by changes of any file that defines a compiled function it calls.

    Args:
        function: the function.
        name: what the log calls it; empty for functions that compile fast.
    """

    def __init__(self, function: Any, name: str = "") -> None:
        super().__init__(function)
        self._name = name

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _sources(self._py_func))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = None
        with suppress(OSError):
            found = super().load_overload(sig, target_context)
        if found is None and self._name:
            LOGGER.info("compiling %s, once on this computer; the next start is faster", self._name)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


class _NoCache(NullCache):
    """No cache, since no folder for it is writable; ``name`` as in ``_Cache``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def load_overload(self, sig: Any, target_context: Any) -> None:
        if self._name:
            LOGGER.info("compiling %s; set NUMBA_CACHE_DIR to a writable folder to keep it", self._name)


def _sources(function: Any) -> tuple[tuple[str, float, int], ...]:
    """Name, modification time and size of each file that defines a compiled callee, direct or indirect."""
    functions = [function]
    for caller in functions:  # the list grows during the loop
        for name in caller.__code__.co_names:
            value = caller.__globals__.get(name)
            # A jitted function has its source in py_func, an intrinsic in _defn.
            called = getattr(value, "py_func", None) or getattr(value, "_defn", None)
            if called is not None and called not in functions:
                functions.append(called)
    paths = {called.__code__.co_filename for called in functions[1:]}
    stats = [(os.path.basename(path), os.stat(path)) for path in sorted(paths)]
    return tuple((name, stat.st_mtime, stat.st_size) for name, stat in stats)


def compiled(name: str = "", /, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit(**options)`` with a cache in NUMBA_CACHE_DIR, beside the source, or in the home folder.

    The first of these that is writable is used. If none is, every process compiles for itself.

    Args:
        name: what ``LOGGER`` calls the function when it is compiled; empty for none of it.
        **options: of ``numba.njit``.

    Returns:
        A decorator that gives a numba dispatcher.
    """

    def compile_when_called(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        try:
            dispatcher._cache = _Cache(function, name)
        except RuntimeError:  # no writable folder
            dispatcher._cache = _NoCache(name)
        return dispatcher

    return compile_when_called
