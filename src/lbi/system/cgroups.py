"""The control groups that limit this process on Linux, as a container's do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where control groups are mounted."""

GROUPS = Path("/proc/self/cgroup")
"""The process's control groups, one ``id:controllers:path`` a line."""


def folders(controller: str) -> Iterator[Path]:
    """The folders of the process's groups and of all above them, of version 2 and of a controller ("cpu", "memory") of version 1.

    Args:
        controller: its name.

    Yields:
        Folders, some of which may not exist: a container may not see those of its own path.
    """
    try:
        lines = GROUPS.read_text().splitlines()
    except OSError:
        lines = []
    for line in ["0::/", *lines]:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = CGROUP / controllers if (CGROUP / controllers).is_dir() else CGROUP / controller
        group = (base if controllers else CGROUP) / path.lstrip("/")
        for folder in (group, *group.parents):
            yield folder
            if folder == CGROUP:
                break
