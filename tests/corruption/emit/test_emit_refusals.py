"""What an emit cannot show is refused when the policy is made, with the remedy."""

from __future__ import annotations

import pytest

from maskwright import Keep, Mask, Masking, Random
from maskwright.corruption import Delete, Infill, Mlm, Sentinel
from maskwright.corruption.emit import Decoder, Diffusion, FillInTheMiddle, PrefixLM, Seq2Seq
from maskwright.errors import PolicyError
from tests.corruption.emit.plans import POLICIES, T5, Backwards

FIM = FillInTheMiddle(97, 98, 99)


@pytest.mark.parametrize(
    ("emit", "act", "remedy"),
    [
        (Mlm(), Delete(), r"emit=Seq2Seq\(\)"),
        (Mlm(), Infill(), r"emit=Seq2Seq\(\)"),
        (Mlm(), 0.5 * Mask() + 0.5 * Sentinel(), r"emit=Seq2Seq\(\)"),
        (Decoder("all", start_id=0), Delete(), r"emit=Seq2Seq\(\)"),
        (Decoder("selected"), Infill(), r"emit=Seq2Seq\(\)"),
        (Diffusion(), Random(), r"Use act=Mask\(\)"),
        (Diffusion(), 0.9 * Mask() + 0.1 * Keep(), r"Use act=Mask\(\)"),
        (Seq2Seq("spans"), Mask(), r"Use act=Sentinel\(\)"),
        (Seq2Seq("spans"), 0.9 * Sentinel() + 0.1 * Keep(), r"Use act=Sentinel\(\)"),
        (Seq2Seq("span-only"), Sentinel(), r'Seq2Seq\(target="spans"\)'),
        (FIM, Mask(), r"Use act=Keep\(\)"),
        (PrefixLM(), Delete(), r"Use act=Keep\(\)"),
    ],
)
def test_acts(emit, act, remedy):
    with pytest.raises(PolicyError, match=remedy):
        Masking(act=act, emit=emit)


def test_an_act_without_a_share_is_not_done():
    assert Masking(act=1.0 * Mask() + 0.0 * Delete(), emit=Mlm()).emit == Mlm()
    spans = Masking(act=1.0 * Sentinel() + 0.0 * Keep(), emit=Seq2Seq("spans"))
    assert spans.emit == Seq2Seq("spans")


@pytest.mark.parametrize(
    ("emit", "act"),
    [(Mlm(), Mask()), (Diffusion(), Mask()), (Decoder("selected"), Mask()), (FIM, Keep()),
     (PrefixLM(), Keep())],
)  # fmt: skip
def test_another_order_needs_seq2seq(emit, act):
    with pytest.raises(PolicyError):
        Masking(act=act, emit=emit, arrange=Backwards())
    Masking(act=Mask(), emit=Seq2Seq(), arrange=Backwards())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Seq2Seq("span"),
        lambda: Seq2Seq("original", add_eos=True),
        lambda: Seq2Seq("span-only", closing=False),
        lambda: Decoder("some"),
        lambda: Decoder("all"),
        lambda: Decoder("selected", start_id=0),
        lambda: Diffusion(least=0.0),
        lambda: Diffusion(least=1.5),
        lambda: FillInTheMiddle(1, 2, 2),
        lambda: FillInTheMiddle(1, 2, 3, mode="smp"),
        lambda: FillInTheMiddle(1, 2, 3, loss="some"),
    ],
)
def test_settings(make):
    with pytest.raises(PolicyError):
        make()


def test_ids_outside_the_vocabulary_are_refused_when_it_is_known():
    for emit in (Decoder("all", start_id=140), FillInTheMiddle(97, 140, 99)):
        masking = Masking(act=Keep(), emit=emit)
        with pytest.raises(PolicyError, match="outside the vocabulary"):
            masking.bind(T5)


def test_every_emit_has_a_name():
    names = [str(masking.emit) for masking in POLICIES.values()]
    assert not any("object at" in name or "(" in name.split(" ")[0] for name in names)
    assert len(set(names)) == 10
