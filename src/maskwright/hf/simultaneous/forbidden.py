"""What a model's generation config says of each token that it may write."""

from __future__ import annotations

from typing import Any

from transformers import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)


def processors(model: Any, longest: int) -> list[Any]:
    """The logits processors of greedy decoding, of a target of ``longest`` tokens at most."""
    config: Any = model.generation_config
    device = model.device
    found: list[Any] = []
    if config.repetition_penalty not in (None, 1.0):
        found.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
    if config.no_repeat_ngram_size:
        found.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.bad_words_ids is not None:
        found.append(NoBadWordsLogitsProcessor(config.bad_words_ids, config.eos_token_id))
    if config.forced_bos_token_id is not None:
        found.append(ForcedBOSTokenLogitsProcessor(config.forced_bos_token_id))
    if config.forced_eos_token_id is not None:
        ends = config.forced_eos_token_id
        found.append(ForcedEOSTokenLogitsProcessor(longest + 1, ends, device=str(device)))
    if config.suppress_tokens is not None:
        found.append(SuppressTokensLogitsProcessor(config.suppress_tokens, device=device))
    if config.begin_suppress_tokens is not None:
        found.append(
            SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, 1, device=device)
        )
    return found
