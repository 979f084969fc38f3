"""numba's compiler, its machine code kept on disk where there is room for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):
    """A cache that a full disk or a folder of somebody else's does not turn into an error.

    numba's own knows only the file that a function stands in; this one forgets it too when a file changes from which
    something was compiled into it.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _sources(self._py_func))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(OSError):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def _sources(function: Any) -> tuple[tuple[str, float, int], ...]:
    """Name, time and size of every file with a compiled function that ``function`` calls, directly or not."""
    functions = [function]
    for caller in functions:  # grows meanwhile
        for name in caller.__code__.co_names:
            called = getattr(caller.__globals__.get(name), "py_func", None)
            if called is not None and called not in functions:
                functions.append(called)
    paths = {called.__code__.co_filename for called in functions[1:]}
    stats = [(os.path.basename(path), os.stat(path)) for path in sorted(paths)]
    return tuple((name, stat.st_mtime, stat.st_size) for name, stat in stats)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit(**options)`` with a cache: in NUMBA_CACHE_DIR, else beside the source, else in the home folder.

    Where none of them can be written, every process compiles anew.
    """

    def compile_when_called(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        with suppress(RuntimeError):  # no folder for it
            dispatcher._cache = _Cache(function)
        return dispatcher

    return compile_when_called
