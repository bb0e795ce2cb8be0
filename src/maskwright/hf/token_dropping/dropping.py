"""Token dropping: unimportant tokens skip the middle layers in training (2203.13240).

Hou et al., "Token Dropping for Efficient BERT Pretraining": the first layers and the last run on
all tokens, those between on the important ones: those whose vocabulary id has a high running loss.
The others skip them, and join again before the last layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from maskwright.corruption.emit import IGNORE
from maskwright.errors import BatchError, ConfigError, ModelError, SampleIdError, unknown
from maskwright.guidance.reader import ScoreReader
from maskwright.hf.attachment.attach import configs_of
from maskwright.hf.attachment.seats import find_seats
from maskwright.hf.compute.own_configs import OwnConfigs
from maskwright.hf.compute.row import Row
from maskwright.hf.compute.row_attention import ask_for_rows, register
from maskwright.hf.further_loss import FurtherLoss
from maskwright.hf.token_dropping.choice import draws_of, kept_tokens
from maskwright.hf.token_dropping.importance import RunningLoss
from maskwright.hf.token_dropping.middle import MiddleLayers
from maskwright.hf.token_dropping.whole_row import WholeRow

Importance = Literal["loss", "store", "random"]
_HELD = "_maskwright_token_dropping"
_ACCELERATED = "_maskwright_acceleration"


@dataclass(frozen=True, eq=False)
class _Batch:
    """What is known of a batch before its pass; ``(B, S)``, ``(B,)``, ``(B, 2)``."""

    labels: Tensor | None
    sample_ids: Tensor
    clock: Tensor | None


class TokenDropping(AbstractContextManager["TokenDropping"]):
    """Middle layers that run on important tokens only, in training; in evaluation on all.

    An option of `MaskingTrainer`, which fills in the special tokens:

        dropping = TokenDropping(model, share=0.5)
        MaskingTrainer(model, args, collator, dataset, token_dropping=dropping).train()

    In a loop of one's own it is a context manager; batches are those of
    ``MaskingCollator(…, carry=True)``, from which it takes what the model does not know:

        with TokenDropping(model, special_ids=tokenizer.all_special_ids):
            model(**batch).loss.backward()

    A batch goes through the stack as one row of its real tokens, so padding is left out as well.
    Of each sample ``share`` of the tokens are kept, more where more are special or predicted: those
    always are. Kept tokens see kept tokens, at the positions that they had. (In the code of the
    paper's authors they see all of them in the first middle layer.) With ``share=1`` loss and
    gradients are those of the plain model, up to rounding. Ties, and ``"random"``, are settled by
    draws that are keyed by (seed, epoch, step, sample, position).

    Args:
        model: a masked language model that `accelerate_model` can unpad, of three layers or more.
        share: of the tokens of a sample that are kept, above 0, at most 1.
        first: layers that run on all tokens before; unless given half of them less one, at least 1.
        last: layers that run on all tokens afterwards.
        importance: ``"loss"``: the running average of the losses of the token's id (a token that
            was replaced by a random one counts as predicted); ``"store"``: the score of the token
            in ``store``, at its position, higher is more important, and a token without a score
            comes before all others; ``"random"``: by chance, for comparison.
        special_ids: ids that are always kept.
        store: what ``"store"`` goes by; a `ScoreStore` that `Guidance` writes.
        beta: how slowly the running average forgets, for each step that predicts the id.
        seed: of the draws.

    Raises:
        ConfigError: a number outside its rule, or a store too many or too few.
        ModelError: the model does not allow it.
    """

    def __init__(
        self,
        model: Any,
        share: float = 0.5,
        *,
        first: int | None = None,
        last: int = 1,
        importance: Importance = "loss",
        special_ids: Iterable[int] | None = None,
        store: ScoreReader | None = None,
        beta: float = 0.995,
        seed: int = 0,
    ) -> None:
        if not 0 < share <= 1:
            raise ConfigError(f"share={share!r} of TokenDropping: above 0, at most 1.")
        if importance not in get_args(Importance):
            raise ConfigError(unknown("importance", importance, get_args(Importance)))
        if (store is None) == (importance == "store"):
            raise ConfigError(
                f'TokenDropping(importance="{importance}") with store={type(store).__name__}: '
                '"store" needs one, and the others take none.'
            )
        name = type(model).__name__
        if getattr(model, "loss_type", None) != "ForMaskedLM" or model.base_model is model:
            raise ModelError(
                f"TokenDropping takes a masked language model, got {name}. Load one with "
                "AutoModelForMaskedLM."
            )
        if isinstance(model, FurtherLoss):
            raise ModelError(
                f"{name} runs its encoder twice a step: which tokens are important in the second "
                "pass is not settled. Give the masked language model alone."
            )
        self.model, self.share, self.importance, self.seed = model, share, importance, seed
        self.special_ids = None if special_ids is None else tuple(special_ids)
        self.store = store
        self.running: RunningLoss | None = None
        if importance == "loss":
            self.running = RunningLoss(len(model.get_input_embeddings().weight), beta)
        self.installed = False
        try:
            self._seats = [module for module, _ in find_seats(model)]
            self._stack = WholeRow(model.base_model, self._seats)
        except ModelError as error:
            raise ModelError(f"TokenDropping: {error}") from None
        self._middle = MiddleLayers(model.base_model, self._seats, first, last)
        self._configs: OwnConfigs | None = None
        self._handles: list[Any] = []
        self._batch: _Batch | None = None
        self._own: Tensor | None = None  # labels of a call that computes their loss itself
        self._measures: dict[str, Tensor] = {}

    @property
    def first(self) -> int:
        """Layers before the middle ones."""
        return self._middle.first

    @property
    def last(self) -> int:
        """Layers behind the middle ones."""
        return self._middle.last

    def __repr__(self) -> str:
        return (
            f"TokenDropping({type(self.model).__name__}, share={self.share:g}, layers "
            f"{self.first} … {self._middle.count - self.last - 1} of {self._middle.count}, "
            f"by {self.importance})"
        )

    # -- while it is on ---------------------------------------------------------------------

    def install(self) -> None:
        """From now on, until `remove`.

        Raises:
            ModelError: another one is, or the model is accelerated with ``unpad``.
        """
        other = getattr(self.model, _ACCELERATED, None)
        if getattr(self.model, _HELD, None) is not None or (other is not None and other.stacks):
            raise ModelError(
                f"{type(self.model).__name__} drops tokens already, or is accelerated with "
                'unpad=True or "auto": token dropping leaves padding out by itself. remove() '
                "that first, or use accelerate_model(model, unpad=False)."
            )
        object.__setattr__(self.model, _HELD, self)
        self.installed = True
        register()
        self._configs = OwnConfigs(self.model, configs_of(self.model, self._seats))
        self._configs.install(ask_for_rows)
        self._stack.install()
        base = self.model.base_model
        self._handles = [
            self.model.register_forward_pre_hook(self._before, with_kwargs=True),
            self.model.register_forward_hook(self._after, always_call=True),
            base.register_forward_pre_hook(self._choose, with_kwargs=True),
        ]
        self._middle.install()

    def remove(self) -> None:
        """The model is what it was; again does nothing more. Gradients are to be computed before,
        where layers are checkpointed."""
        if not self.installed:
            return
        self._middle.remove()
        for handle in self._handles:
            handle.remove()
        self._stack.remove()
        if self._configs is not None:
            self._configs.give_back()
        self._handles, self._configs, self._batch, self._own = [], None, None, None
        if getattr(self.model, _HELD, None) is self:
            delattr(self.model, _HELD)
        self.installed = False

    def __enter__(self) -> TokenDropping:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Installed for a forward and a backward pass."""
        if self.installed:
            yield
            return
        self.install()
        try:
            yield
        finally:
            self.remove()

    # -- what a training loop says ------------------------------------------------------------

    def expect(self, labels: Tensor | None, sample_ids: Tensor, clock: Tensor | None) -> None:
        """Of the next pass, where the model itself is not given these.

        Args:
            labels: ``(B, S)`` int64, -100 where nothing is predicted.
            sample_ids: ``(B,)`` int64.
            clock: ``(B, 2)`` int64, epoch and step.
        """
        self._batch = _Batch(labels, sample_ids, clock)

    @property
    def wants_losses(self) -> bool:
        """Whether `see` has a use for losses."""
        return self.running is not None

    def see(self, ids: Tensor, losses: Tensor) -> None:
        """The right ids of predicted tokens and their losses in nats, both ``(P,)``."""
        if self.running is not None:
            self.running.see(ids, losses)

    def settle(self) -> None:
        """A step is over: what was seen in it counts from now on. Every rank calls it."""
        if self.running is not None:
            self.running.settle()

    def measures(self) -> dict[str, float]:
        """Of the last batch: the share of real tokens that went through the middle layers, and of
        all products of tokens and layers."""
        return {name: float(value) for name, value in self._measures.items()}

    # -- a pass -----------------------------------------------------------------------------

    def _before(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pre-hook of the model: takes what it does not know, and keeps what is asked of it."""
        taken = {name: kwargs.pop(name) for name in ("sample_ids", "clock") if name in kwargs}
        self._own = None
        if not model.training:
            self._batch = None
            return args, kwargs
        labels = kwargs.get("labels")
        if self._batch is None and "sample_ids" in taken:
            self._own = labels
            self._check_logits(model)
            self._batch = _Batch(labels, taken["sample_ids"], taken.get("clock"))
        return args, kwargs

    def _check_logits(self, model: Any) -> None:
        accelerated = getattr(model, _ACCELERATED, None)
        if self.running is None or accelerated is None or accelerated.head is None:
            return
        raise ModelError(
            f"{type(model).__name__} is accelerated, and gives no logits from which the losses of "
            "tokens could be told. Use accelerate_model(model, head=False, unpad=False), "
            'MaskingTrainer, or TokenDropping(importance="random").'
        )

    def _after(self, _model: Any, _inputs: Any, output: Any) -> None:
        """Hook of the model: a call that computed its loss itself shows the losses."""
        self._batch, labels, self._own = None, self._own, None
        if output is None or labels is None or self.running is None:
            return
        with torch.no_grad():
            logits, places = output["logits"], labels != IGNORE
            losses = functional.cross_entropy(
                logits[places].float(), labels[places], reduction="none"
            )
        self.see(labels[places], losses)
        self.settle()

    def _choose(self, base: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Pre-hook of the backbone, whose tokens are a row by now."""
        row = self._stack.row
        if row is None or not base.training:
            self._middle.begin(None, None)
            return
        batch = self._batch
        if batch is None:
            raise SampleIdError(
                "The batch has no sample_ids, so what is dropped could not be the same again. Use "
                "MaskingCollator(…, carry=True) and hand its batches to the model, or expect()."
            )
        if self.special_ids is None:
            raise ConfigError(
                "TokenDropping does not know which tokens are special, and always kept. Say "
                "TokenDropping(…, special_ids=tokenizer.all_special_ids)."
            )
        ids = kwargs["input_ids"][0]
        special = torch.tensor(self.special_ids, dtype=ids.dtype, device=ids.device)
        always = torch.isin(ids, special)
        if batch.labels is not None:
            always |= row.gather(batch.labels)[0] != IGNORE
        draws = draws_of(row, self.seed, batch.clock, batch.sample_ids)
        places, kept = kept_tokens(row, self._scores(row, ids, batch), always, draws, self.share)
        self._middle.begin(row, places)
        inner, count = len(self._middle.layers), self._middle.count
        share = kept.float().mean()
        self._measures = {
            "token_dropping/kept": share,
            "token_dropping/work": (share * inner + (count - inner)) / count,
        }

    def _scores(self, row: Row, ids: Tensor, batch: _Batch) -> Tensor:
        """``(T,)``: how important each token is."""
        if self.running is not None:
            return self.running.of(ids)
        if self.store is None:
            return torch.zeros(len(row), device=ids.device)
        found = self.store.read(batch.sample_ids.cpu().numpy())
        counts = np.bincount(row.samples.cpu().numpy(), minlength=row.shape[0])
        if not np.array_equal(found.lengths, counts):
            raise BatchError(
                f"The store has scores of samples of {found.lengths[:4].tolist()} … tokens, and in "
                f"the batch they have {counts[:4].tolist()} …: it is of other samples."
            )
        return torch.from_numpy(np.array(found.values, np.float32)).to(ids.device)
