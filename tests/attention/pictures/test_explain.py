"""`explain` says what is: shares, empty rows and memory as they are, and what dispatch chose."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.attention import (
    Axis,
    causal,
    documents,
    explain,
    full,
    global_tokens,
    nothing,
    padding,
    per_head,
    strided,
    window,
)
from maskwright.attention.backends import dispatch as room
from maskwright.attention.backends.problem import Problem
from maskwright.attention.names import NAMES
from maskwright.attention.pattern import extent
from maskwright.attention.pictures.meanings import meanings
from maskwright.errors import AxisError, BackendError, ConfigError, PatternError, SaveError

PATTERN = causal & (window(256) | global_tokens(0))


def facts(explanation) -> dict[str, str]:
    return {name: fact.replace("\u00a0", " ") for name, fact in explanation.facts}


def test_a_decoder_with_a_window_and_a_sink():
    found = explain(PATTERN, 4096, heads=8)
    mask = PATTERN.dense(Axis(4096))
    assert found.source == "causal & (window(256) | global_tokens(0))"
    assert found.allowed == mask.double().mean().item()
    assert found.touched == PATTERN.blocks(Axis(4096), size=128).touched
    assert found.allowed < found.touched < 0.15
    assert (found.empty.count, found.empty.of, found.empty.first) == (0, 4096, ())
    assert found.memory.dense == mask.numel()
    assert found.memory.block_map == 32 * 32
    assert found.choice == room.choose(PATTERN, Axis(4096), heads=8)
    told = facts(found)
    assert told["attention"] == "4,096 queries × 4,096 keys; 8 heads of 64, float32 on cpu"
    assert told["backend"] == f"{found.choice.backend}: {found.choice.reason}"
    assert told["work"] == "6.1 % of the pairs may attend"
    assert told["empty rows"] == "none"
    for name, why in found.choice.refusals.items():
        assert told[f"not {name}"] == why
    for name in found.choice.estimates:
        assert name in told["estimates"]


def test_every_backend_is_accounted_for():
    found = explain(documents, Axis.packed([9, 7]))
    assert {*found.choice.estimates, *found.choice.refusals} == set(room.BACKENDS)


@pytest.mark.parametrize("backend", ["dense", "sdpa"])
def test_the_backend_that_was_asked_for(backend):
    found = explain(causal, 32, backend=backend)
    assert found.choice.backend == backend
    assert facts(found)["backend"].startswith(f"{backend}: ")
    with pytest.raises(BackendError, match="Did you mean 'dense'"):
        explain(causal, 32, backend="dence")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([full, causal, window(3), strided(5), causal & ~documents, padding]),
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 20),
)  # fmt: skip
def test_shares_lie_in_order(pattern, queries, keys, size):
    q, kv = (
        Axis(n, segments=torch.arange(n) // 7, valid=torch.arange(n) < n - 1)
        for n in (queries, keys)
    )
    found = explain(pattern, q, kv, size=size)
    mask = pattern.dense(q, kv)
    assert found.allowed == pytest.approx(mask.double().mean().item())
    assert 0 <= found.allowed <= found.touched + 1e-12 <= 1 + 1e-9
    assert found.empty.count == int((~mask.any(-1)).sum())
    assert "may attend" in found.text(60)


def test_empty_rows_are_counted_and_the_first_named():
    found = explain(causal, 9, 2)
    assert found.empty.count == 7
    assert found.empty.first == tuple((0, 0, n) for n in range(5))
    assert facts(found)["empty rows"] == (
        "7 of 9, which give zeros and get no gradient: query 0, query 1, query 2, query 3, "
        "query 4, …"
    )


def test_empty_rows_name_sample_and_head():
    valid = torch.tensor([[True] * 4, [False] * 4])
    found = explain(per_head([padding, full]), Axis(4, valid=valid))
    assert (found.empty.count, found.empty.of) == (4, 16)
    assert "sample 1 head 0 query 0, sample 1 head 0 query 1" in facts(found)["empty rows"]
    assert "2 samples, a mask for each of 2 heads" in facts(found)["attention"]


@pytest.mark.parametrize("backend", ["dense", "sdpa", "document", "blocksparse"])
def test_what_the_backend_keeps_is_what_it_prepares(backend):
    valid = torch.ones(3, 32, dtype=torch.bool)
    valid[1, 20:], valid[2] = False, False
    batch, row = Axis(32, valid=valid), Axis.packed([20, 12])
    for pattern, q, kv in (
        (full, row, row),
        (nothing, row, row),
        (causal, row, row),
        (causal, Axis(40), Axis(32)),
        (padding, batch, batch),
        (padding & causal, batch, batch),
        (documents & causal, row, row),
        (window(3), row, row),
        (per_head([causal, window(2)]), row, row),
    ):
        try:
            found = explain(pattern, q, kv, backend=backend)
        except BackendError:
            continue
        own_batch, heads, *_ = extent(pattern, q, kv)
        problem = Problem(pattern, q, kv, own_batch, heads, heads)
        one = room.BACKENDS[backend]
        assert found.memory.kept == one.size(one.prepare(problem)), pattern


def test_nothing_large_is_prepared_to_know_its_size(monkeypatch):
    monkeypatch.setattr(
        sys.modules["maskwright.attention.pictures.explanation"], "_PREPARED", 64 * 64 - 1
    )
    assert explain(strided(2), 64, backend="blocksparse").memory.kept is None
    assert explain(strided(2), 63, backend="blocksparse").memory.kept is not None
    assert "keeps" not in facts(explain(strided(2), 64, backend="blocksparse"))["memory"]


@pytest.mark.parametrize("q, kv", [(0, 0), (0, 4), (4, 0)])
def test_axes_without_tokens(q, kv):
    found = explain(causal, q, kv)
    assert (found.allowed, found.touched) == (0.0, 0.0)
    assert found.empty.count == q
    assert "nothing to draw" in str(found)
    ElementTree.fromstring(found.svg())


def test_what_does_not_fit_is_refused():
    with pytest.raises(AxisError, match="asks for segments"):
        explain(documents, 8)
    with pytest.raises(PatternError, match="Block size 0"):
        explain(causal, 8, size=0)
    with pytest.raises(PatternError, match="panels=0"):
        explain(causal, 8, panels=0)
    with pytest.raises(AxisError, match="heads"):
        explain(per_head([causal, full]), 8, heads=3)


def test_a_long_axis_takes_no_memory_of_its_square():
    """A mask of these axes has 10^10 Booleans; the process may not grow by a fortieth of that."""
    program = """
import resource, torch
from maskwright.attention import (Axis, causal, explain, window)
explain(causal & window(64), 128)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = explain(causal & window(64), 100_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, found.allowed)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    grown, allowed = ended.stdout.split()
    assert int(grown) < 250_000  # kB
    assert float(allowed) == pytest.approx((100_000 * 65 - 64 * 65 / 2) / 1e10)


# ---------------------------------------------------------------------------------- shown


def test_the_text_is_as_wide_as_it_may_be():
    found = explain(PATTERN, 300)
    for width in (60, 80, 140):
        assert max(map(len, found.text(width).splitlines())) <= width
    assert found.text(80, unicode=False).isascii()
    assert found.text(80).startswith("causal & (window(256) | global_tokens(0))\n\n")


@pytest.mark.parametrize("encoding, sign", [("utf-8", "■"), ("ascii", "#"), ("cp1252", "#")])
def test_a_value_prints_in_what_the_terminal_speaks(monkeypatch, encoding, sign):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    print(explain(causal, 3, 2), flush=True)
    assert sign in written.getvalue().decode(encoding)


def test_a_notebook_gets_one_element_in_the_colour_of_its_page():
    shown = explain(causal, 4, 2)._repr_html_()
    root = ElementTree.fromstring(shown.replace("<br>", "<br/>"))
    assert root.tag == "div"
    assert "attends to nothing" in shown
    assert "http" not in shown.replace("http://www.w3.org/2000/svg", "")
    for name, _ in explain(causal, 4, 2).facts:
        assert f">{name}</th>" in shown


def test_markup_in_a_source_is_text():
    shown = explain(causal | global_tokens("<b>&"), Axis(4, **{"<b>&": torch.ones(4).bool()}))
    for drawn in (shown._repr_html_(), shown.svg()):
        assert "<b>" not in drawn
        assert "&lt;b&gt;&amp;" in drawn


# ---------------------------------------------------------------------------------- saved


def test_every_kind_of_file(tmp_path):
    found = explain(causal, 12)
    begins = {"svg": b"<svg", "png": b"\x89PNG", "html": b"<!doctype html>", "txt": b"causal\n"}
    for ending, begin in begins.items():
        path = found.save(tmp_path / f"a.{ending}")
        assert path.read_bytes().startswith(begin)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"a.{one}" for one in begins)
    with pytest.raises(ConfigError, match=r"ending '.gif'.*\.svg"):
        found.save(tmp_path / "a.gif")


def test_what_stood_there_still_stands_where_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.svg"
    path.write_text("before")

    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(SaveError, match="No space left"):
        explain(causal, 4).save(path)
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["a.svg"]


def test_a_folder_that_is_not_there_is_made(tmp_path):
    path = explain(causal, 4).save(tmp_path / "none" / "a.svg")
    assert path.read_text().startswith("<svg")


# -------------------------------------------------------------------------------- library


def test_every_name_of_the_library_has_a_sentence():
    found = meanings()
    assert [one.name for one in found] == list(NAMES)
    for one in found:
        assert one.text.endswith("."), one
        assert 15 < len(one.text) < 130, one
    settings = {one.name: one.settings for one in found}
    assert settings["full"] == ""
    assert settings["window"] == "(left, right=None, align='bottom-right')"
    assert settings["causal"] == "(align='bottom-right')"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_axes_on_a_gpu():
    q = Axis(64, segments=(torch.arange(64) // 9).cuda())
    assert (
        explain(documents, q, device="cuda").allowed
        == explain(documents, Axis(64, segments=torch.arange(64) // 9)).allowed
    )
