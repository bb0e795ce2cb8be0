"""What a policy trains: the model as it is, or more around it, or less of it in each step."""

from __future__ import annotations

from typing import Any

from maskwright.guidance import ScoreStore
from maskwright.hf import TiedReplacedTokenDetection, TokenDropping, VisibleOnly
from maskwright.lab.policy import Policy
from maskwright.vocabulary import Vocabulary


def trained_model(policy: Policy, model: Any, vocabulary: Vocabulary, seed: int) -> Any:
    """The model that a trainer is given.

    Args:
        model: the masked language model, which is what is kept.
        seed: of what is added to it.

    Raises:
        ModelError: the model does not allow what the policy asks for.
    """
    if policy.replaced_tokens is not None:
        return TiedReplacedTokenDetection(model, policy.replaced_tokens.weight, seed=seed)
    if policy.visible_only is not None:
        assert vocabulary.mask_id is not None  # no masks could be drawn without
        layers = policy.visible_only.decoder_layers
        return VisibleOnly(model, layers, mask_token_id=vocabulary.mask_id, seed=seed)
    return model


def dropping_of(
    policy: Policy, model: Any, store: ScoreStore | None, seed: int
) -> TokenDropping | None:
    """How the policy leaves tokens out of the middle layers; None: it does not.

    Args:
        store: the scores that its masks go by, where they do.

    Raises:
        ConfigError, ModelError: the model is too shallow for it, or does not allow it.
    """
    settings = policy.token_dropping
    if settings is None:
        return None
    return TokenDropping(
        model,
        settings.share,
        first=settings.first,
        last=settings.last,
        importance=settings.importance,
        store=store if settings.importance == "store" else None,
        beta=settings.beta,
        seed=seed,
    )
