"""The passes over a target, with a model that reads from a script."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskwright.hf.conditional.filling import Passes, fill

MASK = 3


class Script:
    """Says at each pass what its line says, and writes down what it was asked."""

    def __init__(self, *lines: dict[tuple[int, int], tuple[int, float]]) -> None:
        self.lines = list(lines)
        self.asked: list[dict[int, list[int]]] = []

    def __call__(self, rows: Tensor, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        line = self.lines[len(self.asked)]
        self.asked.append({int(row): tokens[i].tolist() for i, row in enumerate(rows)})
        found = [line[int(rows[i]), int(j)] for i, j in masked.nonzero()]
        ids, scores = zip(*found, strict=True)
        return torch.tensor(ids), torch.tensor(scores)


def run(tokens: list[list[int]], block: list[list[int]], passes: Passes, script: Any):
    written = torch.tensor(tokens)
    confidence = torch.zeros(written.shape)
    asked = fill(written, confidence, torch.tensor(block).bool(), MASK, passes, script)
    return written.tolist(), confidence, asked


def row(number: int, *found: tuple[int, int, float]) -> dict[tuple[int, int], tuple[int, float]]:
    return {(number, place): (token, score) for place, token, score in found}


def test_two_targets_of_other_lengths_pass_by_pass():
    end = 1
    script = Script(
        row(0, (0, 10, -0.1), (1, 11, -0.9), (2, 12, -0.5), (3, 13, -0.7))
        | row(1, (0, 20, -0.3), (1, 21, -0.2)),
        row(0, (1, 31, -0.05), (3, 33, -0.8), (2, 32, -0.6)) | row(1, (0, 40, -0.1)),
        row(0, (3, 53, -0.01), (2, 52, -0.4)) | row(1, (1, 61, -0.25)),
        row(0, (2, 72, -0.3)),
    )
    written, confidence, asked = run(
        [[MASK, MASK, MASK, MASK, end], [MASK, MASK, end, 0, 0]],
        [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]],
        Passes(4),
        script,
    )
    assert asked == 4
    assert script.asked == [
        {0: [MASK, MASK, MASK, MASK, end], 1: [MASK, MASK, end, 0, 0]},
        {0: [10, MASK, MASK, MASK, end], 1: [MASK, 21, end, 0, 0]},  # 3 of 4, and 1 of 2
        {0: [10, 31, MASK, MASK, end], 1: [40, MASK, end, 0, 0]},  # what was certain is so no more
        {0: [10, 31, MASK, 53, end]},  # 1 of 4, and 2 · 1 // 4 = 0 of 2
    ]
    assert written == [[10, 31, 72, 53, end], [40, 61, end, 0, 0]]
    torch.testing.assert_close(confidence[0], torch.tensor([-0.1, -0.05, -0.3, -0.01, 0.0]))


def test_easy_first_leaves_what_was_left_standing():
    script = Script(
        row(0, (0, 10, -0.6), (1, 11, -0.5), (2, 12, -0.7), (3, 13, -0.8)),
        row(0, (2, 22, -0.1), (3, 23, -0.05)),
        # the least certain word is the first one by now, but it stands
    )
    tokens, block = [[MASK] * 4], [[1, 1, 1, 1]]
    written, _, _ = run(tokens, block, Passes(2, "easy-first"), script)
    assert written == [[10, 11, 22, 23]]
    script = Script(
        row(0, (0, 10, -0.6), (1, 11, -0.5), (2, 12, -0.7)),
        row(0, (0, 20, -0.1), (2, 22, -0.2)),
        row(0, (2, 32, -0.3)),
    )
    written, _, _ = run([[MASK] * 3], [[1, 1, 1]], Passes(3, "easy-first"), script)
    assert script.asked[2] == {0: [20, 11, MASK]}
    assert written == [[20, 11, 32]]


def test_the_less_certain_of_equal_neighbours_goes_first():
    first = row(0, (0, 10, -0.1), (1, 10, -0.2), (2, 12, -0.9), (3, 13, -0.8))
    second = row(0, (1, 20, -0.1), (2, 22, -0.1))
    script = Script(first, second)
    written, _, _ = run([[MASK] * 4], [[1, 1, 1, 1]], Passes(2, repeats="remask"), script)
    assert script.asked[1] == {0: [10, MASK, MASK, 13]}
    assert written == [[10, 20, 22, 13]]


def test_a_target_that_does_not_change_is_left_alone():
    script = Script(
        row(0, (0, 10, -0.3), (1, 11, -0.4)) | row(1, (0, 20, -0.3), (1, 21, -0.4)),
        row(0, (1, 11, -0.1)) | row(1, (1, 31, -0.2)),
        row(1, (0, 40, -0.2)),
    )
    block = [[1, 1], [1, 1]]
    written, _, asked = run([[MASK, MASK], [MASK, MASK]], block, Passes(3, stop=True), script)
    # 2 · 1 // 3 = 0: nothing is left to do for either
    assert (written, asked) == ([[10, 11], [20, 31]], 2)
    script = Script(
        row(0, *((i, 10 + i, -0.5) for i in range(4))) | row(1, *((i, 20, -0.5) for i in range(4))),
        row(0, *((i, 10 + i, -0.4) for i in range(3))) | row(1, *((i, 30, -0.4) for i in range(3))),
        row(1, (3, 40, -0.3), (0, 41, -0.3)),
        row(1, (1, 51, -0.2)),
    )
    written, _, asked = run([[MASK] * 4] * 2, [[1] * 4] * 2, Passes(4, stop=True), script)
    assert (written, asked) == ([[10, 11, 12, 13], [41, 51, 30, 40]], 4)
    assert [list(one) for one in script.asked] == [[0, 1], [0, 1], [1], [1]]


def test_only_the_block_is_written():
    script = Script(row(0, (1, 10, -0.5), (2, 11, -0.4)))
    written, _, asked = run([[5, 6, 7, MASK]], [[0, 1, 1, 0]], Passes(1), script)
    assert script.asked == [{0: [5, MASK, MASK, MASK]}]
    assert (written, asked) == ([[5, 10, 11, MASK]], 1)


def test_an_empty_block_asks_nothing():
    assert run([[5, 6]], [[0, 0]], Passes(3), Script())[2] == 0
