"""Replaced token detection with all weights tied: one body, two heads (ELECTRA, 2003.10555).

The paper's section 3.2 ties the generator's weights to the discriminator's where both are of one
size: 84.4 on GLUE with all weights tied, 84.3 with the embeddings alone, 83.6 with none. Then one
model does both, so what is kept is a masked language model like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.errors import ConfigError, ModelError
from maskwright.hf.replaced.filling import at_least_float32, fill_masks, judgement_loss
from maskwright.hf.replaced.shared_embeddings import save_shared_once


class TiedReplacedTokenDetection(nn.Module):
    """A masked language model that also learns which tokens of a text it filled in itself.

    For `MaskingTrainer`. A step runs the body twice: on the masked text, as without this; and on
    the text with each predicted token drawn from the model's softmax, where a second head says of
    every real token (special ones too) whether it was replaced. The loss is that of the masked
    language model plus ``weight`` times binary cross-entropy; no gradient passes through the draw.

    Each part is a mean of its own: the first over predicted tokens, the second over real ones, each
    over all micro-batches and ranks of a step. So micro-batches add up to the whole batch.

    ``save_pretrained`` writes the masked language model alone; checkpoints of the Trainer also hold
    the second head.

        model = TiedReplacedTokenDetection(BertForMaskedLM(config))
        MaskingTrainer(model, args, MaskingCollator(tokenizer, Masking(rate=0.15)), …).train()
        model.save_pretrained("encoder")

    On several ranks it needs ``TrainingArguments(ddp_find_unused_parameters=False)``.

    Args:
        model: that is trained, and kept.
        weight: of the second part; 50 in the paper, for two models of other sizes.
        seed: of the draws, and of the second head's first weights.

    Raises:
        ConfigError: the weight is negative or no number; while training: DistributedDataParallel
            looks for unused parameters.
        ModelError: the model is no masked language model with a body under its head.
    """

    # as the Trainer asks for it: it divides nothing by the micro-batches of a step
    accepts_loss_kwargs = True
    _keys_to_ignore_on_save = None

    def __init__(self, model: Any, weight: float = 50.0, *, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ConfigError(
                f"weight={weight!r} of TiedReplacedTokenDetection: it is a number from 0."
            )
        if getattr(model, "loss_type", None) != "ForMaskedLM" or model.base_model is model:
            raise ModelError(
                f"TiedReplacedTokenDetection takes a masked language model, got "
                f"{type(model).__name__}. Load one with AutoModelForMaskedLM."
            )
        self.model = model
        self.weight, self.seed = weight, seed
        self.judge = _judge(model, seed)
        self._last: dict[str, Tensor] = {}
        save_shared_once(self)

    # -- what others ask a masked language model for ----------------------------------------

    @property
    def base_model(self) -> Any:
        return self.model.base_model

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def loss_type(self) -> str:
        return "ForMaskedLM"

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        *,
        judged: bool = False,
        **others: Any,
    ) -> Any:
        """What the masked language model gives; or, ``judged``, the second head's logits.

        These are ``(B, S)``, above 0 where it holds a token for replaced.
        """
        if judged:
            hidden = self.model.base_model(input_ids=input_ids, **others)[0]
            return self.judge(hidden).squeeze(-1)
        if labels is not None:
            others["labels"] = labels
        return self.model(input_ids=input_ids, **others)

    def save_pretrained(self, folder: Any, **settings: Any) -> None:
        """Writes the masked language model, which ``from_pretrained`` loads."""
        self.model.save_pretrained(folder, **settings)

    def activation_checkpointing_enable(self, **settings: Any) -> None:
        """As the Trainer asks for it."""
        self.model.activation_checkpointing_enable(**settings)

    def gradient_checkpointing_enable(self, **settings: Any) -> None:
        """The same, by the name that older releases of transformers know."""
        self.model.gradient_checkpointing_enable(**settings)

    # -- the second part of the loss --------------------------------------------------------

    def further_loss(
        self,
        run: Callable[..., Any],
        inputs: dict[str, Any],
        batch: dict[str, Any],
        places: Tensor,
        logits: Tensor,
        tokens: Tensor | int | None,
    ) -> Tensor:
        """``weight`` times the mean binary cross-entropy; `MaskingTrainer` calls it."""
        if getattr(run, "find_unused_parameters", False):
            raise ConfigError(
                "TiedReplacedTokenDetection runs the model twice a step, and each pass leaves a "
                "head unused, which DistributedDataParallel would take for the whole step: set "
                "TrainingArguments(ddp_find_unused_parameters=False)."
            )
        real = inputs["attention_mask"] != 0
        with torch.no_grad():
            filled = fill_masks(
                inputs["input_ids"],
                batch["labels"],
                places,
                at_least_float32(logits),
                real=real,
                sample_ids=batch["sample_ids"],
                clock=batch.get("clock"),
                seed=self.seed,
            )
        found = at_least_float32(run(**{**inputs, "input_ids": filled.tokens}, judged=True))
        total = judgement_loss(found, filled.replaced, real)
        own = real.sum().clamp(min=1)
        right = ((found > 0) == (filled.replaced == 1)) & real
        self._last = {
            "replaced/loss": total.detach() / own,
            "replaced/share": filled.replaced.sum() / own,
            "replaced/accuracy": right.sum() / own,
        }
        everywhere = own if tokens is None else torch.as_tensor(tokens, device=own.device)
        return self.weight * total / everywhere.clamp(min=1)

    def measures(self) -> dict[str, float]:
        """Of the last batch: the second loss (nats a token, unweighed), the share of tokens that
        were replaced, and the share judged right. As most are original, compare it with 1 - share.
        """
        return {name: float(value) for name, value in self._last.items()}


def _judge(model: Any, seed: int) -> nn.Sequential:
    """A head like ELECTRA's; its weights depend on the seed alone, and no other draw on them."""
    size = model.config.hidden_size
    spread = getattr(model.config, "initializer_range", 0.02)
    generator = torch.Generator().manual_seed(seed)
    layers: list[Any] = [nn.utils.skip_init(nn.Linear, size, out) for out in (size, 1)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.normal_(0.0, spread, generator=generator)
            layer.bias.zero_()
    weight = next(model.parameters())
    return nn.Sequential(layers[0], nn.GELU(), layers[1]).to(weight.device, weight.dtype)
