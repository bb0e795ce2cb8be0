"""Every backend gives the oracle's outputs and gradients, or refuses."""

from __future__ import annotations

import functools
import importlib
import itertools
import operator

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from maskwright.attention import Axis, causal, documents, padding, per_head, window
from maskwright.attention.backends.dispatch import BACKENDS, choose
from maskwright.attention.backends.recognise import terms
from maskwright.attention.pattern import extent
from maskwright.attention.rules.tokens import Documents, Padding
from tests.attention import against
from tests.attention.strategies import attentions


@st.composite
def tensors_for(draw, pattern, q, kv):
    """Options of `against.inputs` that fit: batch, heads, grouped heads, head size."""
    batch, heads, *_ = extent(pattern, q, kv)
    heads = heads if heads > 1 else draw(st.sampled_from([1, 2, 4]))
    return {
        "batch": batch if batch > 1 else draw(st.sampled_from([1, 1, 2])),
        "heads": heads,
        "kv_heads": draw(st.sampled_from([n for n in (1, 2, 4) if heads % n == 0])),
        "size": draw(st.sampled_from([4, 8])),
        "value_size": draw(st.sampled_from([8, 6])),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@given(data=st.data())
def test_random_expressions_equal_the_oracle_on_every_backend(dtype, data):
    pattern, q, kv = data.draw(attentions())
    options = data.draw(tensors_for(pattern, q, kv))
    tensors = against.inputs(q, kv, dtype=dtype, **options)
    wanted = against.oracle(tensors, pattern, q, kv)
    shapes = {name: options[name] for name in ("batch", "heads", "kv_heads")}
    refusals = choose(pattern, q, kv, dtype=dtype, **shapes).refusals
    for backend in ["auto", *(name for name in BACKENDS if name not in refusals)]:
        against.assert_equals_oracle(tensors, pattern, q, kv, backend, wanted)


@pytest.fixture(scope="module")
def flex_as_it_is():
    """FlexAttention on a CPU without tracing every call, which takes a second."""
    flex = importlib.import_module("torch.nn.attention.flex_attention")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
        yield


@given(data=st.data())
def test_flex_equals_the_oracle_forward(flex_as_it_is, data):
    pattern, q, kv = data.draw(attentions())
    options = data.draw(tensors_for(pattern, q, kv))
    shapes = {name: options[name] for name in ("batch", "heads", "kv_heads")}
    assume("flex" not in choose(pattern, q, kv, training=False, **shapes).refusals)
    tensors = against.inputs(q, kv, **options)
    found = against.forward(tensors, pattern, q, kv, backend="flex")
    wanted = against.oracle(tensors, pattern, q, kv)
    against.assert_close(found, wanted.output, f"output of flex for `{pattern}`")


@st.composite
def parted(draw):
    """Packed documents and padding, on both sides, with a rule inside: what `document` is for."""
    batch = draw(st.sampled_from([None, 2]))
    sides = [draw(packed_axes(batch)) for _ in range(draw(st.sampled_from([1, 2])))]
    terms = draw(
        st.lists(
            st.one_of(
                st.just(documents),
                st.builds(padding, st.sampled_from(["kv", "q", "both"])),
                st.builds(causal, st.sampled_from(["bottom-right", "upper-left"])),
                st.builds(window, st.integers(0, 9), st.integers(0, 9)),
                st.just(per_head([causal, ~window(1)])),
            ),
            min_size=1,
            max_size=4,
        )
    )
    return functools.reduce(operator.and_, terms), sides[0], sides[-1]


@st.composite
def packed_axes(draw, batch):
    """Documents of drawn lengths, each with a number of its own, padding at one end."""
    length = draw(st.sampled_from([8, 24, 70]))
    columns = {"segments": [], "valid": [], "positions": []}
    for _ in range(batch or 1):
        cuts = draw(st.lists(st.integers(1, length - 1), max_size=3, unique=True).map(sorted))
        bounds = [0, *cuts, length]
        sizes = torch.tensor([b - a for a, b in itertools.pairwise(bounds)])
        numbers = draw(st.permutations(range(len(sizes))))
        tokens = draw(st.integers(0, length))
        columns["segments"].append(torch.repeat_interleave(torch.tensor(numbers), sizes))
        columns["valid"].append(torch.arange(length) < tokens)
        starts = torch.repeat_interleave(torch.tensor(bounds[:-1]), sizes)
        columns["positions"].append(torch.arange(length) - starts)
    if draw(st.booleans()):
        del columns["positions"]
    join = (lambda rows: rows[0]) if batch is None else torch.stack
    return Axis(length, **{name: join(rows) for name, rows in columns.items()})


@given(attention=parted(), data=st.data())
def test_documents_and_padding_equal_the_oracle_and_are_not_refused(attention, data):
    pattern, q, kv = attention
    options = data.draw(tensors_for(pattern, q, kv))
    tensors = against.inputs(q, kv, **options)
    wanted = against.oracle(tensors, pattern, q, kv)
    assume(any(isinstance(term, Documents | Padding) for term in terms(pattern)))
    for backend in ("document", "auto", "sdpa"):
        against.assert_equals_oracle(tensors, pattern, q, kv, backend, wanted)
