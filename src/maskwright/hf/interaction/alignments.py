"""Word alignments that a model's own cross-attention suggests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np

from maskwright.errors import ConfigError
from maskwright.hf.interaction.cross_maps import cross_attention_maps

Link = tuple[int, int]


def alignments_from_attention(
    model: Any,
    batch: Mapping[str, Any],
    layer: int | None = None,
    head: int | None = None,
    *,
    when: Literal["written", "read"] = "written",
    exclude: Collection[int] = (),
) -> list[list[Link]]:
    """For each sample the links (target token, source token), counted from 0; for `aligned`.

    A target token is linked to the source token of the largest weight, of equal ones the first.

    Args:
        model, batch: as of `cross_attention_maps`.
        layer: whose attention; the last but one unless given (of two layers the first), whose
            weights are closest to alignments in Garg et al., "Jointly Learning to Align and
            Translate with Transformer Models", 2019 (arXiv:1909.02074).
        head: of that layer; their mean unless given.
        when: ``written``: at the step that writes the target token; ``read``: one step later, when
            the decoder reads it, which is more accurate in Chen et al., "Accurate Word Alignment
            Induction from Neural Machine Translation", 2020 (arXiv:2004.14837); the last token then
            has no link.
        exclude: ids of source tokens that nothing is linked to, such as the end token, which
            attracts attention that means nothing.

    Raises:
        ConfigError: ``when`` is neither, or there is no such layer or head.
        ModelError, BatchError: as of `cross_attention_maps`.
    """
    if when not in ("written", "read"):
        raise ConfigError(f'when={when!r} of alignments: it is "written" or "read".')
    maps = cross_attention_maps(model, batch)
    if layer is None:
        layer = max(0, len(maps.weights) - 2)
    ids = batch.get("input_ids")
    found: list[list[Link]] = []
    for sample in range(len(maps.target)):
        weights, allowed = maps.of(sample, layer, head)
        if exclude and ids is not None:
            own = ids[sample].cpu().numpy()[maps.source[sample]]
            allowed = allowed & ~np.isin(own, list(exclude))[None, :]
        scores = np.where(allowed, weights, -1.0)
        if when == "read":
            scores = scores[1:]
        found.append(
            [(t, int(row.argmax())) for t, row in enumerate(scores) if row.size and row.max() >= 0]
        )
    return found
