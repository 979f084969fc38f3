"""numba's compiler, its machine code kept on disk where there is room for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class _Cache(FunctionCache):
    """A cache that a full disk or a folder of somebody else's does not turn into an error."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(OSError):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


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
