"""Gates on a model: what they do to its attention, and what their export leaves of it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from maskwright.attention import from_json, full, nothing, per_head, to_json, wait_k
from maskwright.errors import ConfigError, ModelError, PatternError, TrainingError
from maskwright.hf import attach
from maskwright.hf.attachment.seats import is_attention
from maskwright.hf.interaction.draws import noise_of_heads
from maskwright.hf.interaction.hard_concrete import sampled
from maskwright.hf.interaction.interaction_mask import InteractionMask, pattern_of
from maskwright.hf.interaction.prune import prune
from maskwright.schedule import Linear
from tests.hf.attachment.models import inputs, make
from tests.hf.attachment.oracle import role_of

PAIRS = ("bart", "marian", "t5", "whisper", "encoder-decoder")
GATES = [torch.tensor([0.0, 0.6]), torch.tensor([1.0, 0.0])]
Attend = Callable[..., tuple[Tensor, Any]]


@contextmanager
def attention_of(
    model: Any, role: str, made: Callable[[int, Attend, tuple, dict], Tensor]
) -> Iterator:
    """Within it, eager attention, and that of a role what ``made`` makes of it, layer by layer."""
    found = [m for p, m in model.named_modules() if is_attention(m) and role_of(p, model) == role]
    numbers = {id(module): layer for layer, module in enumerate(found)}

    def attention(module: Any, *args: Any, **rest: Any) -> tuple[Tensor, None]:
        eager = sys.modules[type(module).__module__].eager_attention_forward
        if id(module) in numbers:
            return made(numbers[id(module)], eager, (module, *args), rest), None
        return eager(module, *args, **rest)[0], None

    AttentionInterface.register("by-hand", attention)
    AttentionMaskInterface.register("by-hand", eager_mask)
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = {name: config._attn_implementation for name, config in configs.items()}
    for config in configs.values():
        config._attn_implementation_internal = "by-hand"
    try:
        yield
    finally:
        for name, config in configs.items():
            config._attn_implementation_internal = before[name]
        del AttentionInterface._global_mapping["by-hand"]
        del AttentionMaskInterface._global_mapping["by-hand"]


def _times(gates: list[Tensor]) -> Callable:
    """Each head times its gate; ``(batch, q, heads, size)``."""
    return lambda layer, eager, args, rest: eager(*args, **rest)[0] * gates[layer][:, None]


def _opened(mask: InteractionMask, gates: list[Tensor] = GATES) -> None:
    """Give the gates these values in evaluation."""
    for one, values in zip(mask.gates, gates, strict=True):
        sigmoid = ((values + 0.1) / 1.2).clamp(1e-3, 1 - 1e-3)
        with torch.no_grad():
            one.log_alpha.copy_((sigmoid / (1 - sigmoid)).log())
            one.log_alpha[values == 0] = -5.0
            one.log_alpha[values == 1] = 5.0


def _logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


@pytest.mark.parametrize("kind, role", [*((k, "cross") for k in PAIRS), ("bart", "encoder"),
                                        ("t5", "decoder"), ("bert", "encoder"), ("gpt2", "decoder"),
                                        ("llama", "decoder"), ("distilbert", "encoder"),
                                        ("modernbert", "encoder")])  # fmt: skip
def test_each_head_is_multiplied_by_its_gate(kind: str, role: Any) -> None:
    model, batch = make(kind), inputs(kind)
    gates = [torch.cat([one, one]) for one in GATES] if kind == "llama" else GATES
    plain = _logits(model, batch)
    with attention_of(model, role, _times(gates)):
        expected = _logits(model, batch)
    mask = InteractionMask(model, role)
    torch.testing.assert_close(_logits(model, batch), plain, atol=1e-5, rtol=1e-5)
    _opened(mask, gates)
    found = _logits(model, batch)
    assert (found - plain).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    mask.detach()
    assert torch.equal(_logits(model, batch), plain)
    assert "interaction_mask" not in dict(model.named_children())


@pytest.mark.parametrize("kind", PAIRS)
def test_the_exported_model_gives_what_the_gated_one_gave(kind: str) -> None:
    model, batch = make(kind), inputs(kind)
    names = set(model.state_dict())
    mask = InteractionMask(model)
    _opened(mask)
    expected = _logits(model, batch)
    patterns = mask.export()
    assert patterns == {"cross": [per_head([nothing, full]), per_head([full, nothing])]}
    assert [from_json(to_json(one)) for one in patterns["cross"]] == patterns["cross"]
    assert set(model.state_dict()) == names
    torch.testing.assert_close(_logits(model, batch), expected, atol=1e-5, rtol=1e-5)
    with attach(model, **patterns):
        torch.testing.assert_close(_logits(model, batch), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bart", "marian", "t5", "whisper"])
@pytest.mark.parametrize(
    "closed", [[{0}, {1}], [{1}, set()], [{0, 1}, {0}], [{0, 1}, {0, 1}]], ids=str
)
def test_a_pruned_model_gives_what_the_patterns_give(kind: str, closed: list[set[int]]) -> None:
    model, batch = make(kind), inputs(kind)
    patterns = [pattern_of(torch.tensor([head not in few for head in (0, 1)])) for few in closed]
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "num_beams": 2}
    source = {name: x for name, x in batch.items() if name != "decoder_input_ids"}
    with attach(model, cross=patterns):
        expected, written = _logits(model, batch), model.generate(**source, **options)
    before = sum(p.numel() for p in model.parameters())
    assert prune(model, cross=patterns) == sum(map(len, closed))
    assert sum(p.numel() for p in model.parameters()) < before
    torch.testing.assert_close(_logits(model, batch), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(model.generate(**source, **options), written)


def test_pruned_self_attention() -> None:
    model, batch = make("bert"), inputs("bert")
    patterns = [per_head([full, nothing]), per_head([nothing, nothing])]
    with attach(model, encoder=patterns):
        expected = _logits(model, batch)
    assert prune(model, encoder=patterns) == 3
    torch.testing.assert_close(_logits(model, batch), expected, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_pruned() -> None:
    closed = per_head([full, nothing])
    with pytest.raises(ModelError, match="one matrix"):
        prune(make("encoder-decoder"), cross=[closed, closed])
    with pytest.raises(ModelError, match="position bias"):
        prune(make("t5"), decoder=[closed, closed])
    with pytest.raises(ModelError, match="share their keys"):
        prune(make("llama"), decoder=[per_head([full, full, nothing, full]), None])
    with pytest.raises(PatternError, match="says more than"):
        prune(make("bart"), cross=[wait_k(2), None])
    with pytest.raises(PatternError, match="1 patterns"):
        prune(make("bart"), cross=[closed])
    model = make("bart")
    attach(model, cross=closed)
    with pytest.raises(ModelError, match="patterns attached"):
        prune(model, cross=[closed, closed])


def test_closed_heads_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwright.hf.attachment import attention_function as module

    seen: list[tuple[int, ...]] = []
    attend = module.attend

    def spy(query: Tensor, *args: Any, **rest: Any) -> Tensor:
        seen.append(tuple(query.shape))
        return attend(query, *args, **rest)

    monkeypatch.setattr(module, "attend", spy)
    model, batch = make("bart"), inputs("bart")
    with attach(model, cross=[per_head([full, nothing]), per_head([nothing, nothing])]):
        _logits(model, batch)
        weights = model(**batch, output_attentions=True).cross_attentions
    assert seen == [(2, 1, 7, 8)]
    assert (weights[0][:, 1] == 0).all()
    assert (weights[1] == 0).all()
    torch.testing.assert_close(weights[0][:, 0].sum(-1), torch.ones(2, 7))


def test_patterns_of_the_open_heads_are_kept() -> None:
    model, batch = make("llama"), inputs("llama")
    four = [wait_k(9), nothing, wait_k(1), nothing]
    with attach(model, decoder=per_head(four)):
        found = model(**batch, output_attentions=True)
        plain = _logits(model, batch)
    torch.testing.assert_close(found.logits, plain, atol=1e-5, rtol=1e-5)
    for layer in found.attentions:
        assert (layer[:, [1, 3]] == 0).all()
        assert (layer[:, 0].tril() == layer[:, 0]).all()
        assert (layer[:, 2, 8] > 0).any()
    # keys that heads share: the oracle is the dense path under another spelling of `nothing`
    shut = full & ~full
    with attach(model, decoder=per_head([shut if one == nothing else one for one in four])):
        other = model(**batch, output_attentions=True)
    torch.testing.assert_close(other.logits, found.logits, atol=1e-5, rtol=1e-5)


def test_draws_while_training() -> None:
    model, batch = make("bart").train(), inputs("bart")
    mask = InteractionMask(model, seed=3, start=0.0)
    with pytest.raises(TrainingError, match=r"callbacks=\[mask.callback\]"):
        model(**batch)
    mask.at(5)
    gates = [sampled(torch.zeros(2), noise_of_heads(3, 5, layer, 2)) for layer in (0, 1)]
    first = _logits(model, batch)
    torch.random.manual_seed(9)
    assert torch.equal(_logits(model, batch), first)
    mask.at(6)
    assert not torch.equal(_logits(model, batch), first)
    mask.detach()
    with attention_of(model, "cross", _times(gates)):
        torch.testing.assert_close(_logits(model, batch), first, atol=1e-5, rtol=1e-5)


def test_gates_learn_what_is_needed() -> None:
    """One head gives all that the loss wants, the other noise: the budget closes the other."""
    model, batch = make("bart"), inputs("bart")
    with attach(model, cross=per_head([nothing, full])):
        target = _logits(model, batch)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    mask = InteractionMask(model, budget=Linear(1.0, 0.5))
    model.train()
    optimizer = torch.optim.Adam(mask.parameters(), lr=0.2)
    for step in range(80):
        mask.at(step, 60)
        optimizer.zero_grad()
        loss = (model(**batch).logits - target).square().mean() + mask.penalty()
        loss.backward()
        optimizer.step()
        mask.follow()
    assert mask.patterns()["cross"] == [per_head([nothing, full])] * 2
    assert mask.measures()["gates/open"] == pytest.approx(0.5, abs=0.1)


def test_at_most_a_share_is_exported() -> None:
    model = make("bart")
    mask = InteractionMask(model)
    with torch.no_grad():
        mask.gates[0].log_alpha.copy_(torch.tensor([1.0, 3.0]))
        mask.gates[1].log_alpha.copy_(torch.tensor([2.0, 0.5]))
    patterns = copy.deepcopy(mask).patterns()
    assert patterns["cross"] == [full, full]
    assert mask.export(share=0.5)["cross"] == [per_head([nothing, full]), per_head([full, nothing])]


def test_a_copy_has_gates_of_its_own() -> None:
    model, batch = make("marian"), inputs("marian")
    mask = InteractionMask(model)
    other = copy.deepcopy(model)
    before = _logits(other, batch)
    _opened(mask)
    assert torch.equal(_logits(other, batch), before)
    assert not torch.equal(_logits(model, batch), before)
    _opened(other.interaction_mask)
    assert torch.equal(_logits(other, batch), _logits(model, batch))
    other.interaction_mask.detach()
    torch.testing.assert_close(_logits(other, batch), before, atol=1e-5, rtol=1e-5)


def test_gates_with_patterns_attached() -> None:
    model, batch = make("t5"), inputs("t5")
    with attach(model, cross=wait_k(2)):
        mask = InteractionMask(model)
        _opened(mask)
        found = _logits(model, batch)
        mask.detach()
        assert not torch.equal(_logits(model, batch), found)
    mask = InteractionMask(model)
    _opened(mask)
    with attach(model, cross=wait_k(2)):
        torch.testing.assert_close(_logits(model, batch), found, atol=1e-6, rtol=1e-6)


# -- pairs -----------------------------------------------------------------------------------


def _pair_mask(model: Any, **options: Any) -> InteractionMask:
    mask = InteractionMask(model, per="pair", rank=2, start=0.0, **options)
    with torch.no_grad():
        for one in mask.gates:
            one.of_query.mul_(4)
            one.of_key.mul_(4)
    return mask


def _gated_pairs(mask: InteractionMask, z_of: Callable[[int, Tensor], Tensor]) -> Callable:
    """Softmax, times the gates, normalised anew; by hand."""

    def made(layer: int, eager: Attend, args: tuple, rest: dict) -> Tensor:
        _, query, key, value, *_ = args
        one = mask.gates[layer]
        scores = query @ key.transpose(-1, -2) * rest["scaling"]
        of_heads = [
            query[:, h] @ one.of_query[h] @ (key[:, h] @ one.of_key[h]).transpose(-1, -2)
            for h in (0, 1)
        ]
        log_alpha = torch.stack(of_heads, 1) / 2**0.5 + one.bias[:, None, None]
        z = z_of(layer, log_alpha)
        weights = scores.softmax(-1) * z
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
        return (weights @ value).transpose(1, 2)

    return made


@pytest.mark.parametrize("kind", ["bart", "whisper"])
def test_pairs_against_the_equations(kind: str) -> None:
    from maskwright.hf.interaction.draws import noise_of_pairs

    model, batch = make(kind), inputs(kind)
    plain = _logits(model, batch)
    mask = _pair_mask(model, seed=4)
    found = _logits(model, batch)
    assert (found - plain).abs().max() > 1e-3
    mask.at(3)
    drawn = _logits(model.train(), batch)
    gates = list(mask.gates)
    mask.detach()
    with attention_of(model, "cross", _gated_pairs(mask, lambda layer, a: (a >= 0).float())):
        torch.testing.assert_close(_logits(model.eval(), batch), found, atol=1e-5, rtol=1e-5)

    def z_of(layer: int, log_alpha: Tensor) -> Tensor:
        _, heads, q, kv = log_alpha.shape
        noise = noise_of_pairs(4, 3, layer, heads, q, kv, log_alpha.device)
        return sampled(log_alpha, noise)

    with attention_of(model, "cross", _gated_pairs(mask, z_of)):
        torch.testing.assert_close(_logits(model, batch), drawn, atol=1e-4, rtol=1e-4)
    assert len(gates) == 2


@pytest.mark.filterwarnings("ignore::maskwright.errors.EmptyRowsWarning")
def test_patterns_of_pairs_give_what_the_gates_gave() -> None:
    model, batch = make("marian"), inputs("marian")
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    batch["attention_mask"][0, 6:] = 0
    mask = _pair_mask(model)
    expected = _logits(model, batch)
    patterns = mask.pair_patterns(**batch)
    shares = [one.table.values.float().mean() for one in patterns["cross"]]
    assert all(0.05 < share < 0.95 for share in shares)
    assert not patterns["cross"][0].table.values[0, :, :, 6:].any()
    mask.detach()
    with attach(model, **patterns):
        torch.testing.assert_close(_logits(model, batch), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match="pair_patterns"):
        _pair_mask(model).export()


def test_pairs_while_generating() -> None:
    model, batch = make("bart"), inputs("bart")
    source = {"input_ids": batch["input_ids"]}
    options: dict[str, Any] = {"max_new_tokens": 7, "min_new_tokens": 7, "do_sample": False}
    plain = model.generate(**source, **options)
    _pair_mask(model)
    for beams in (1, 3):
        cached = model.generate(**source, **options, num_beams=beams)
        anew = model.generate(**source, **options, num_beams=beams, use_cache=False)
        assert torch.equal(cached, anew)
        assert not torch.equal(cached[:, :8], plain)


def test_the_penalty_of_pairs_counts_allowed_ones() -> None:
    model, batch = make("bart").train(), inputs("bart")
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    batch["attention_mask"][:, 5:] = 0
    mask = _pair_mask(model, budget=0.25)
    mask.at(0)
    with pytest.raises(ModelError, match="use_reentrant"):
        mask.penalty()
    model(**batch)
    total, count = mask._sums()
    assert float(count) == 2 * 2 * 2 * 7 * 5  # layers, samples, heads, queries, keys
    assert 0 < float(total.detach()) < float(count)
    mask.penalty().backward()
    assert all((p.grad != 0).any() for p in mask.parameters())


def test_bad_settings() -> None:
    model = make("bart")
    with pytest.raises(ConfigError, match=r"role of InteractionMask 'crss'\. Did you mean 'cross'"):
        InteractionMask(model, "crss")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"no cross attention\. It has: encoder"):
        InteractionMask(make("bert"))
    with pytest.raises(ConfigError, match='"head" or "pair"'):
        InteractionMask(model, per="query")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="learning_rate=0"):
        InteractionMask(model, learning_rate=0)
    with pytest.raises(ConfigError, match="rank=0"):
        InteractionMask(model, rank=0)
    with pytest.raises(ConfigError, match="each once"):
        InteractionMask(model, ())
    with pytest.raises(ConfigError, match="log α"):
        InteractionMask(model, start=99)
    InteractionMask(model)
    with pytest.raises(ModelError, match="InteractionMask already"):
        InteractionMask(model)
