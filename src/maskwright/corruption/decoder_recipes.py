"""Policies for what a decoder reads, by name. `DECODER_MASKINGS` is the whole list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from maskwright.corruption.act import Keep, Mask, Random
from maskwright.corruption.emit import Decoder
from maskwright.corruption.graded import Later, Longer
from maskwright.corruption.lengths import Geometric
from maskwright.corruption.marked import Marked
from maskwright.corruption.masking import Masking
from maskwright.corruption.rate import Rate
from maskwright.corruption.recipes import cmlm
from maskwright.corruption.refresh import Static
from maskwright.corruption.select import Tokens
from maskwright.corruption.spans import Spans
from maskwright.corruption.sparse import Stratified
from maskwright.corruption.words import WholeWords
from maskwright.errors import PolicyError, unknown


def unmasked(start_id: int) -> Masking:
    """Nothing is masked: plain teacher forcing."""
    return Masking(rate=0.0, act=Keep(), refresh=Static(), emit=Decoder("all", start_id=start_id))


def random_tokens(start_id: int) -> Masking:
    """15% of the tokens, each by a draw of its own, are the mask token."""
    return Masking(rate=0.15, act=Mask(), emit=Decoder("all", start_id=start_id))


def sparse_tokens(start_id: int) -> Masking:
    """5% of the tokens, one in each of as many equal strata, are random tokens.

    The replacement is that of SwitchOut (1808.07512), which draws how many by their Hamming
    distance; the strata, which keep corrupted tokens apart, are ours.
    """
    emit = Decoder("all", start_id=start_id)
    return Masking(select=Stratified(), rate=0.05, act=Random(), exact=True, emit=emit)


def spans(start_id: int) -> Masking:
    """15% of the tokens, in spans of geometric length (at most 10), are mask tokens.

    The lengths are those of SpanBERT (1907.10529, section 3.1), counted in tokens.
    """
    emit = Decoder("all", start_id=start_id)
    return Masking(select=Spans(Geometric(0.2, 10)), rate=0.15, act=Mask(), emit=emit)


def dropped_words(start_id: int) -> Masking:
    """30% of the words, each by a draw of its own, are mask tokens.

    Bowman et al., 1511.06349, "Word dropout and historyless decoding". Their tokens are words, so
    here all pieces of a word go together; ``recipe("word-dropout")`` draws piece by piece. There
    they become the unknown token.
    """
    emit = Decoder("all", start_id=start_id)
    return Masking(select=WholeWords(), rate=0.30, act=Mask(), emit=emit)


def conditional(start_id: int) -> Masking:
    """A uniform number of tokens, from 1 to all, is masked, and only these are predicted.

    Mask-Predict, 1904.09324, "Training Objective". Nothing is shifted, so there is no start token,
    and the decoder must attend to both sides.
    """
    return cmlm()


def late_tokens(start_id: int) -> Masking:
    """15% of the tokens, the later the likelier, are mask tokens. Ours."""
    return Masking(select=Later(), rate=0.15, act=Mask(), emit=Decoder("all", start_id=start_id))


def long_targets(start_id: int) -> Masking:
    """Up to 30% of the tokens are mask tokens, the more the longer the target. Ours."""
    emit = Decoder("all", start_id=start_id)
    return Masking(select=Longer(Tokens()), rate=0.30, act=Mask(), emit=emit)


def aligned_words(start_id: int) -> Masking:
    """What is aligned with masked, or with marked, source tokens is masked. Ours.

    `maskwright.hf.PairCollator` makes the marks that it goes by out of the column ``alignments``.
    """
    emit = Decoder("all", start_id=start_id)
    return Masking(select=Marked(), rate=1.0, act=Mask(), emit=emit)


DECODER_MASKINGS: dict[str, Callable[[int], Masking]] = {
    "none": unmasked,
    "random": random_tokens,
    "sparse": sparse_tokens,
    "span": spans,
    "word-dropout": dropped_words,
    "cmlm": conditional,
    "position": late_tokens,
    "length": long_targets,
    "alignment": aligned_words,
}


def decoder_masking(name: str, *, start_id: int, rate: Rate | None = None) -> Masking:
    """A policy for a decoder's inputs; every token stays a label, but under ``cmlm``.

    Args:
        name: one of `DECODER_MASKINGS`.
        start_id: what the decoder reads first: ``model.config.decoder_start_token_id``.
        rate: in place of the policy's own: a share, or a schedule.

    Raises:
        PolicyError: the name is unknown, or there is a rate and nothing to mask.

    >>> decoder_masking("random", start_id=0, rate=0.2)
    Masking(tokens, rate 0.2, mask, dynamic, as decoder inputs, all labels)
    """
    if name not in DECODER_MASKINGS:
        raise PolicyError(unknown("decoder masking", name, DECODER_MASKINGS))
    masking = DECODER_MASKINGS[name](start_id)
    if rate is None:
        return masking
    if name == "none":
        raise PolicyError(f'decoder_masking("none") masks nothing, but got rate={rate!r}.')
    return replace(masking, rate=rate)
