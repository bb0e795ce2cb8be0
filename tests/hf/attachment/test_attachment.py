"""What an attachment leaves alone, how it goes, and what it refuses."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from maskwright.attention import causal, documents, full, marked, per_head, same, window
from maskwright.errors import AxisError, ModelError, PatternError
from maskwright.hf import TopScores, attach, detach
from tests.hf.attachment.models import KINDS, SEATS, inputs, make


def _logits(model: Any, **fed: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**fed).logits


def _state(model: Any) -> list[Any]:
    """Everything of a model that attaching may touch."""
    found: list[Any] = []
    for path, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks)
        extra = (module._forward_hooks_always_called, module._forward_pre_hooks_with_kwargs)
        config = getattr(module, "config", None)
        asked = getattr(config, "_attn_implementation", None)
        found.append((path, sorted(vars(module)), *map(len, hooks), *map(len, extra), asked))
    return found


@pytest.mark.parametrize("kind, role", SEATS)
def test_detach_leaves_the_model_as_it_was(kind: str, role: str) -> None:
    model, batch = make(kind), inputs(kind)
    before, expected = _state(model), _logits(model, **batch)
    attachment = attach(model, **{role: window(1)})
    assert _state(model) != before
    assert not torch.equal(_logits(model, **batch), expected)
    attachment.detach()
    assert _state(model) == before
    assert torch.equal(_logits(model, **batch), expected)
    attachment.detach()
    with attach(model, **{role: window(1)}):
        pass
    assert _state(model) == before
    attach(model, **{role: window(1)})
    detach(model)
    assert _state(model) == before
    with pytest.raises(ModelError, match="no patterns attached"):
        detach(model)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["bart", "t5", "encoder-decoder"])
def test_other_roles_run_as_before_bit_for_bit(kind: str, implementation: str) -> None:
    model, batch = make(kind, implementation=implementation), inputs(kind)
    expected = model(**batch, output_attentions=implementation == "eager")
    with attach(model, cross=window(0)):
        found = model(**batch, output_attentions=implementation == "eager")
    assert torch.equal(found.encoder_last_hidden_state, expected.encoder_last_hidden_state)
    assert not torch.equal(found.logits, expected.logits)
    if implementation == "eager":
        for mine, theirs in zip(found.encoder_attentions, expected.encoder_attentions, strict=True):
            assert torch.equal(mine, theirs)


def test_layers_of_their_own() -> None:
    model, batch = make("bert"), inputs("bert")

    def seen(**asked: Any) -> list[bool]:
        with attach(model, **asked):
            out = model(**batch, output_attentions=True).attentions
        return [w is not None and bool((w[:, :, 0, 5] == 0).all()) for w in out]

    assert seen(encoder=window(1)) == [True, True]
    assert seen(encoder=[window(1), full]) == [True, False]
    assert seen(encoder=[full, window(1)]) == [False, True]
    assert seen(encoder=lambda layer: window(1) if layer else full) == [False, True]
    assert seen(encoder={0: window(1), 1: full}) == [True, False]
    expected = model(**batch).logits
    with attach(model, encoder={0: window(99)}):
        assert torch.allclose(model(**batch).logits, expected, atol=1e-6)


def test_models_in_one_process_keep_their_own_patterns() -> None:
    batch = inputs("bert")
    config = make("bert").config
    models = []
    for _ in range(3):
        torch.manual_seed(0)
        models.append(hf.BertForMaskedLM(config).eval())
    plain = _logits(models[0], **batch)
    with attach(models[0], encoder=window(1)):
        first = _logits(models[0], **batch)
        # the third has the same config object, and nothing attached
        assert torch.equal(_logits(models[2], **batch), plain)
        second = attach(models[1], encoder=window(3))
        both = _logits(models[1], **batch)
        assert torch.equal(_logits(models[0], **batch), first)
    assert not torch.equal(first, both)
    assert not torch.equal(first, plain)
    # the config that they share went back with the first: never silently without its pattern
    with pytest.raises(ModelError, match="another model with the same config"):
        _logits(models[1], **batch)
    second.detach()
    assert torch.equal(_logits(models[1], **batch), plain)


def test_a_copy_is_attached_on_its_own() -> None:
    model, batch = make("bart"), inputs("bart")
    plain = _logits(model, **batch)
    attach(model, encoder=window(1), cross=window(2))
    expected = _logits(model, **batch)
    other = copy.deepcopy(model)
    detach(model)
    assert torch.equal(_logits(model, **batch), plain)
    assert torch.equal(_logits(other, **batch), expected)
    detach(other)
    assert torch.equal(_logits(other, **batch), plain)
    assert _state(other) == _state(model)


def test_a_whole_model_saved_by_torch_keeps_its_patterns() -> None:
    model, batch = make("bert"), inputs("bert")
    attach(model, encoder=window(1))
    expected = _logits(model, **batch)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    found = torch.load(file, weights_only=False)
    assert torch.equal(_logits(found, **batch), expected)


@pytest.mark.parametrize("kind", ["bert", "llama", "t5", "encoder-decoder"])
def test_saved_files_know_nothing_of_it(kind: str, tmp_path: Path) -> None:
    model, batch = make(kind), inputs(kind)
    plain = _logits(model, **batch)
    model.save_pretrained(tmp_path / "plain")
    with attach(model, **{KINDS[kind].roles[0]: window(1)}):
        model.save_pretrained(tmp_path / "attached")
    for file in (tmp_path / "plain").iterdir():
        assert file.read_bytes() == (tmp_path / "attached" / file.name).read_bytes()
    loaded = type(model).from_pretrained(tmp_path / "attached").eval()
    assert torch.equal(_logits(loaded, **batch), plain)


def _checkpoint(model: Any, reentrant: bool) -> None:
    # another name from transformers 5.23 on
    new = getattr(model, "activation_checkpointing_enable", None)
    (new or model.gradient_checkpointing_enable)({"use_reentrant": reentrant})
    model.enable_input_require_grads()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind, role", SEATS)
def test_gradient_checkpointing(kind: str, role: str, reentrant: bool) -> None:
    batch = {n: x.double() if x.is_floating_point() else x for n, x in inputs(kind).items()}

    def grads(checkpointing: bool) -> dict[str, torch.Tensor]:
        model = make(kind).double().train()
        if checkpointing:
            _checkpoint(model, reentrant)
        with attach(model, **{role: window(1)}):
            options = {} if KINDS[kind].roles == ("encoder",) else {"use_cache": False}
            logits = model(**batch, **options).logits
            logits.square().sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    plain, recomputed = grads(False), grads(True)
    assert plain.keys() == recomputed.keys()
    for name, grad in plain.items():
        near = 1e-5 * max(1.0, float(grad.abs().max()))
        torch.testing.assert_close(recomputed[name], grad, atol=near, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind, role", [("llama", "decoder"), ("t5", "encoder"), ("bart", "cross")])
def test_autocast(kind: str, role: str) -> None:
    model, batch = make(kind), inputs(kind)
    with attach(model, **{role: window(2)}):
        expected = _logits(model, **batch)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(**batch).logits
        found.float().sum().backward()
    near = 0.1 * float(expected.abs().max())
    torch.testing.assert_close(found.float(), expected, atol=near, rtol=0.1)


def test_a_compiled_model() -> None:
    model, batch = make("bert"), inputs("bert")
    with attach(model, encoder=window(1)):
        expected = _logits(model, **batch)
        assert torch.equal(_logits(torch.compile(model, backend="eager"), **batch), expected)


def test_dropout_of_attention_in_training_only() -> None:
    model = make("bert")
    for module in model.modules():
        if hasattr(module, "attention_head_size"):
            module.dropout.p = 0.5
    batch = inputs("bert")
    with attach(model, encoder=window(3)):
        assert torch.equal(model(**batch).logits, model(**batch).logits)
        model.train()
        assert not torch.equal(model(**batch).logits, model(**batch).logits)


def test_packed_documents_stay_apart() -> None:
    model = make("llama").double()
    batch = inputs("llama")
    ids = batch["input_ids"]
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]] * 2)
    with attach(model, decoder=window(2)):
        packed = model(input_ids=ids, position_ids=places, use_cache=False).logits
        first = model(input_ids=ids[:, :4]).logits
        second = model(input_ids=ids[:, 4:]).logits
    torch.testing.assert_close(packed, torch.cat((first, second), 1), atol=1e-5, rtol=1e-5)
    # the pattern may ask for the documents that the model found
    with attach(model, decoder=causal & documents):
        named = model(input_ids=ids, position_ids=places, use_cache=False).logits
    torch.testing.assert_close(
        named,
        model(input_ids=ids, position_ids=places, use_cache=False).logits,
        atol=1e-5,
        rtol=1e-5,
    )
    # and stay apart where causal goes, and where segments are the user's own
    with attach(model, decoder=documents, combine="replace") as attachment:
        own = {"segments": torch.zeros(9, dtype=torch.long)}
        with attachment.columns(decoder=own):
            seen = model(
                input_ids=ids, position_ids=places, use_cache=False, output_attentions=True
            ).attentions[0]
    inside = places.new_tensor([0] * 4 + [1] * 5)
    assert torch.equal((seen > 0).all(1)[0], inside[:, None] == inside[None])


def test_replace_makes_a_decoder_bidirectional_and_keeps_padding() -> None:
    model, batch = make("llama"), inputs("llama")
    real = torch.ones_like(batch["input_ids"])
    real[0, 7:] = 0
    with attach(model, decoder=full, combine="replace"):
        seen = model(**batch, attention_mask=real, output_attentions=True).attentions[0]
    assert (seen[0, :, :, :7] > 0).all()
    assert (seen[0, :, :, 7:] == 0).all()
    assert (seen[1] > 0).all()


def test_replace_widens_a_window() -> None:
    model, batch = make("modernbert"), inputs("modernbert")
    with attach(model, encoder={1: window(6)}, combine="replace"):
        seen = model(**batch, output_attentions=True).attentions[-1]
    expected = (torch.arange(9)[:, None] - torch.arange(9)[None]).abs() <= 6
    assert torch.equal((seen[0, 0] > 0), expected)


def test_a_mask_of_the_users_own_is_narrowed_too() -> None:
    model, batch = make("bert").double(), inputs("bert")
    own = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.7
    own |= torch.eye(9, dtype=torch.bool)
    near = (torch.arange(9)[:, None] - torch.arange(9)[None]).abs() <= 2
    expected = model(**batch, attention_mask=own & near).logits
    with attach(model, encoder=window(2)):
        found = model(**batch, attention_mask=own).logits
        added = torch.where(own, 0.0, -torch.inf)
        again = model(**batch, attention_mask=added).logits
        with pytest.raises(ModelError, match="a bias"):
            model(**batch, attention_mask=own * 0.5)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(again, expected)
    with (
        attach(model, encoder=window(2), combine="replace"),
        pytest.raises(ModelError, match="4-D attention_mask"),
    ):
        model(**batch, attention_mask=own)


def test_a_mask_without_a_name_is_kept() -> None:
    """Chunked attention of Llama 4: no pattern of ours is recognised, and it holds all the same."""
    config = hf.Llama4TextConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=24, intermediate_size_mlp=24, head_dim=8,
        attention_chunk_size=4, num_local_experts=1, layer_types=["chunked_attention"] * 2,
        pad_token_id=0, moe_layers=[],
    )  # fmt: skip
    model = hf.Llama4ForCausalLM(config).eval()
    ids = inputs("llama")["input_ids"]
    with attach(model, decoder=window(2)):
        seen = model(input_ids=ids, output_attentions=True).attentions[0]
    i, j = torch.arange(9)[:, None], torch.arange(9)[None]
    assert torch.equal(seen[0, 0] > 0, (j <= i) & (i - j <= 2) & (i // 4 == j // 4))


def test_columns_come_with_a_call_or_stand() -> None:
    model, batch = make("bart"), inputs("bart")
    names = torch.tensor([[0, 0, 1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0]]).bool()
    with attach(model, cross=marked("name")) as attachment:
        with pytest.raises(AxisError, match="name"):
            model(**batch)
        out = model(**batch, columns={"encoder": {"name": names}}, output_attentions=True)
        for weights in out.cross_attentions:
            expected = names[:, None, None].expand_as(weights)
            assert torch.equal(weights > 0, expected)
        # what came with a call has gone with it
        with pytest.raises(AxisError, match="name"):
            model(**batch)
        with attachment.columns(encoder={"name": names}):
            assert torch.equal(model(**batch).logits, _logits(model, **batch))
        with pytest.raises(AxisError, match="name"):
            model(**batch)
        attachment.columns(encoder={"name": names})
        model(**batch)
        with pytest.raises(AxisError, match="8 values"):
            model(**batch, columns={"encoder": {"name": names[:, :8]}})
        with pytest.raises(AxisError, match="positions"):
            attachment.columns(encoder={"positions": torch.arange(9)})
        with pytest.raises(AxisError, match="dict of encoder and decoder"):
            model(**batch, columns={"name": names})


def test_columns_reach_a_recomputed_layer() -> None:
    batch = inputs("bert")
    turns = {"encoder": {"turn": torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])}}
    other = {"encoder": {"turn": torch.zeros(9, dtype=torch.long)}}

    def grad(checkpointing: bool) -> torch.Tensor:
        model = make("bert").train()
        if checkpointing:
            _checkpoint(model, False)
        with attach(model, encoder=same("turn")):
            one = model(**batch, columns=turns).logits.square().sum()
            # between a forward pass and its backward pass comes another, with other columns
            model(**batch, columns=other)
            one.backward()
        return model.bert.encoder.layer[0].attention.self.query.weight.grad

    torch.testing.assert_close(grad(True), grad(False))


def test_columns_in_a_training_loop(tmp_path: Path) -> None:
    model = make("bert").train()
    ids = inputs("bert", batch=4)["input_ids"]
    data = [{"input_ids": row, "labels": row, "turn": torch.arange(9) // 3} for row in ids]

    def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
        batch: dict[str, Any] = {
            name: torch.stack([row[name] for row in rows]) for name in ("input_ids", "labels")
        }
        turn = torch.stack([row["turn"] for row in rows])
        return {**batch, "columns": {"encoder": {"turn": turn}}}

    settings = hf.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, max_steps=2, report_to=[], use_cpu=True,
        remove_unused_columns=False, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    before = model.bert.encoder.layer[0].attention.self.query.weight.clone()
    with attach(model, encoder=same("turn")):
        trainer = hf.Trainer(model, settings, data_collator=collate, train_dataset=data)
        assert trainer.train().global_step == 2
    assert not torch.equal(model.bert.encoder.layer[0].attention.self.query.weight, before)


def test_shown() -> None:
    model = make("t5")
    with attach(model, encoder={1: window(2)}, cross=full, combine="replace") as attachment:
        shown = repr(attachment)
    assert shown == (
        "Attachment(T5ForConditionalGeneration, encoder 1: window(2), cross 0: full, "
        'cross 1: full, combine="replace")'
    )
    with attach(model, cross={1: window(2)}, scores={"cross": TopScores(3)}) as attachment:
        shown = repr(attachment)
    assert shown == (
        "Attachment(T5ForConditionalGeneration, cross 0: full by TopScores(k=3), "
        "cross 1: window(2) by TopScores(k=3))"
    )


# ------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("kind", KINDS)
def test_a_role_that_the_model_lacks(kind: str) -> None:
    model = make(kind)
    before = _state(model)
    spelled = {
        "encoder": "bidirectional self-attention",
        "decoder": "causal self-attention",
        "cross": "cross-attention",
    }
    for role in spelled.keys() - set(KINDS[kind].roles):
        said = f"has no {spelled[role]}, so {role}= has nowhere to go"
        with pytest.raises(ModelError, match=said):
            attach(model, **{role: full})
    assert _state(model) == before


def test_what_is_no_pattern() -> None:
    model = make("bert")
    for asked, words in (
        ({}, "no pattern"),
        ({"encoder": "window(2)"}, "a list, a dict or a function"),
        ({"encoder": [full]}, "lists 1 patterns"),
        ({"encoder": {2: full}}, "layers 0 to 1"),
        ({"encoder": {0: 5}}, "for layer 0"),
        ({"encoder": full, "combine": "union"}, "combine="),
    ):
        with pytest.raises(PatternError, match=words):
            attach(model, **asked)
    with attach(model, encoder=per_head([full] * 3)), pytest.raises(AxisError, match="3 heads"):
        model(**inputs("bert"))


def test_a_second_attachment() -> None:
    model = make("t5")
    with attach(model, cross=full):
        with pytest.raises(ModelError, match="already"):
            attach(model, encoder=full)
        with pytest.raises(ModelError, match="already"):
            attach(model.encoder, encoder=full)


def test_an_implementation_changed_behind_its_back() -> None:
    model, batch = make("bert"), inputs("bert")
    with attach(model, encoder=window(1)):
        model.set_attn_implementation("sdpa")
        with pytest.raises(ModelError, match="pattern would be dropped"):
            model(**batch)
    assert model.config._attn_implementation == "sdpa"


def test_an_implementation_that_has_no_place_for_patterns() -> None:
    model = make("bert")
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(ModelError, match="flash_attention_2"):
        attach(model, encoder=full)


_SMALL: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "pad_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    "model, words",
    [
        (lambda: hf.MambaModel(hf.MambaConfig(**_SMALL, state_size=4)), "MambaMixer"),
        (lambda: hf.DebertaV2Model(hf.DebertaV2Config(**_SMALL)), "DisentangledSelfAttention"),
        (lambda: hf.FNetModel(hf.FNetConfig(**_SMALL)), "FNetBasicFourierTransform"),
        (lambda: hf.GPTJModel(hf.GPTJConfig(vocab_size=40, n_embd=16, n_layer=1, n_head=2,
                                            rotary_dim=4)), "GPTJAttention"),
        (lambda: torch.nn.Linear(2, 2), "no attention"),
    ],
)  # fmt: skip
def test_models_whose_tokens_mix_elsewhere(model: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        attach(model(), encoder=full)


def test_shared_layers_have_no_patterns_of_their_own() -> None:
    model = hf.AlbertModel(hf.AlbertConfig(**_SMALL, embedding_size=8)).eval()
    ids = inputs("bert")["input_ids"]
    with pytest.raises(ModelError, match="2 layers through 1"):
        attach(model, encoder={0: full})
    plain = model(ids).last_hidden_state
    with attach(model, encoder=window(1)):
        assert not torch.equal(model(ids).last_hidden_state, plain)


class _Convolved(torch.nn.Module):
    """A layer with a convolution beside its attention, as of a Conformer."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.attention = make("llama").model.layers[0].self_attn
        self.near = torch.nn.Conv1d(16, 16, kernel)


def test_a_convolution_inside_a_layer() -> None:
    class Model(torch.nn.Module):
        def __init__(self, kernel: int) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([_Convolved(kernel)])

    with pytest.raises(ModelError, match=r"layers.0.near \(Conv1d\)"):
        attach(Model(3), decoder=full)
    attach(Model(1), decoder=full).detach()


def test_layers_of_another_kind_in_the_config() -> None:
    model = make("qwen2")
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ModelError, match="linear_attention"):
        attach(model, decoder=full)


def test_causality_against_the_modules_own() -> None:
    model, batch = make("llama"), inputs("llama")
    with attach(model, decoder=window(2)), pytest.raises(ModelError, match="is_causal=False"):
        model(**batch, is_causal=False)


def test_a_softcap_is_not_dropped() -> None:
    sizes = {**_SMALL, "num_key_value_heads": 1, "head_dim": 8}
    config = hf.Gemma2Config(**sizes, attn_implementation="eager")
    model = hf.Gemma2Model(config).eval()
    with attach(model, decoder=window(2)), pytest.raises(ModelError, match="softcap"):
        model(inputs("bert")["input_ids"])
