"""Published policies by name. `RECIPES` is the whole list; nothing registers itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from maskwright.corruption.act import BERT_ACTS, Infill, Keep, Mask, Sentinel
from maskwright.corruption.arrange import ShuffleSentences
from maskwright.corruption.cautious import Cautious
from maskwright.corruption.emit import Decoder, Diffusion, FillInTheMiddle, PrefixLM, Seq2Seq
from maskwright.corruption.lengths import Geometric, Poisson
from maskwright.corruption.masking import Masking
from maskwright.corruption.mixture import MixedMasking
from maskwright.corruption.phrases import Collocations, Phrases
from maskwright.corruption.rate import SampledRate, TwoPointRate
from maskwright.corruption.refresh import Coverage, Dynamic, Rotating
from maskwright.corruption.scored import Above, Weighted
from maskwright.corruption.select import Tokens
from maskwright.corruption.sliding import Sliding
from maskwright.corruption.spans import Spans
from maskwright.corruption.sparse import Stratified
from maskwright.corruption.structure import Suffix, sentence_ends
from maskwright.corruption.t5_spans import NoiseSpans, OneSpan
from maskwright.corruption.words import WholeWords
from maskwright.errors import ConfigError, PolicyError, VocabularyError, unknown
from maskwright.schedule import Linear
from maskwright.vocabulary import Vocabulary

Policy = Masking | MixedMasking


def bert() -> Masking:
    """15% of the tokens, 80/10/10, ten fixed masks in turn.

    BERT, 1810.04805, section 3.1 and appendix A.1; its data were written ten times
    (1907.11692, section 4.1).
    """
    return Masking(rate=0.15, act=BERT_ACTS, refresh=Rotating(10))


def roberta() -> Masking:
    """15% of the tokens, 80/10/10, drawn anew every epoch. RoBERTa, 1907.11692, section 4.1."""
    return Masking(rate=0.15, act=BERT_ACTS, refresh=Dynamic())


def whole_word() -> Masking:
    """15% of the tokens in whole words, 80/10/10 by word.

    BERT's whole-word models (google-research/bert, May 2019); there a word's tokens draw their
    acts one by one, here a word has one act.
    """
    return Masking(select=WholeWords(), rate=0.15, exact=True)


def spanbert() -> Masking:
    """15% of the tokens in spans of words, of geometric length (at most 10), 80/10/10 a span.

    SpanBERT, 1907.10529, section 3.1.
    """
    return Masking(select=Spans(Geometric(0.2, 10), of="words"), rate=0.15, exact=True)


def pmi(phrases: Phrases) -> Masking:
    """15% of the tokens, collocations as one unit. PMI-Masking, 2010.01825, "PMI-Masking".

    Args:
        phrases: of `maskwright.corruption.phrases.learn_phrases`.
    """
    return Masking(select=Collocations(phrases), rate=0.15, exact=True)


def electra() -> Masking:
    """15% of the tokens, all masked, for the generator. ELECTRA, 2003.10555, section 2."""
    return Masking(rate=0.15, act=Mask(), exact=True, at_least=1)


def t5() -> Masking:
    """15% of the tokens in spans of 3 on average, a sentinel for each.

    T5, 1910.10683, "Corrupting Spans".
    """
    return Masking(select=NoiseSpans(3.0), act=Sentinel(), emit=Seq2Seq("spans"))


def bart(ends: tuple[int, ...]) -> Masking:
    """30% of the tokens in spans of Poisson(3) length, one mask a span; sentences shuffled.

    BART, 1910.13461, section 2.2 and "Large-scale Pre-training Experiments".

    Args:
        ends: ids that end a sentence; found in the tokenizer unless given.
    """
    return Masking(
        select=Spans(Poisson(3.0), of="words"),
        rate=0.30,
        act=Infill(),
        exact=True,
        arrange=ShuffleSentences(ends),
        emit=Seq2Seq("original"),
    )


def ul2() -> MixedMasking:
    """Seven denoisers in equal shares: short and long spans, low and high rates, and suffixes.

    UL2, 2205.05131, "Mixture of Denoisers", without its mode tokens.
    """
    emit = Seq2Seq("spans")
    spans = [(3.0, 0.15), (8.0, 0.15), (3.0, 0.50), (8.0, 0.50), (64.0, 0.15), (64.0, 0.50)]
    parts = [
        Masking(select=NoiseSpans(mean), rate=rate, act=Sentinel(), emit=emit, stream=number)
        for number, (mean, rate) in enumerate(spans)
    ]
    suffix = Masking(select=Suffix(), rate=0.25, act=Sentinel(), exact=True, emit=emit, stream=6)
    return MixedMasking(tuple((1.0, part) for part in (*parts, suffix)))


def mass() -> Masking:
    """One span of half the sample; the decoder predicts it.

    MASS, 1905.02450, "Masked Sequence to Sequence Pre-training".
    """
    return Masking(select=OneSpan(), rate=0.5, act=BERT_ACTS, exact=True, emit=Seq2Seq("span-only"))


def prefix_lm() -> Masking:
    """The sample is cut at a uniform place; what follows is predicted.

    T5, 1910.10683, section 3.2.1.
    """
    return Masking(select=Suffix(), rate=SampledRate(0, 1), act=Keep(), exact=True, emit=PrefixLM())


def fim(prefix_id: int, suffix_id: int, middle_id: int) -> Masking:
    """Cut at two uniform places; the middle comes last. Bavarian et al., 2207.14255, section 3.

    Args:
        prefix_id, suffix_id, middle_id: ids of the three marks; the usual names are looked up in
            the tokenizer unless given.
    """
    emit = FillInTheMiddle(prefix_id, suffix_id, middle_id)
    return Masking(select=OneSpan(), rate=TwoPointRate(), act=Keep(), exact=True, emit=emit)


def cmlm() -> Masking:
    """A uniform number of decoder tokens is masked.

    Mask-Predict, 1904.09324, "Training Objective".
    """
    return Masking(
        rate=SampledRate(0, 1), act=Mask(), exact=True, at_least=1, emit=Decoder("selected")
    )


def word_dropout(start_id: int) -> Masking:
    """30% of the decoder's inputs are masked, its labels stay.

    Bowman et al., 1511.06349, "Word dropout and historyless decoding".

    Args:
        start_id: ``model.config.decoder_start_token_id``; the tokenizer's bos, cls or padding
            token unless given.
    """
    return Masking(rate=0.30, act=Mask(), emit=Decoder("all", start_id=start_id))


def mdlm() -> Masking:
    """Each sample is masked at a rate t ~ U(0, 1), and its losses weigh 1/t.

    MDLM, 2406.07524, "Continuous-Time Likelihood Bounds".
    """
    return Masking(rate=SampledRate(0, 1), act=Mask(), emit=Diffusion())


def sparse() -> Masking:
    """15% of the tokens, one in each of as many equal strata. Ours."""
    return Masking(select=Stratified(), rate=0.15, exact=True)


def sliding() -> Masking:
    """15% of the tokens of a window of 256 that moves by 128 each epoch. Ours."""
    return Masking(select=Tokens() & Sliding(256, 128), rate=0.15)


def coverage() -> Masking:
    """15% each epoch, without replacement: each token is predicted once in seven epochs. Ours."""
    return Masking(rate=0.15, refresh=Coverage(0.15))


def rate_decay() -> Masking:
    """The rate falls from 30% to 15%. Ankner et al., 2305.15096, abstract of version 1."""
    return Masking(rate=Linear(0.30, 0.15))


def high_rate() -> Masking:
    """40% of the tokens, 80/10/10. Wettig et al., 2202.08005, "You Can Mask More Than 15%"."""
    return Masking(rate=0.40)


def attention_guided() -> Masking:
    """15% of the tokens, drawn by the attention they received; a tenth of them by chance.

    AttMask, 2203.12719, abstract; there the most attended are taken without a draw.
    """
    return _guided(Weighted(chance=0.1))


def attention_low() -> Masking:
    """15% of the tokens, drawn against the attention they received; a tenth of them by chance.

    The opposite of AttMask, 2203.12719, abstract, to compare with.
    """
    return _guided(Weighted(end="low", chance=0.1))


def attention_hints() -> Masking:
    """15% of the tokens, drawn by attention, but never of the tenth that received the most.

    AttMask-Hint, 2203.12719, abstract; there what is shown of the most attended is drawn.
    """
    return _guided(Weighted(chance=0.1, hints=0.1))


def loss_guided() -> Masking:
    """15% of the tokens, drawn by their last loss; a quarter, and all without a loss, by chance.

    After Hard Patches Mining, 2304.05919, abstract, which predicts the losses that it goes by.
    """
    # a loss is known only where a token was predicted, so the others must be drawn as often
    return _guided(Weighted(chance=0.25), start_rate=0.15)


def attention_threshold() -> Masking:
    """Half of the tokens whose attention is in the highest 30%: score > threshold and u < rate.

    Ours.
    """
    return Masking(select=Cautious(Above(0.7)), rate=0.5)


def _guided(select: Weighted, start_rate: float = 0.05) -> Masking:
    """By score where a token has one; until then by chance, at least one token a sample."""
    return Masking(select=Cautious(select, start_rate), rate=0.15, exact=True, at_least=1)


@dataclass(frozen=True)
class Recipe:
    """A published policy.

    Args:
        build: makes it; its arguments are the ingredients that must be found or given.
        emit: what a plan becomes, in a word.
    """

    name: str
    build: Callable[..., Policy]
    emit: str

    @property
    def meaning(self) -> str:
        """What it does, in one line."""
        return self._lines[0]

    @property
    def paper(self) -> str:
        """Where it was published, with the section or its heading."""
        return self._lines[1]

    @property
    def _lines(self) -> tuple[str, str]:
        text = " ".join((self.build.__doc__ or "").split("\n\n    Args:")[0].split())
        # "What it does. Paper, number, section."
        cut = text.index(". ") + 1
        return text[:cut], text[cut + 1 :]


_EMITS = {
    **dict.fromkeys(("t5", "bart", "ul2", "mass"), "seq2seq"),
    **dict.fromkeys(("prefix-lm", "fim"), "causal"),
    **dict.fromkeys(("cmlm", "word-dropout"), "decoder"),
    "mdlm": "diffusion",
}

RECIPES: dict[str, Recipe] = {
    name: Recipe(name, build, _EMITS.get(name, "mlm"))
    for name, build in {
        "bert": bert,
        "roberta": roberta,
        "whole-word": whole_word,
        "spanbert": spanbert,
        "pmi": pmi,
        "electra": electra,
        "t5": t5,
        "bart": bart,
        "ul2": ul2,
        "mass": mass,
        "prefix-lm": prefix_lm,
        "fim": fim,
        "cmlm": cmlm,
        "word-dropout": word_dropout,
        "mdlm": mdlm,
        "sparse": sparse,
        "sliding": sliding,
        "coverage": coverage,
        "rate-decay": rate_decay,
        "high-rate": high_rate,
        "attention-guided": attention_guided,
        "attention-low": attention_low,
        "attention-hints": attention_hints,
        "loss-guided": loss_guided,
        "attention-threshold": attention_threshold,
    }.items()
}

# The names that code models give the three marks of fill-in-the-middle.
_FIM_MARKS = {
    "prefix_id": ("<|fim_prefix|>", "<fim_prefix>", "<PRE>", "▁<PRE>"),
    "suffix_id": ("<|fim_suffix|>", "<fim_suffix>", "<SUF>", "▁<SUF>"),
    "middle_id": ("<|fim_middle|>", "<fim_middle>", "<MID>", "▁<MID>"),
}


def recipe(name: str, tokenizer: Any = None, **changes: Any) -> Any:
    """A published policy.

    Args:
        name: one of `RECIPES`.
        tokenizer: a Hugging Face tokenizer or a `Vocabulary`; binds the policy to it.
        changes: ingredients of the recipe (``phrases`` of ``pmi``, ``ends`` of ``bart``, the three
            ids of ``fim``), and fields of `Masking` to set otherwise.

    Raises:
        PolicyError: the name is unknown, or an ingredient is missing.

    >>> recipe("bert", rate=0.4)
    Masking(tokens, rate 0.4, 0.8 mask + 0.1 random + 0.1 keep, rotating-10)
    """
    if name not in RECIPES:
        raise PolicyError(unknown("recipe", name, RECIPES))
    build = RECIPES[name].build
    wanted = [word for word in build.__annotations__ if word != "return"]
    ingredients = {word: _ingredient(name, word, tokenizer, changes) for word in wanted}
    policy = build(**ingredients)
    names = {field.name for field in fields(policy)}
    for change in changes:
        if change not in names:
            raise ConfigError(unknown("setting of a masking policy", change, names))
    policy = replace(policy, **changes)
    if tokenizer is None:
        return policy
    if not isinstance(tokenizer, Vocabulary):
        tokenizer = Vocabulary.from_tokenizer(tokenizer)
    return policy.bind(tokenizer)


def _ingredient(name: str, word: str, tokenizer: Any, changes: dict[str, Any]) -> Any:
    """Given, or else found in the tokenizer."""
    if word in changes:
        return changes.pop(word)
    if hasattr(tokenizer, "get_vocab"):
        if word == "ends":
            # a tokenizer without any gets the remedy of the recipe, below
            with contextlib.suppress(VocabularyError):
                return sentence_ends(tokenizer)
        if word == "start_id":
            names = ("bos_token_id", "cls_token_id", "pad_token_id")
            found = [getattr(tokenizer, mark) for mark in names]
            if any(i is not None for i in found):
                return next(i for i in found if i is not None)
        tokens = tokenizer.get_vocab()
        for mark in _FIM_MARKS.get(word, ()):
            if mark in tokens:
                return tokens[mark]
    remedy = {
        "phrases": "learn them: maskwright.corruption.phrases.learn_phrases(tokens, vocabulary)",
        "ends": "name the ids that end a sentence",
    }.get(word, "name its id, or add the token to the tokenizer")
    raise PolicyError(
        f"The recipe {name!r} needs {word}: recipe({name!r}, tokenizer, {word}=…). Please {remedy}."
    )
