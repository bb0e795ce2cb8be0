"""Two models that share their token and position embeddings, and are saved without copies."""

from __future__ import annotations

from typing import Any

from torch import nn

from maskwright.errors import ModelError


def share_embeddings(generator: Any, discriminator: Any) -> None:
    """The discriminator's token and position embeddings become the generator's too.

    Positions are shared where the models have a table of them; rotary ones have none.

    Raises:
        ModelError: the tables have other shapes.
    """
    theirs, own = _tables(discriminator), _tables(generator)
    for name, table in own.items():
        if name not in theirs or theirs[name].weight.shape != table.weight.shape:
            of = tuple(theirs[name].weight.shape) if name in theirs else "none"
            raise ModelError(
                f"The {name} embeddings of {type(generator).__name__} have the shape "
                f"{tuple(table.weight.shape)}, those of {type(discriminator).__name__} {of}; both "
                "models share them. Give both the same vocab_size, max_position_embeddings and "
                "embedding_size (or hidden_size, where there is none): "
                "ReplacedTokenDetection.from_configs does."
            )
        table.weight = theirs[name].weight
    generator.tie_weights()  # its output head goes with its token embeddings


def _tables(model: Any) -> dict[str, Any]:
    """The embeddings that are shared, by what they are of."""
    found = {"token": model.get_input_embeddings()}
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            found["position"] = module
    return found


def _shared_names(model: nn.Module) -> dict[str, str]:
    """Of each parameter that has several names, the later ones and the first."""
    first: dict[int, str] = {}
    again = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            again[name] = first[id(parameter)]
        first.setdefault(id(parameter), name)
    return again


def save_shared_once(model: nn.Module) -> None:
    """Keeps ``state_dict()`` free of second names of one tensor, and lets it be loaded again.

    safetensors, in which the Trainer saves, refuses tensors that share memory.
    """
    model.register_state_dict_post_hook(_drop_shared)
    model.register_load_state_dict_pre_hook(_restore_shared)


def _drop_shared(model: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for name in _shared_names(model):
        state.pop(prefix + name, None)


def _restore_shared(model: nn.Module, state: dict[str, Any], prefix: str, *_others: Any) -> None:
    for name, first in _shared_names(model).items():
        if prefix + first in state:
            state.setdefault(prefix + name, state[prefix + first])
