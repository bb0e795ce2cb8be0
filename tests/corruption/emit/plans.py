"""Plans for the emits: written by hand, and drawn with any units, inserts and orders."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from maskwright import Clock, Keep, Mask, Masking, MaskPlan, Ragged, Random, TokenBatch, Vocabulary
from maskwright.corruption import Delete, Infill, Select, Sentinel
from maskwright.corruption.emit import Decoder, Diffusion, FillInTheMiddle, Mlm, PrefixLM, Seq2Seq
from maskwright.corruption.selection import Selection, eligible

# 0 pad, 1 </s>, 2 <s>, 3 [SEP], 4 [MASK]; sentinels from the top down, as T5 has them.
T5 = Vocabulary(
    140, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3), sentinel_ids=tuple(range(139, 99, -1)),
    name="t5",
)  # fmt: skip
SIDES = st.sampled_from(["left", "right"])


@dataclass(frozen=True)
class Places(Select):
    """The given places of each sample, by its id: units, and empty units."""

    units: tuple[tuple[tuple[int, ...], ...], ...]
    inserts: tuple[tuple[int, ...], ...] = ()

    def __call__(self, batch, vocabulary, draw):
        positions, labels, inserts = [], [], []
        for row, sample_id in enumerate(batch.sample_ids.tolist()):
            start = int(batch.tokens.offsets[row])
            for unit in self.units[sample_id]:
                positions += [start + place for place in unit]
                labels += [labels[-1] + 1 if labels else 0] * len(unit)
            inserts += [start + place for place in self.inserts[sample_id] if self.inserts]
        found = Selection(np.array(positions, np.int64), np.array(labels, np.int64))
        return Selection(found.positions, found.units, np.array(inserts, np.int64))


@dataclass(frozen=True)
class Any(Select):
    """Units of any length and place, drawn from the sample's id and the run's key alone."""

    empties: bool = False
    form: str = "any"  # or "one": at most one span a sample; "end": one at its end

    def __call__(self, batch, vocabulary, draw):
        allowed = eligible(batch, vocabulary)
        positions, labels, inserts, unit = [], [], [], 0
        for row, sample_id in enumerate(batch.sample_ids.tolist()):
            rng = np.random.default_rng([sample_id, draw.run_key])
            start, stop = (int(edge) for edge in batch.tokens.offsets[row : row + 2])
            free = [p for p in range(start, stop) if allowed[p]]
            if self.form != "any":
                free = self._span(free, rng)
            last = None
            for position in free:
                if self.form == "any" and rng.random() > draw.rates[row]:
                    continue
                if self.form == "any" and (last != position - 1 or rng.random() < 0.4):
                    unit += 1
                positions.append(position)
                labels.append(unit)
                last = position
            unit += 1
            if self.empties and stop > start:
                inserts += sorted(rng.integers(start, stop, rng.integers(0, 4)).tolist())
        arrays = [np.array(values, np.int64) for values in (positions, labels, inserts)]
        return Selection(*arrays)

    def _span(self, free, rng):
        if not free or rng.random() < 0.2:
            return []
        first = int(rng.integers(0, len(free)))
        if self.form == "end":
            return free[first:]
        return free[first : int(rng.integers(first, len(free))) + 1]


@dataclass(frozen=True)
class Backwards:
    """Reads each sample from its end, special tokens where they stand."""

    def __call__(self, batch, vocabulary, run_key):
        order = np.arange(len(batch.tokens.values))
        for row in range(len(batch)):
            start, stop = batch.tokens.offsets[row : row + 2]
            moved = start + np.flatnonzero(vocabulary.maskable[batch.tokens.values[start:stop]])
            order[moved] = moved[::-1]
        return order


def plan_of(
    rows, units, masking: Masking, *, inserts=None, ids=T5, labels=None, protected=None
) -> MaskPlan:
    """The plan of ``masking`` with the given places selected."""
    places = Places(tuple(units), tuple(inserts or [()] * len(rows)))
    batch = TokenBatch(
        Ragged.from_lists(rows),
        np.arange(len(rows)),
        labels=None if labels is None else Ragged.from_lists(labels),
        protected=None if protected is None else Ragged.from_lists(protected),
    )
    return replace(masking, select=places).bind(ids).plan(batch)


@st.composite
def batches(draw: st.DrawFn) -> TokenBatch:
    """Short rows of any kind: empty, of one token, all special, with protected places."""
    lengths = draw(st.lists(st.integers(0, 12), max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for length in lengths:
        row = rng.integers(5, 100, length)
        kind = draw(st.sampled_from(["bare", "framed", "special"]))
        if length and kind == "framed":
            row[0], row[-1] = 2, 1
        elif kind == "special":
            row = rng.integers(0, 5, length)
        rows.append(row)
    dtype = draw(st.sampled_from([np.uint16, np.int32, np.int64]))
    tokens, protected, labels = Ragged.from_lists(rows, dtype), None, None
    if draw(st.booleans()):
        protected = tokens.like((rng.random(len(tokens.values)) < 0.2).astype(np.uint8))
    if draw(st.booleans()):
        wanted = rng.integers(5, 100, len(tokens.values))
        labels = tokens.like(np.where(rng.random(len(wanted)) < 0.2, -100, wanted))
    ids = draw(st.lists(st.integers(0, 2**62), min_size=len(rows), max_size=len(rows)))
    return TokenBatch(tokens, np.array(ids, np.int64), protected=protected, labels=labels)


_MOVING = 0.3 * Delete() + 0.3 * Infill() + 0.2 * Mask() + 0.2 * Random()
# Every emit with every act that it can show.
POLICIES = {
    "mlm": Masking(Any(), rate=0.4),
    "diffusion": Masking(Any(), rate=0.4, act=Mask(), emit=Diffusion()),
    "decoder, all": Masking(Any(), rate=0.4, emit=Decoder("all", start_id=0)),
    "decoder, selected": Masking(Any(), rate=0.4, act=Mask(), emit=Decoder("selected")),
    "psm": Masking(Any(form="one"), act=Keep(), emit=FillInTheMiddle(97, 98, 99)),
    "spm": Masking(Any(form="one"), act=Keep(), emit=FillInTheMiddle(97, 98, 99, mode="spm")),
    "prefix": Masking(Any(form="end"), act=Keep(), emit=PrefixLM()),
    "t5": Masking(Any(), rate=0.4, act=Sentinel(), emit=Seq2Seq("spans")),
    "t5, open": Masking(
        Any(), rate=0.4, act=Sentinel(), emit=Seq2Seq("spans", add_eos=False, closing=False)
    ),
    "bart": Masking(Any(empties=True), rate=0.5, act=_MOVING, emit=Seq2Seq()),
    "bart, arranged": Masking(
        Any(empties=True), rate=0.5, act=_MOVING, arrange=Backwards(), emit=Seq2Seq()
    ),
    "sentinels, all back": Masking(Any(), rate=0.4, act=Sentinel(), emit=Seq2Seq()),
    "mass": Masking(Any(), rate=0.4, act=Mask(), emit=Seq2Seq("span-only")),
}
assert {type(masking.emit) for masking in POLICIES.values()} == {
    Mlm, Diffusion, Decoder, FillInTheMiddle, PrefixLM, Seq2Seq,
}  # fmt: skip


def unpadded(ids, attended) -> list[list[int]]:
    """The rows of a padded tensor without their padding."""
    return [row[mask.bool()].tolist() for row, mask in zip(ids, attended, strict=True)]


@st.composite
def plans(draw: st.DrawFn, name: str) -> MaskPlan:
    clock = Clock(seed=draw(st.integers(0, 2**63)), epoch=draw(st.integers(0, 3)))
    return POLICIES[name].bind(T5).plan(draw(batches()), clock)
