"""A learned masking policy: a small network that gives each token a weight for `Weighted`.

What draws masks is a published copy of the network, in shared memory, which changes only when
`LearnedPolicy.publish` is called (`maskwright.hf.guided.learned` does so between epochs). So a mask
is a function of the policy's version, the tokens, their scores and the clock, in every worker.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright.batch import TokenBatch
from maskwright.errors import BatchError, CacheError, ConfigError
from maskwright.guidance.checked_file import Sink, read_checked, write_checked
from maskwright.guidance.reader import Samples, ScoreReader, check_ids
from maskwright.guidance.token_scorer import FEATURES, PolicySettings, TokenScorer
from maskwright.ragged import Ragged

__all__ = ["FrozenPolicy", "LearnedPolicy", "PolicySettings", "TokenScorer"]

NAME = "policy.maskwright"
_FORMAT = 1
_REMEDY = "Load another copy, or train the policy again."


class LearnedPolicy:
    """A `TokenScorer` that learns, and the published copy of it that draws masks.

    >>> policy = LearnedPolicy(PolicySettings(vocabulary=10))
    >>> policy.weights(Ragged.from_lists([[3, 4], [5]])).to_lists()
    [[1.0, 1.0], [1.0]]
    """

    def __init__(self, settings: PolicySettings) -> None:
        self.settings = settings
        self.scorer = TokenScorer(settings)
        shapes = {
            "projected": (len(self.scorer.table), settings.hidden),
            "direct": (FEATURES, settings.hidden),
            "out": (settings.hidden,),
        }
        # shared, so that what is published reaches worker processes that already run
        self.published = {
            name: torch.zeros(shape).share_memory_() for name, shape in shapes.items()
        }
        self._version = torch.full((1,), -1, dtype=torch.int64).share_memory_()
        self.publish()

    @property
    def version(self) -> int:
        """How often it was published since it was made."""
        return int(self._version)

    @torch.no_grad()
    def publish(self) -> None:
        """Draw masks by the parameters of now, in this process and in its live workers."""
        scorer = self.scorer
        # sums in one order, whatever the threads: the same parameters give the same bits
        projected = scorer.shift.expand_as(self.published["projected"]).clone()
        for size in range(self.settings.width):
            projected += scorer.table[:, size, None] * scorer.mixed[size]
        self.published["projected"].copy_(projected)
        self.published["direct"].copy_(scorer.direct)
        self.published["out"].copy_(scorer.out)
        self._version += 1

    def put_back(self, published: dict[str, Tensor], version: int) -> None:
        """Draw masks by a copy of `published` from before."""
        for name, part in self.published.items():
            part.copy_(published[name])
        self._version.fill_(version)

    def logits(self, tokens: Ragged, scores: Ragged | None = None) -> Ragged:
        """By the published parameters, float32; a token's are the same bits in any batch.

        Raises:
            BatchError: an id is outside the vocabulary, or the scores are not of the tokens.
        """
        self._check(tokens, scores)
        projected, direct, out = (part.numpy() for part in self.published.values())
        hidden = projected[self.settings.row_of[tokens.values]]
        # no matrix product: its order of summation would depend on the size of the batch
        for number, feature in enumerate(self.settings.features(tokens, scores).T):
            hidden += feature[:, None] * direct[number]
        np.maximum(hidden, 0, out=hidden)
        value = np.zeros(len(hidden), np.float32)
        for unit in range(self.settings.hidden):
            value += hidden[:, unit] * out[unit]
        bound = np.float32(self.settings.bound)
        return tokens.like(bound * value / (1 + np.abs(value)))

    def weights(self, tokens: Ragged, scores: Ragged | None = None) -> Ragged:
        """``exp(logit)`` of each token, float32, for `Weighted`; errors as of `logits`."""
        logits = self.logits(tokens, scores)
        return logits.like(np.exp(logits.values.astype(np.float64)).astype(np.float32))

    def _check(self, tokens: Ragged, scores: Ragged | None) -> None:
        ids = tokens.values
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.settings.vocabulary:
            raise BatchError(
                f"The policy knows {self.settings.vocabulary} token ids, got "
                f"{ids.min()} … {ids.max()}. Make one for this tokenizer."
            )
        if scores is not None and not np.array_equal(scores.offsets, tokens.offsets):
            raise BatchError(
                f"The policy reads one score a token: {tokens.lengths} tokens, "
                f"{scores.lengths} scores. Give the store of these samples."
            )

    # -- files ----------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write ``folder/policy.maskwright``, whole or not at all; gives the file.

        Raises:
            SaveError: it cannot be written.
        """
        path = Path(folder) / NAME
        head = {"format": _FORMAT, "settings": asdict(self.settings)}
        write_state(path, head, self.scorer.state_dict())
        return path

    @classmethod
    def load(cls, folder: str | Path) -> LearnedPolicy:
        """What `save` left in ``folder``, published.

        Raises:
            CacheError: it is missing, damaged, or of another format.
        """
        path = Path(folder) / NAME
        head, state = read_state(path, _REMEDY)
        if head.get("format") != _FORMAT:
            raise CacheError(
                f"{path} has format {head.get('format')}, this is {_FORMAT}. {_REMEDY}"
            )
        policy = cls(PolicySettings(**head["settings"]))
        policy.scorer.load_state_dict(state)
        policy.publish()
        return policy


@dataclass(frozen=True, eq=False)
class FrozenPolicy:
    """A `ScoreReader` of the weights that a policy gives, as published, to tokens.

    For the corpus that the policy learns on (`MaskingCollator(scores=…)`), and for any other of
    the same tokenizer.

    Args:
        policy: that weighs.
        samples: a token table, or `Ragged` tokens whose row ``i`` is sample ``i``.
        scores: of the same samples, where the policy reads some.

    Raises:
        ConfigError: the policy reads scores and there are none.
    """

    policy: LearnedPolicy
    samples: Samples | Ragged
    scores: ScoreReader | None = None

    def __post_init__(self) -> None:
        if self.policy.settings.score != "none" and self.scores is None:
            raise ConfigError(
                f"The policy goes by scores ({self.policy.settings.score}), too: "
                "FrozenPolicy(policy, samples, scores=store)."
            )

    def batch(self, sample_ids: np.ndarray) -> TokenBatch:
        """The tokens of samples, with the scores that the policy reads of them."""
        if isinstance(self.samples, Ragged):
            ids = check_ids(sample_ids, len(self.samples), "FrozenPolicy.read")
            found = TokenBatch(self.samples.take(ids), ids)
        else:
            found = self.samples.batch(sample_ids)
        scores = None
        if self.policy.settings.score != "none" and self.scores is not None:
            scores = self.scores.read(found.sample_ids)
            self.policy._check(found.tokens, scores)
        return TokenBatch(found.tokens, found.sample_ids, protected=found.protected, scores=scores)

    def read(self, sample_ids: np.ndarray) -> Ragged:
        """The weights of samples, float32."""
        found = self.batch(sample_ids)
        return self.policy.weights(found.tokens, found.scores)


def write_state(path: Path, head: dict[str, Any], state: Any) -> None:
    """A checked file of a line of JSON, and what torch saves."""
    buffer = io.BytesIO()
    torch.save(state, buffer)

    def fill(sink: Sink) -> None:
        sink.write(json.dumps(head).encode() + b"\n")
        sink.write(buffer.getvalue())

    write_checked(path, fill)


def read_state(path: Path, remedy: str) -> tuple[dict[str, Any], Any]:
    """What `write_state` wrote.

    Raises:
        CacheError: it is missing or damaged.
    """
    with read_checked(path, remedy) as file:
        head = json.loads(file.readline())
        return head, torch.load(io.BytesIO(file.read()), weights_only=True)
