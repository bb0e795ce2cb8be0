"""The hash of `randomness` in torch operations, for draws where the tensors already are.

Torch has no unsigned 64-bit arithmetic. Sums and products wrap round alike; a logical shift is the
arithmetic one with the sign bits cut off; and draws are compared after ``>> 11``, when they are
53-bit numbers that no sign can turn.
"""

from __future__ import annotations

from torch import Tensor

from maskwright import randomness


def signed(word: int) -> int:
    """The same 64 bits as a signed integer."""
    return word - (1 << 64) if word >> 63 else word


GAMMA = signed(randomness.GAMMA)
_MULTIPLIER_1 = signed(randomness.MULTIPLIER_1)
_MULTIPLIER_2 = signed(randomness.MULTIPLIER_2)


def shift(words: Tensor, bits: int) -> Tensor:
    """The logical shift to the right, of int64."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def mix(words: Tensor) -> Tensor:
    """`randomness.mix`, element by element, on int64."""
    words = (words ^ shift(words, 30)) * _MULTIPLIER_1
    words = (words ^ shift(words, 27)) * _MULTIPLIER_2
    return words ^ shift(words, 31)
