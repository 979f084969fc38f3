"""numba compilation with an on-disk cache that tolerates unwritable folders and tracks compiled callees."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):
    """A function cache for which a full disk or an unwritable folder is not an error.

    numba's own cache is invalidated by changes of the file that defines the function. This one is also
    invalidated by changes of any file that defines a compiled function it calls.
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


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit(**options)`` with a cache in NUMBA_CACHE_DIR, beside the source, or in the home folder.

    The first of these that is writable is used. If none is, every process compiles for itself.
    """

    def compile_when_called(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        with suppress(RuntimeError):  # no writable folder
            dispatcher._cache = _Cache(function)
        return dispatcher

    return compile_when_called
