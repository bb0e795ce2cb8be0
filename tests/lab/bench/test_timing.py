"""Rounds that end when the time is up; the rest is tested with the benchmarks' harness."""

from __future__ import annotations

import time

import pytest

from maskwright.lab.bench.timing import time_interleaved


@pytest.mark.parametrize("limit, rounds", [(0.0, 0), (65.0, 2), (1000.0, 4)])
def test_no_round_begins_after_the_limit(limit, rounds, monkeypatch):
    now, calls = 0.0, 0

    def spend() -> None:
        nonlocal now, calls
        now, calls = now + 20.0, calls + 1

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    found = time_interleaved({"a": spend}, repeats=4, min_seconds=0.0, max_seconds=limit)
    assert found == {"a": 20.0}
    assert calls == 2 + rounds  # the first, one that counts where there is no round, the rounds
