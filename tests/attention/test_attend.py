"""`attend`: shapes, axes, what is kept between calls, dtypes, and the laws of a mask."""

from __future__ import annotations

import gc
import importlib
import warnings
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional

from maskwright.attention import (
    Axis,
    Pattern,
    causal,
    documents,
    full,
    marked,
    nothing,
    padding,
    per_head,
    window,
)
from maskwright.attention.attend import attend, plans
from maskwright.attention.backends.dispatch import BACKENDS
from maskwright.attention.backends.plans import Plans
from maskwright.errors import (
    AxisError,
    BackendError,
    BatchError,
    ConfigError,
    EmptyRowsWarning,
)
from tests.attention import against

TRAINING = [name for name in BACKENDS if name != "flex"]
packed = Axis.packed([40, 40, 40, 40])
ragged = Axis(
    160,
    segments=torch.repeat_interleave(torch.arange(4), torch.tensor([70, 3, 60, 27])),
    valid=torch.arange(160) < 150,
)


@pytest.fixture(autouse=True)
def nothing_kept():
    plans.clear()
    yield
    plans.clear()


# ------------------------------------------------------------------- the same as the oracle


@pytest.mark.parametrize("backend", TRAINING)
@pytest.mark.parametrize(
    "pattern, q, kv",
    [
        (documents, packed, packed),
        (causal & documents, packed, packed),
        (causal & documents & padding, ragged, ragged),
        (documents & padding("both") & window(9), ragged, ragged),
        (documents & per_head([causal, ~window(3)]), ragged, ragged),
        (documents, ragged, packed),
        (causal & documents, Axis.packed([5, 9, 2]), Axis.packed([7, 1, 30, 4])),
    ],
    ids=str,
)
def test_documents_equal_the_oracle(backend, pattern, q, kv):
    tensors = against.inputs(q, kv, batch=2, heads=2, kv_heads=1)
    wanted = against.oracle(tensors, pattern, q, kv)
    against.assert_equals_oracle(tensors, pattern, q, kv, backend, wanted)


@pytest.mark.parametrize("backend", TRAINING)
@pytest.mark.parametrize("pattern", [padding, causal & padding, padding("both")], ids=str)
def test_padded_batches_equal_the_oracle(backend, pattern):
    valid = torch.arange(12) < torch.tensor([[12], [5], [0], [5]])
    for columns in (valid, valid.flip(1)):
        axis = Axis.padded(columns)
        tensors = against.inputs(axis, axis, batch=4)
        wanted = against.oracle(tensors, pattern, axis, axis)
        against.assert_equals_oracle(tensors, pattern, axis, axis, backend, wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=["fp64", "fp16"])
@pytest.mark.parametrize("backend", TRAINING)
def test_other_dtypes(backend, dtype):
    pattern = causal & documents & padding
    tensors = against.inputs(ragged, ragged, dtype=dtype)
    wanted = against.oracle(tensors, pattern, ragged, ragged)
    against.assert_equals_oracle(tensors, pattern, ragged, ragged, backend, wanted)


@pytest.mark.parametrize("backend", TRAINING)
def test_tensors_that_are_not_contiguous(backend):
    tensors = against.inputs(packed, packed, batch=2, heads=4)
    pattern = causal & documents
    wanted = against.outcome(tensors, pattern, packed, packed, backend=backend)
    # (batch, length, heads, size) in memory, as a projection leaves them; then (…, size, length)
    for order in ((1, 2), (2, 3)):
        strided = against.Inputs(
            *(x.transpose(*order).contiguous().transpose(*order) for x in tensors)
        )
        assert not strided.query.is_contiguous()
        leaves = [x.detach().requires_grad_() for x in strided[:3]]
        output = attend(*leaves, pattern, q=packed, backend=backend)
        found = (output, *torch.autograd.grad(output, leaves, strided.upstream))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_flex_on_a_cpu_gives_the_output_and_refuses_to_train():
    tensors = against.inputs(ragged, ragged)
    pattern = documents & window(20)
    found = against.forward(tensors, pattern, ragged, ragged, backend="flex")
    wanted = against.oracle(tensors, pattern, ragged, ragged)
    against.assert_close(found, wanted.output, "flex")
    with pytest.raises(BackendError, match=r"no backward on a CPU.*Those that can: sdpa"):
        against.outcome(tensors, pattern, ragged, ragged, backend="flex")


# ------------------------------------------------------------------------------- empty rows


@pytest.mark.parametrize("backend", TRAINING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "pattern",
    [
        nothing,
        marked("asks", "q"),
        documents,
        documents & marked("asks", "q"),
        causal("upper-left"),
    ],
    ids=str,
)
def test_empty_rows_are_zero_and_pass_no_gradient(backend, dtype, pattern):
    if backend == "document" and pattern == causal("upper-left"):
        pytest.skip("neither documents nor padding: refused, as test_dispatch shows")
    asks = torch.tensor([True, True, False, False, False])
    q = Axis(5, segments=[0, 0, 1, 2, 2], positions=[-1, 0, 1, 2, 3], asks=asks)
    kv = Axis(4, segments=[0, 0, 2, 2], positions=[0, 1, 2, 3], asks=asks[:4])
    empty = ~pattern.dense(q, kv).any(-1).expand(1, 2, 5)
    assert empty.any()
    tensors = against.inputs(q, kv, dtype=dtype)
    found = against.outcome(tensors, pattern, q, kv, backend=backend)
    assert (found.output[empty] == 0).all()
    assert (found.query[empty] == 0).all()
    assert all(x.isfinite().all() for x in found)
    wanted = against.oracle(tensors, pattern, q, kv)
    for one, other in zip(found, wanted, strict=True):
        against.assert_close(one, other, f"{backend} {pattern}")


def test_a_query_that_sees_nothing_is_told_of_unless_it_is_padding():
    x = torch.ones(1, 1, 3, 4)
    axis = Axis(3, segments=[0, 0, 1])
    other = Axis(3, segments=[0, 0, 2])
    for backend in TRAINING:
        with pytest.warns(EmptyRowsWarning, match=r"`documents` leaves queries without a key"):
            attend(x, x, x, documents, q=axis, kv=other, backend=backend)
        # known by now: nothing is worked out, and nothing is said
        attend(x, x, x, documents, q=axis, kv=other, backend=backend)
        padded = Axis(3, valid=[False, True, True])
        attend(x, x, x, causal & padding, q=padded, backend=backend)


# -------------------------------------------------------------------------- the laws of masks


@pytest.mark.parametrize("backend", [*TRAINING, "auto"])
@pytest.mark.parametrize(
    "pattern", [causal, documents, causal & documents & padding, documents & window(2)], ids=str
)
def test_what_is_forbidden_changes_no_bit_and_what_is_allowed_does(backend, pattern):
    if backend == "document" and pattern == causal:
        backend = "sdpa"
    axis = Axis.packed([7, 12, 5], valid=torch.arange(24) != 23)
    tensors = against.inputs(axis, axis, seed=1)
    allowed = pattern.dense(axis)[0, 0]
    before = against.forward(tensors, pattern, axis, axis, backend=backend)
    for token in (0, 6, 7, 13, 23):
        key, value = tensors.key.clone(), tensors.value.clone()
        key[:, :, token] += 3
        value[:, :, token] -= 2
        changed = tensors._replace(key=key, value=value)
        after = against.forward(changed, pattern, axis, axis, backend=backend)
        sees = allowed[:, token]
        assert torch.equal(after[:, :, ~sees], before[:, :, ~sees])
        assert (after[:, :, sees] != before[:, :, sees]).any(-1).all()


# --------------------------------------------------------------------------------- arguments


def test_without_a_pattern_everything_is_seen():
    tensors = against.inputs(Axis(6), Axis(9), heads=2)
    found = attend(*tensors[:3])
    assert torch.equal(found, functional.scaled_dot_product_attention(*tensors[:3]))


def test_the_default_alignment_is_bottom_right():
    q, kv = Axis(2), Axis(5)
    tensors = against.inputs(q, kv)
    found = attend(*tensors[:3], causal)
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]).bool()
    wanted = functional.scaled_dot_product_attention(*tensors[:3], mask)
    torch.testing.assert_close(found, wanted)


def test_in_self_attention_one_axis_is_both():
    tensors = against.inputs(packed, packed)
    found = attend(*tensors[:3], documents, q=packed)
    assert torch.equal(found, attend(*tensors[:3], documents, q=packed, kv=packed))
    # with other lengths the keys have an axis of their own, of which nothing is known
    other = against.inputs(packed, Axis(10))
    with pytest.raises(AxisError, match="segments of the kv axis"):
        attend(*other[:3], documents, q=packed)


@pytest.mark.parametrize("backend", TRAINING)
def test_the_scale_is_the_users(backend):
    tensors = against.inputs(packed, packed)
    found = against.forward(tensors, documents, packed, packed, scale=0.7, backend=backend)
    mask = documents.dense(packed)
    wanted = functional.scaled_dot_product_attention(*tensors[:3], mask, scale=0.7)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["dense", "sdpa", "document"])
def test_dropout_drops_weights_and_keeps_the_mean(backend):
    axis = Axis.packed([6, 2], valid=torch.arange(8) < 7)
    pattern = documents & padding("both")
    tensors = against.inputs(axis, axis, batch=1)
    kept = against.forward(tensors, pattern, axis, axis, backend=backend)
    torch.manual_seed(0)
    draws = torch.stack(
        [
            against.forward(tensors, pattern, axis, axis, backend=backend, dropout=0.25)
            for _ in range(3000)
        ]
    )
    assert (draws.std(0)[:, :, :7] > 0.1).any(-1).all()
    assert (draws[:, :, :, 7] == 0).all()  # the query at padding
    error = (draws.mean(0) - kept).abs() / (draws.std(0) / 3000**0.5 + 1e-9)
    assert error[:, :, :7].max() < 5


def test_what_does_not_fit_is_refused_with_its_name_and_value():
    x = torch.ones(2, 4, 6, 8)
    with pytest.raises(AxisError, match="The q axis has length 5, the tensors have 6 queries"):
        attend(x, x, x, causal, q=Axis(5), kv=Axis(6))
    with pytest.raises(AxisError, match="The kv axis has length 7, the tensors have 6 keys"):
        attend(x, x, x, causal, kv=Axis(7))
    three = Axis(6, valid=torch.ones(3, 6, dtype=torch.bool))
    with pytest.raises(
        AxisError, match="the q axis and the kv axis: a batch of 3; the tensors have 2"
    ):
        attend(x, x, x, padding, q=three)
    with pytest.raises(AxisError, match="is for 3 heads, the query has 4"):
        attend(x, x, x, per_head([causal, full, causal]))
    with pytest.raises(BatchError, match="4 heads, key has 3"):
        attend(x, x[:, :3], x[:, :3])
    with pytest.raises(BatchError, match="the same heads and the same length"):
        attend(x, x, x[:, :, :5])
    with pytest.raises(BatchError, match="the same size"):
        attend(x, x[..., :4], x)
    with pytest.raises(BatchError, match="the same in all three"):
        attend(x, x[:1], x)
    with pytest.raises(BatchError, match="batch, heads, length, size"):
        attend(x[0], x, x)
    with pytest.raises(BatchError, match="one floating-point type"):
        attend(x, x.double(), x)
    with pytest.raises(ConfigError, match=r"dropout=1\.5"):
        attend(x, x, x, dropout=1.5)


@pytest.mark.parametrize("backend", TRAINING)
def test_under_autocast_every_backend_answers_in_half_precision(backend):
    tensors = against.inputs(ragged, ragged)
    pattern = causal & documents & padding
    mixed = against.Inputs(tensors.query, tensors.key.bfloat16(), *tensors[2:])
    with torch.autocast("cpu", torch.bfloat16):
        found = against.forward(mixed, pattern, ragged, ragged, backend=backend)
    assert found.dtype == torch.bfloat16
    wanted = against.oracle(tensors, pattern, ragged, ragged)
    against.assert_close(found, wanted.output, backend)
    with torch.autocast("cpu", torch.bfloat16):
        doubled = against.Inputs(*(x.double() for x in tensors))
        assert against.forward(doubled, pattern, ragged, ragged).dtype == torch.float64


@pytest.mark.slow  # tracing takes seconds
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # by tracing
def test_under_torch_compile_it_runs_between_two_graphs():
    axis = Axis.packed([5, 3])
    tensors = against.inputs(axis, axis)

    def layer(query, key, value):
        return attend(query * 2, key, value, causal & documents, q=axis).sum(-1)

    wanted = layer(*tensors[:3])
    compiled = torch.compile(layer, backend="eager")
    torch.testing.assert_close(compiled(*tensors[:3]), wanted)
    torch.testing.assert_close(compiled(*tensors[:3]), wanted)


# ------------------------------------------------------------------------------ what is kept


@pytest.fixture
def prepared(monkeypatch):
    """How often a backend prepared something."""
    module = importlib.import_module("maskwright.attention.attend")  # not the function
    calls = []
    original = module._plan
    monkeypatch.setattr(module, "_plan", lambda *args: calls.append(args) or original(*args))
    return calls


def test_the_same_axes_again_are_worked_out_once(prepared):
    tensors = against.inputs(packed, packed)
    first = attend(*tensors[:3], causal & documents, q=packed)
    for _ in range(5):
        # an equal pattern, spelled anew each time, as a model's forward would
        assert torch.equal(attend(*tensors[:3], causal & documents, q=packed), first)
    assert len(prepared) == 1
    attend(*tensors[:3], documents, q=packed)
    attend(*tensors[:3], documents, q=packed, backend="dense")
    assert len(prepared) == 3
    for _ in range(3):
        attend(*tensors[:3], causal)  # axes made from the lengths are the same too
    assert len(prepared) == 4


def test_a_column_that_was_written_to_is_another_axis(prepared):
    valid = torch.tensor([[True, True, True, False]])
    axis = Axis(4, valid=valid)
    tensors = against.inputs(axis, axis)
    attend(*tensors[:3], padding, q=axis)
    valid[0, 2] = False
    found = attend(*tensors[:3], padding, q=axis)
    assert len(prepared) == 2
    wanted = functional.scaled_dot_product_attention(*tensors[:3], valid[:, None, None])
    torch.testing.assert_close(found, wanted)


def test_columns_made_in_inference_mode_are_fine():
    with torch.inference_mode():
        axis = Axis(4, valid=torch.tensor([[True, True, False, False]]))
        tensors = against.inputs(axis, axis)
        assert attend(*tensors[:3], padding, q=axis).shape == tensors.query.shape


def test_axes_that_change_with_every_batch_do_not_pile_up():
    alive = []
    for length in range(1, 200):
        column = torch.arange(256)[None] < length
        axis = Axis(256, valid=column)
        alive.append(weakref.ref(axis.columns["valid"]))
        x = torch.ones(1, 1, 256, 4)
        attend(x, x, x, padding | window(0), q=axis)
        del axis, column
    gc.collect()
    assert len(plans) <= 64
    assert sum(one() is not None for one in alive) <= 64


def test_plans_are_kept_by_number_and_by_size():
    kept: Plans[int] = Plans(size=lambda value: value, entries=3, limit=10)
    for name, size in (("a", 1), ("b", 2), ("c", 3)):
        kept.put(name, size)
    assert kept.get("a") == 1  # now the latest
    kept.put("d", 4)  # one too many: b was used longest ago
    assert kept.get("b") is None
    assert (len(kept), kept.bytes) == (3, 8)
    kept.put("e", 9)  # too large for any other beside it
    assert (len(kept), kept.bytes, kept.get("e")) == (1, 9, 9)
    kept.put("f", 99)  # the latest stays, whatever its size
    assert (len(kept), kept.get("f")) == (1, 99)
    kept.put("f", 1)
    assert (len(kept), kept.bytes) == (1, 1)
    kept.clear()
    assert (len(kept), kept.bytes) == (0, 0)


def test_the_bytes_of_masks_count():
    tensors = against.inputs(Axis(64), Axis(64))
    attend(*tensors[:3], window(2))
    assert plans.bytes >= 64 * 64
    before = plans.bytes
    attend(*tensors[:3], causal)
    assert plans.bytes == before  # a flag is no mask


def test_the_reference_is_not_imported_by_fast_code():
    import subprocess
    import sys

    code = (
        "import sys, maskwright.attention.attend; "
        "assert 'maskwright.attention.reference' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_patterns_of_the_user_run_too():
    @dataclass(frozen=True, repr=False)
    class Odd(Pattern):
        spelled = "odd"

        def allowed(self, q, kv):
            return (q.index + kv.index) % 2 == 1

    axis = Axis(6)
    tensors = against.inputs(axis, axis)
    wanted = against.oracle(tensors, Odd(), axis, axis)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        against.assert_equals_oracle(tensors, Odd(), axis, axis, "auto", wanted)
