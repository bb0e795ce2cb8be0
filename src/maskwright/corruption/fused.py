"""Planning and padding in one pass, for policies that decide about each token on its own.

It makes the tensors of `Mlm` bit for bit as `Masking.plan` draws them, without the arrays of a plan
in between. `Masking.mask` asks for it where `Masking._elementwise` says that it applies.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numba import njit, types, uint64
from numba.extending import intrinsic

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.emit.batch import IGNORE, MaskedBatch
from maskwright.corruption.kernels import NOTHING, draw, sample_key
from maskwright.corruption.rate import rate_at
from maskwright.corruption.refresh import Coverage, RollingWindow
from maskwright.corruption.rolling import tiles_of
from maskwright.ragged import Side
from maskwright.randomness import ACT, REPLACE, SELECT

if TYPE_CHECKING:
    from maskwright.corruption.masking import Masking


def mask(
    masking: Masking, batch: TokenBatch, clock: Clock, side: Side, length: int | None, multiple: int
) -> MaskedBatch | None:
    """The batch as `Mlm` emits it; its plan is made only if somebody asks for it.

    ``None`` where the batch is empty or something is wrong with it: then the plan, or its emit,
    says what.
    """
    vocabulary, tokens = masking.bound, batch.tokens
    lengths = tokens.lengths
    if not len(lengths) or tokens.values.dtype.kind not in "iu":
        return None
    longest = int(lengths.max())
    columns = -(-longest // multiple) * multiple if length is None else length
    pads = lengths.min() < columns
    if longest > columns or (pads and vocabulary.pad_id is None):
        return None
    assert not isinstance(masking.refresh, str)
    run_key = randomness.run_key(clock.seed, masking.stream, masking.refresh.key(clock))
    first, last = 0.0, rate_at(masking.rate, clock)
    if isinstance(masking.refresh, Coverage):
        first, last = masking.refresh.window(clock)
    low = randomness.threshold(first)
    if isinstance(masking.refresh, RollingWindow):
        cut = tiles_of(batch, masking.refresh, clock)
        tiles = cut.first, cut.offsets, cut.ids
    else:  # a sample that is drawn as a whole is one tile
        tiles = np.arange(len(lengths) + 1), tokens.offsets, batch.sample_ids
    # One block, since the C library gives three of this size back to the system after each batch,
    # and fetching fresh pages for the next takes longer than filling them.
    block = torch.empty((3, len(lengths), columns), dtype=torch.int64)
    inside = mask_and_pad(
        tokens.values, tokens.offsets, *tiles, np.uint64(run_key), low,
        randomness.threshold(last) - low, vocabulary.maskable,
        NOTHING if batch.protected is None else batch.protected.values,
        *masking._acts, -1 if vocabulary.mask_id is None else vocabulary.mask_id,
        vocabulary.replacements, (batch.labels or tokens).values, side == "left",
        vocabulary.pad_id if pads else 0, IGNORE, block.numpy(),
    )  # fmt: skip
    if not inside:
        return None
    input_ids, attended, labels = block.unbind()
    return MaskedBatch(input_ids, attended, labels, partial(masking.plan, batch, clock), side)


@intrinsic
def lowest_bit(_context, _word):
    """The number of the lowest bit that is set in a word that is not 0."""

    def generate(context, builder, _signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return uint64(uint64), generate


@njit(uint64(uint64, uint64, uint64, uint64), inline="always", cache=True)
def hits(key, first, low, width):
    """Which of the 64 draws from number ``first`` on are ``low <= draw >> 11 < low + width``, one
    bit each. The compiler makes vector instructions of it, and 64 tokens cost one branch."""
    word = np.uint64(0)
    for i in range(64):
        u = draw(key, first + np.uint64(i)) >> np.uint64(11)
        word |= np.uint64(u - low < width) << np.uint64(i)  # unsigned: what is below wraps round
    return word


@njit(cache=True, nogil=True)
def mask_and_pad(
    values, offsets, first_tiles, tile_offsets, tile_ids, run_key, low, width, maskable, protected,
    codes, limits, mask_id, replacements, targets, left, fill, ignore, block,
):  # fmt: skip
    """`kernels.select_independent`, `act_in_place` and `emit_mlm`, row by row while each row is in
    the cache: into ``block``, the ``(3, B, S)`` input ids, attention mask and labels. Draws are
    those of `Tiles`.

    Returns False, with the block half written, where an id is not one of the vocabulary. Counters
    are unsigned, so that the compiler need not ask whether an index is counted from the end.
    """
    length = block.shape[2]
    low, width = np.uint64(low), np.uint64(width)
    size_of_vocabulary, many = np.uint64(len(maskable)), np.uint64(len(replacements))
    guarded = len(protected) > 0
    final = len(codes) - 1
    first_limit, second_limit = limits[0], limits[min(1, final)]
    first_code, second_code, third_code = codes[0], codes[min(1, final)], codes[final]
    places = np.empty(length, np.uint64)
    random = np.empty(length, np.uint64)
    acts = np.empty(length, np.uint8)
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        size = stop - start
        left_out = length - size if left else 0
        ids, ones, labels = block[0, row], block[1, row], block[2, row]
        for i in range(length):
            labels[i] = ignore
        for i in range(left_out):
            ids[i] = fill
            ones[i] = 0
        for i in range(left_out + size, length):
            ids[i] = fill
            ones[i] = 0
        # slices that start at 0 become vector stores
        ids, ones, labels = ids[left_out:], ones[left_out:], labels[left_out:]
        source, wanted = values[start:stop], targets[start:stop]
        highest = np.uint64(0)
        for i in range(size):
            value = np.int64(source[i])
            highest = max(highest, np.uint64(value))  # a negative id is a huge one
            ids[i] = value
        if highest >= size_of_vocabulary:
            return False
        for i in range(size):
            ones[i] = 1

        for tile in range(first_tiles[row], first_tiles[row + 1]):
            begin, finish = tile_offsets[tile] - start, tile_offsets[tile + 1] - start
            inputs, targeted, predicted = (
                ids[begin:finish],
                wanted[begin:finish],
                labels[begin:finish],
            )
            here = np.uint64(start + begin)
            key = sample_key(run_key, np.uint64(tile_ids[tile]), np.uint64(SELECT))
            selected = np.uint64(0)
            for first in range(0, finish - begin, 64):
                word = hits(key, np.uint64(first), low, width)
                if finish - begin - first < 64:
                    word &= (np.uint64(1) << np.uint64(finish - begin - first)) - np.uint64(1)
                while word:
                    place = np.uint64(first) + lowest_bit(word)  # pyright: ignore[reportCallIssue]
                    word &= word - np.uint64(1)
                    places[selected] = place  # overwritten by the next unless it counts
                    free = not (guarded and protected[here + place])
                    selected += np.uint64(maskable[np.uint64(inputs[place])] and free)

            key = sample_key(run_key, np.uint64(tile_ids[tile]), np.uint64(ACT))
            for j in range(selected):
                u = draw(key, places[j]) >> np.uint64(11)
                later = second_code if u < second_limit else third_code
                acts[j] = first_code if u < first_limit else later
            drawn = np.uint64(0)
            for j in range(selected):
                place = places[j]
                predicted[place] = targeted[place]
                inputs[place] = mask_id if acts[j] == 1 else inputs[place]
                random[drawn] = place
                drawn += np.uint64(acts[j] == 2)
            key = sample_key(run_key, np.uint64(tile_ids[tile]), np.uint64(REPLACE))
            for j in range(drawn):
                u = draw(key, random[j]) >> np.uint64(32)
                inputs[random[j]] = replacements[(u * many) >> np.uint64(32)]
    return True
