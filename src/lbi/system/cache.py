"""The user's folder for results that can be computed again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's folder for what can be computed again; it need not exist.

    Returns:
        ``lbi`` in ``XDG_CACHE_HOME``, or where the system keeps caches.
    """
    own = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(own) if own else Path.home() / ".cache") / "lbi"
