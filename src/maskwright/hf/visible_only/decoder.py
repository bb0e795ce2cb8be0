"""The light decoder of visible-only encoding: a few layers of the encoder's own class."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import nn

from maskwright.errors import ConfigError, ModelError


def make_decoder(base: Any, layers: int, *, mask_token_id: int, seed: int) -> Any:
    """A backbone of the same class and width with other weights, which reads hidden states.

    It has positions, norms and layers of its own. Of its token embedding one row is left, which
    stands at masked places; it begins as the encoder's embedding of the mask token.

    Args:
        base: the encoder, without a head.
        layers: of the decoder, 1 or more.
        mask_token_id: the row to begin with.
        seed: of its weights, which depend on nothing else; no draw of others depends on them.

    Raises:
        ConfigError: ``layers`` is no number from 1.
        ModelError: the encoder embeds tokens in another width than that of its layers.
    """
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 1:
        raise ConfigError(f"decoder_layers={layers!r} of VisibleOnly: a whole number, 1 or more.")
    table = base.get_input_embeddings()
    width = base.config.hidden_size
    if table.weight.shape[1] != width:
        raise ModelError(
            f"{type(base).__name__} embeds tokens in {table.weight.shape[1]} dimensions and runs "
            f"{width}: hidden states cannot be read in the place of its embeddings. Use an encoder "
            "whose embeddings are as wide as its layers (BERT, RoBERTa, ModernBERT)."
        )
    if not 0 <= mask_token_id < len(table.weight):
        raise ConfigError(
            f"mask_token_id={mask_token_id!r} of VisibleOnly is not among the {len(table.weight)} "
            "ids of the model. Take tokenizer.mask_token_id."
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: Any = type(base)(_shortened(base.config, layers), **_without_pooler(type(base)))
        row = nn.Embedding(1, width)
    with torch.no_grad():
        row.weight.copy_(table.weight[mask_token_id : mask_token_id + 1])
    made.set_input_embeddings(row)
    made.config.vocab_size = 1
    return made.to(table.weight.device, table.weight.dtype).train(base.training)


def _shortened(config: Any, layers: int) -> Any:
    """The configuration with so many layers; kinds of layers come in the encoder's order."""
    made = copy.deepcopy(config)
    kinds = getattr(config, "layer_types", None)
    made.num_hidden_layers = layers
    if kinds is not None:
        made.layer_types = (list(kinds) * layers)[:layers]
    return made


def _without_pooler(kind: type) -> dict[str, bool]:
    known = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": False} if known else {}
