"""Cores that a process may use: affinity, container limits, OMP_NUM_THREADS."""

from __future__ import annotations

import os

import pytest

from lbi.system import cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores._cgroup_limit.cache_clear()
    yield tmp_path
    cores._cgroup_limit.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"), [("150000 100000", 2), ("max 100000", 8), ("", 8), ("0 0", 8), ("900000 100000", 8)]
)
def test_a_container_of_version_2(eight_cores, text, expected):
    (eight_cores / "cpu.max").write_text(text)
    assert cores.available_cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", 8)])
def test_a_container_of_version_1(eight_cores, quota, expected):
    (eight_cores / "cpu").mkdir()
    (eight_cores / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (eight_cores / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.available_cores() == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("2,4", 2), ("0", 8), ("x", 8), ("-2", 8), ("64", 8)]
)
def test_the_users_number_of_threads(monkeypatch, text, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert cores.available_cores() == expected
