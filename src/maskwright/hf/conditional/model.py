"""A conditional masked language model made of an encoder–decoder.

model = conditional(MarianMTModel(config), tokenizer)
MaskingTrainer(model, args, PairCollator(tokenizer, decoder_masking("cmlm", …)), …).train()
model.save_pretrained("cmlm")
mask_predict(ConditionalMaskedLM.from_pretrained("cmlm"), ids, mask)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM
from transformers.modeling_outputs import BaseModelOutput

from maskwright.errors import BatchError, ConfigError, ModelError
from maskwright.hf.conditional.both_sides import open_decoder, see_both_sides
from maskwright.hf.conditional.length_head import LengthHead
from maskwright.hf.conditional.target_form import TargetForm
from maskwright.hf.replaced.shared_embeddings import save_shared_once
from maskwright.placing import place_bytes

SETTINGS = "conditional.json"
HEAD = "length_head.safetensors"


def conditional(
    model: Any, tokenizer: Any, *, reach: int = 64, length_weight: float = 0.1, seed: int = 0
) -> ConditionalMaskedLM:
    """Make an encoder–decoder a conditional masked language model (1904.09324).

    Its decoder attends to both sides, reads targets where they stand, and predicts what is masked
    in them. A head on the encoder predicts how long a target is.

    Args:
        model: an encoder–decoder of transformers: Marian, BART, T5, `EncoderDecoderModel`. Its
            weights are used as they are, not copied.
        tokenizer: of the targets, with a mask token that the model's embedding has a row for.
        reach: the greatest difference of a target's length to its source's, in tokens; 0: no head,
            and `mask_predict` must be given lengths.
        length_weight: of the head's loss.
        seed: of the head's first weights.

    Raises:
        ModelError: the decoder cannot be made to attend to both sides, or has too few embeddings.
        VocabularyError: the tokenizer has no mask or padding token.
        ConfigError: the reach or the weight is out of range.
    """
    form = TargetForm.from_tokenizer(tokenizer)
    return ConditionalMaskedLM(model, form, reach=reach, length_weight=length_weight, seed=seed)


class ConditionalMaskedLM(nn.Module):
    """An encoder–decoder whose decoder fills in masks; of `conditional`.

    For `MaskingTrainer`, with batches of ``decoder_input_ids`` that are not shifted (the policy
    ``cmlm``). Its loss is the cross-entropy of masked tokens, plus ``length_weight`` times that of
    lengths.

    ``save_pretrained`` writes the encoder–decoder as transformers does, and beside it what
    `from_pretrained` needs. Whoever loads the folder with transformers alone gets a decoder that is
    causal again, and whose weights are not for that.

    Args: as for `conditional`, but
        form: of targets.

    Attributes:
        model: the encoder–decoder.
        lengths: the `LengthHead`, or None.
        form: of targets.
    """

    # as the Trainer asks for it: it divides nothing by the micro-batches of a step
    accepts_loss_kwargs = True
    # as `MaskingTrainer` asks: lengths are not predicted from them
    needs_logits = False
    _keys_to_ignore_on_save = None

    def __init__(
        self,
        model: Any,
        form: TargetForm,
        *,
        reach: int = 64,
        length_weight: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= length_weight < float("inf"):
            raise ConfigError(
                f"length_weight={length_weight!r} of a conditional model: it is a number from 0."
            )
        open_decoder(model)
        rows = model.get_decoder().get_input_embeddings().weight.shape[0]
        if rows < form.size:
            raise ModelError(
                f"{type(model).__name__} has {rows} embeddings for its decoder, and the tokenizer "
                f"{form.size} ids. Call model.resize_token_embeddings({form.size})."
            )
        self.model, self.form = model, form
        self.length_weight = length_weight
        weight = next(model.parameters())
        self.lengths: LengthHead | None = None
        if reach:
            head = LengthHead(_width(model), reach, seed=seed)
            self.lengths = head.to(weight.device, weight.dtype)
        self._length_logits: Tensor | None = None
        self._last: dict[str, Tensor] = {}
        save_shared_once(self)

    # -- what others ask a masked language model for ----------------------------------------

    @property
    def base_model(self) -> Any:
        """What ends in the hidden states that the head sees: the decoder."""
        decoder = self.model.get_decoder()
        return getattr(decoder, "base_model", decoder)

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def loss_type(self) -> str:
        # labels are compared where they stand
        return "ForMaskedLM"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def get_encoder(self) -> Any:
        return self.model.get_encoder()

    def get_decoder(self) -> Any:
        return self.model.get_decoder()

    def get_output_embeddings(self) -> Any:
        return self.model.get_output_embeddings()

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """As the Trainer asks for it."""
        self.model.activation_checkpointing_enable(**settings)

    def gradient_checkpointing_enable(self, **settings: Any) -> None:
        """The same, by the name that older releases of transformers know."""
        self.model.gradient_checkpointing_enable(**settings)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        **others: Any,
    ) -> Any:
        """What the encoder–decoder gives, its decoder attending to both sides.

        Args:
            input_ids: ``(B, S)`` sources; or ``encoder_outputs``.
            attention_mask: ``(B, S)``, 0 at padding.
            decoder_input_ids: ``(B, T)`` targets where they stand, with masks.
            decoder_attention_mask: ``(B, T)``, 0 at padding; None: there is none.
            others: as for the encoder–decoder. ``labels`` are compared where they stand.
        """
        if decoder_attention_mask is None:
            decoder_attention_mask = torch.ones_like(decoder_input_ids)
        if encoder_outputs is None:
            others["input_ids"] = input_ids
        else:
            others["encoder_outputs"] = encoder_outputs
        output = self.model(
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=see_both_sides(
                decoder_attention_mask, next(self.model.parameters()).dtype
            ),
            **{"use_cache": False, **others},
        )
        if self.training and self.lengths is not None:
            self._length_logits = self.lengths(output.encoder_last_hidden_state, attention_mask)
        return output

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """``(B, S, H)``: the encoder's states."""
        return self.model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)[0]

    def inputs(self, states: Tensor, mask: Tensor | None) -> dict[str, Any]:
        """What `forward` takes in place of sources that have gone through the encoder."""
        return {
            "encoder_outputs": BaseModelOutput(last_hidden_state=states),
            "attention_mask": mask,
        }

    # -- the loss of lengths ----------------------------------------------------------------

    def further_loss(
        self,
        run: Callable[..., Any],
        inputs: dict[str, Any],
        batch: dict[str, Any],
        places: Tensor,
        logits: Tensor | None,
        tokens: Tensor | int | None,
    ) -> Tensor:
        """``length_weight`` times the cross-entropy of lengths; `MaskingTrainer` calls it.

        A mean over the samples of a micro-batch; micro-batches and ranks weigh by their source
        tokens.
        """
        found, self._length_logits = self._length_logits, None
        if self.lengths is None or found is None:
            return torch.zeros((), device=self.device)
        target = inputs.get("decoder_attention_mask")
        if target is None:
            raise BatchError(
                "A batch for a conditional model has no decoder_attention_mask, so the lengths of "
                "its targets are not known. maskwright.hf.PairCollator makes it."
            )
        source, words = (inputs["attention_mask"] != 0).sum(1), (target != 0).sum(1)
        words = words - self.form.frame
        loss = self.lengths.loss(found, source, words)
        guess = found.detach().argmax(-1)
        right = (guess - self.lengths.class_of(source, words)).abs()
        self._last = {
            "length/loss": loss.detach(),
            "length/exact": (right == 0).float().mean(),
            "length/error": right.float().mean(),
        }
        own = source.sum()
        share = 1.0 if tokens is None else own / torch.as_tensor(tokens).to(own.device).clamp(min=1)
        return self.length_weight * share * loss

    def measures(self) -> dict[str, float]:
        """Of the last batch: the loss of lengths (nats), the share of lengths that were predicted
        exactly, and by how many tokens they were off.
        """
        return {name: float(value) for name, value in self._last.items()}

    # -- files --------------------------------------------------------------------------------

    def save_pretrained(self, folder: Any, **settings: Any) -> None:
        """Writes the encoder–decoder, ``conditional.json`` and ``length_head.safetensors``.

        Raises:
            SaveError: a file cannot be written.
        """
        self.model.save_pretrained(folder, **settings)
        head = self.lengths
        content = {
            "form": self.form.to_dict(),
            "reach": 0 if head is None else head.reach,
            "length_weight": self.length_weight,
        }
        if head is not None:
            place_bytes(
                Path(folder) / HEAD,
                save({name: one.contiguous().cpu() for name, one in head.state_dict().items()}),
            )
        text = json.dumps(content, indent=2) + "\n"
        place_bytes(Path(folder) / SETTINGS, text.encode())

    @classmethod
    def from_pretrained(cls, folder: Any, **settings: Any) -> ConditionalMaskedLM:
        """Loads what `save_pretrained` wrote, for evaluation.

        Args:
            folder: where it is.
            settings: as for ``AutoModelForSeq2SeqLM.from_pretrained``.

        Raises:
            ModelError: the folder has no conditional model, or its files do not fit each other.
        """
        content = _read(Path(folder))
        try:
            form = TargetForm(**content["form"])
            reach, weight = content["reach"], content["length_weight"]
        except (TypeError, KeyError) as error:
            raise ModelError(
                f"{Path(folder) / SETTINGS} is not what save_pretrained writes ({error}). Save the "
                "model again."
            ) from None
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, **settings)
        made = cls(model, form, reach=reach, length_weight=weight)
        if made.lengths is not None:
            path = Path(folder) / HEAD
            try:
                made.lengths.load_state_dict(load_file(path))
            except (OSError, RuntimeError) as error:
                raise ModelError(
                    f"{path} does not fit {SETTINGS}: {error}. Save the model again."
                ) from None
        return made.eval()


def is_conditional(folder: Any) -> bool:
    """Whether a folder holds what `ConditionalMaskedLM.save_pretrained` wrote."""
    return (Path(folder) / SETTINGS).is_file()


def _read(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be read ({error}): {folder} holds no conditional masked language "
            "model. Save one with ConditionalMaskedLM.save_pretrained."
        ) from None


def _width(model: Any) -> int:
    """Of the encoder's states."""
    config = getattr(model.config, "encoder", None) or model.config
    return config.hidden_size
