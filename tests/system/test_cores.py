"""Cores that a process may use: affinity, container limits, OMP_NUM_THREADS."""

from __future__ import annotations

import math
import os

import pytest

from lbi.system import cgroups, cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cgroups, "CGROUP", tmp_path)
    monkeypatch.setattr(cgroups, "GROUPS", tmp_path / "groups")
    (tmp_path / "groups").write_text("1:cpu:/\n")
    for name in cores.LIMITS:
        monkeypatch.delenv(name, raising=False)
    cores.cgroup_cpus.cache_clear()
    yield tmp_path
    cores.cgroup_cpus.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"), [("150000 100000", 2), ("max 100000", 8), ("", 8), ("0 0", 8), ("900000 100000", 8)]
)
def test_a_container_of_version_2(eight_cores, text, expected):
    (eight_cores / "cpu.max").write_text(text)
    assert cores.available_cores() == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("150000 100000", 1), ("50000 100000", 1), ("250000 100000", 2), ("max 100000", 8)]
)
def test_processes_side_by_side_take_whole_cores(eight_cores, monkeypatch, text, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of each process
    (eight_cores / "cpu.max").write_text(text)
    assert cores.whole_cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", 8)])
def test_a_container_of_version_1(eight_cores, quota, expected):
    (eight_cores / "cpu").mkdir()
    (eight_cores / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (eight_cores / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.available_cores() == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("2,4", 2), ("0", 8), ("x", 8), ("-2", 8), ("64", 8)]
)
@pytest.mark.parametrize("name", cores.LIMITS)
def test_the_users_number_of_threads(monkeypatch, name, text, expected):
    monkeypatch.setenv(name, text)
    assert cores.available_cores() == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/job/step\n", {"job/cpu.max": "150000 100000\n", "job/step/cpu.max": "max 100000\n"}, 1.5),
        ("0::/job\n", {"job/cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4.0),
        (
            "4:memory:/x\n3:cpu,cpuacct:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "50000\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        (
            "3:cpu:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
            math.inf,
        ),
        ("0::/job\n", {"job/cpu.max": "nonsense\n"}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_quotas_of_groups_and_of_those_above_them(groups, files, expected, eight_cores):
    for name, text in files.items():
        path = eight_cores / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (eight_cores / "groups").write_text(groups)
    assert cores.cgroup_cpus() == expected


def test_the_process_need_not_name_its_groups(eight_cores):
    (eight_cores / "groups").unlink()
    assert cores.available_cores() == 8
