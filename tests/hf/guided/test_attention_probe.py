"""The attention that the probe reads is that which transformers returns, of every architecture."""

from __future__ import annotations

import pytest
import torch
from transformers import AlbertConfig, AlbertForMaskedLM

from maskwright.attention import global_tokens, wait_k, window
from maskwright.errors import ConfigError, ModelError
from maskwright.hf import accelerate_model, attach
from maskwright.hf.guided.attention_probe import AttentionProbe
from tests.hf.attachment import models

# Whisper's source is sound, of which there are no tokens to score; of the encoder of an
# EncoderDecoderModel, here a BERT, transformers returns no attention.
SEATS = [
    (kind, role)
    for kind, role in models.SEATS
    if kind != "whisper"
    and (kind, role) != ("encoder-decoder", "encoder")
    and (role != "decoder" or "cross" not in models.KINDS[kind].roles)
]
_ATTENTIONS = {"encoder": "encoder_attentions", "cross": "cross_attentions"}


def padded(kind: str, side: str) -> tuple[dict, torch.Tensor]:
    """A batch whose second row is three tokens shorter, and its mask."""
    inputs = models.inputs(kind)
    mask = torch.ones_like(inputs["input_ids"])
    if side != "none":
        mask[1, slice(0, 3) if side == "left" else slice(-3, None)] = 0
    return inputs | {"attention_mask": mask}, mask


def read(model, inputs, mask, target_mask=None, **settings) -> torch.Tensor:
    """What a probe sees in a training step; it leaves the model as it was."""
    probe = AttentionProbe(model, **settings)
    model.train()
    probe.open(3, mask, target_mask)
    model(**inputs)
    probe.close()
    found = probe.take()
    probe.remove()
    return found


def whole(kind, role, inputs, mask, layers) -> torch.Tensor:
    """The mean over heads and over the queries that see a key, of what transformers returns."""
    model = models.make(kind, implementation="eager").train()
    name = _ATTENTIONS.get(role) if "cross" in models.KINDS[kind].roles else "attentions"
    out = model(**inputs, output_attentions=True)
    found = []
    for layer in layers:
        weights = out[name][layer].detach().clone()
        if role != "cross":
            weights[mask[:, None, :, None].expand_as(weights) == 0] = 0
        found.append(weights.sum((1, 2)) / (weights > 0).sum((1, 2)))
    return torch.stack(found).mean(0)


@pytest.mark.parametrize("kind, role", SEATS)
@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_it_is_what_transformers_returns(kind, role, side, implementation):
    inputs, mask = padded(kind, side)
    model = models.make(kind, implementation=implementation)
    for layers in ((0,), (1,), (0, 1)):
        found = read(model, inputs, mask, role=role, layers=layers, queries=None)
        torch.testing.assert_close(
            found, whole(kind, role, inputs, mask, layers), equal_nan=True, rtol=1e-4, atol=1e-6
        )
        assert torch.isnan(found).equal(mask == 0)


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in SEATS}))
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_model_computes_what_it_did(kind, implementation):
    inputs, mask = padded(kind, "right")
    model = models.make(kind, implementation=implementation).train()
    before = model(**inputs)["logits"]
    config = {
        name: module.config for name, module in model.named_modules() if "config" in vars(module)
    }
    probe = AttentionProbe(model, queries=2)
    probe.open(0, mask)
    during = model(**inputs)["logits"]
    probe.close()
    assert torch.equal(during, before)
    probe.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for name, module in model.named_modules():
        if "config" in vars(module):
            assert module.config is config[name]


def test_few_queries_are_those_of_the_step_whatever_else_is_in_the_batch():
    inputs, mask = padded("bert", "right")
    model = models.make("bert")
    both = read(model, inputs, mask, queries=2)
    alone = {name: value[1:, :6] for name, value in inputs.items()}
    torch.testing.assert_close(read(model, alone, mask[1:, :6], queries=2), both[1:, :6])
    assert not torch.allclose(both[0], read(model, inputs, mask, queries=None)[0])


def test_heads_can_be_chosen():
    inputs, mask = padded("bert", "right")
    model = models.make("bert")
    one, two = (read(model, inputs, mask, heads=[head], queries=None) for head in (0, 1))
    both = read(model, inputs, mask, queries=None)
    torch.testing.assert_close((one + two) / 2, both, equal_nan=True)
    assert not torch.allclose(one[0], two[0])


def test_padding_of_the_target_does_not_ask():
    inputs, mask = padded("bart", "right")
    model = models.make("bart")
    target = torch.ones_like(inputs["decoder_input_ids"])
    target[:, 4:] = 0
    cut = inputs | {"decoder_input_ids": inputs["decoder_input_ids"][:, :4]}
    torch.testing.assert_close(
        read(model, inputs, mask, target, role="cross", queries=None),
        read(model, cut, mask, role="cross", queries=None),
        equal_nan=True,
    )


@pytest.mark.parametrize("reentrant", [False, True])
def test_layers_that_are_computed_again_are_not_looked_at_again(reentrant):
    inputs, mask = padded("bert", "right")
    plain = models.make("bert")
    expected = read(plain, inputs, mask)
    model = models.make("bert").train()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    probe = AttentionProbe(model)
    for _ in range(2):
        probe.open(3, mask)
        out = model(**inputs)["logits"]
        probe.close()
        found = probe.take()
        out.sum().backward()
        torch.testing.assert_close(found, expected, equal_nan=True)
        assert not probe._found
    assert all(p.grad is not None for p in model.bert.encoder.parameters())


def test_a_pattern_on_the_model_is_seen():
    inputs, mask = padded("bert", "right")
    model = models.make("bert")
    with attach(model, encoder=window(0)):
        found = read(model, inputs, mask, queries=None)
    # each token alone attends to itself, with all it has
    torch.testing.assert_close(found[mask == 1], torch.ones(15))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("combine", ["restrict", "replace"])
@pytest.mark.parametrize(
    "kind, role, pattern",
    [("bert", "encoder", window(1) | global_tokens(0)), ("gpt2", "decoder", window(1)),
     ("bart", "cross", wait_k(1))],
)  # fmt: skip
def test_so_is_one_on_a_model_without_padding(kind, role, pattern, combine, side):
    inputs, mask = padded(kind, side)
    model = models.make(kind)
    with attach(model, **{role: pattern}, combine=combine):
        expected = read(model, inputs, mask, role=role, queries=None)
        probe = AttentionProbe(model, role=role, queries=None)
        with accelerate_model(model, unpad=True):
            probe.open(3, mask, None)
            model(**inputs)
            probe.close()
        found = probe.take()
        probe.remove()
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-4, atol=1e-6)


def test_one_module_for_all_layers():
    """ALBERT runs one attention module many times; a layer is one of its calls."""
    settings = {
        "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 24, "embedding_size": 8, "attn_implementation": "eager",
    }  # fmt: skip
    torch.manual_seed(0)
    model = AlbertForMaskedLM(AlbertConfig(**settings))
    inputs = models.inputs("bert")
    mask = torch.ones_like(inputs["input_ids"])
    weights = model.eval()(**inputs, output_attentions=True)["attentions"]
    for layer in range(3):
        found = read(model, inputs, mask, layers=[layer], queries=None)
        torch.testing.assert_close(found, weights[layer].mean((1, 2)), rtol=1e-4, atol=1e-6)
    assert AttentionProbe(model).layers == (2,)


def test_the_default_is_the_first_layer_of_the_last_third():
    assert AttentionProbe(models.make("bert")).layers == (1,)
    assert AttentionProbe(models.make("t5")).role == "encoder"
    assert AttentionProbe(models.make("gpt2")).role == "decoder"


def test_evaluation_is_not_looked_at():
    inputs, mask = padded("bert", "right")
    model = models.make("bert").eval()
    probe = AttentionProbe(model)
    probe.open(0, mask)
    model(**inputs)
    probe.close()
    with pytest.raises(ModelError, match="0 of 1 probed layers ran"):
        probe.take()


def test_a_probe_of_a_run_that_was_broken_off_gives_way():
    model = models.make("bert")
    inputs, mask = padded("bert", "right")
    expected = read(model, inputs, mask)
    AttentionProbe(model)
    torch.testing.assert_close(read(model, inputs, mask), expected, equal_nan=True)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    "kind, settings, said",
    [
        ("bert", {"layers": [2]}, "encoder layers 0 to 1"),
        ("bert", {"layers": []}, "at least one"),
        ("bert", {"layers": [0, 0]}, "each once"),
        ("bert", {"role": "cross"}, "has no cross attention"),
        ("bart", {"role": "decoder"}, "scores belong to its input_ids"),
    ],
)
def test_what_a_model_does_not_have_is_refused(kind, settings, said):
    with pytest.raises(ConfigError, match=said):
        AttentionProbe(models.make(kind), **settings)


def test_models_that_cannot_be_read_are_named():
    with pytest.raises(ModelError, match="no attention that asks"):
        AttentionProbe(torch.nn.Linear(2, 2))
    model = models.make("bert")
    model.config._attn_implementation_internal = "flex_attention"
    with pytest.raises(ModelError, match="flex_attention"):
        AttentionProbe(model)
