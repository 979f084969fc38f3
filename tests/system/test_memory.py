"""Memory that is left: the machine's, or what a container's limits leave."""

from __future__ import annotations

import pytest

from lbi.system import cgroups, memory


@pytest.fixture(autouse=True)
def a_megabyte(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroups, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 2048 kB\nMemAvailable: 1024 kB\n")
    return tmp_path


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 1 << 20),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "5000\n"}, 1 << 20),
        ("0::/\n", {"memory.max": "9000\n", "memory.current": "5000\n"}, 4000),
        ("0::/\n", {"memory.max": "9000\n", "memory.current": "9500\n"}, 0),
        (
            "0::/\n",
            {
                "memory.max": "9000\n",
                "memory.current": "5000\n",
                "memory.stat": "anon 7\ninactive_file 300\n",
            },
            4300,
        ),
        ("0::/a/b\n", {"a/memory.max": "700\n", "a/memory.current": "500\n", "a/b/memory.max": "max\n"}, 200),
        (
            "4:memory:/x\n3:cpu:/y\n",
            {"memory/x/memory.limit_in_bytes": "800\n", "memory/x/memory.usage_in_bytes": "500\n"},
            300,
        ),
        (
            "4:memory:/\n",
            {"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "5\n"},
            1 << 20,
        ),
    ],
)
def test_the_smallest_limit_counts(a_megabyte, groups, files, expected):
    (a_megabyte / "groups").write_text(groups)
    for name, text in files.items():
        path = a_megabyte / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory.available() == expected


def test_elsewhere_it_is_the_machines_memory(a_megabyte):
    (a_megabyte / "meminfo").unlink()
    assert memory.available() > 1 << 20
