"""A learned interaction mask: which heads, or which pairs, of an attention are needed at all.

    y = M_θ(x) ∘ M_φ(x)

M_θ is the model, M_φ its gates: z in [0, 1], 0 where an interaction is not needed. ∘ is not taken
at the output of the whole model, where it could save nothing, but inside it, at each attention of
the roles that were asked for: on what each head gives (``per="head"``), or on its weights
(``per="pair"``, normalised anew). θ and φ are trained jointly, by one loss and one optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskwright.attention import Pattern, full, nothing, per_head, visible
from maskwright.clock import Clock
from maskwright.corruption.emit import IGNORE
from maskwright.errors import ConfigError, ModelError, unknown
from maskwright.hf.attachment.attach import Attachment, attach, attached_to
from maskwright.hf.attachment.seats import ROLES, Role, find_seats
from maskwright.hf.interaction.budget import GateBudget, check_share
from maskwright.hf.interaction.callback import InteractionCallback
from maskwright.hf.interaction.hard_concrete import GAMMA, ZETA
from maskwright.hf.interaction.head_gates import HeadGates
from maskwright.hf.interaction.moment import Moment
from maskwright.hf.interaction.pair_gates import PairGates
from maskwright.hf.interaction.projections import projections_of
from maskwright.schedule import Schedule

NAME = "interaction_mask"
_STREAM = 0x9A7F


class InteractionMask(nn.Module):
    """Gates on a model's attention, at once and until `export` or `detach`.

    It is a part of the model while it is on it (``model.interaction_mask``), so that the optimizer
    moves it, checkpoints keep it, and ranks agree on it:

        mask = InteractionMask(model, budget=Linear(1.0, 0.5), learning_rate=0.05)
        MaskingTrainer(model, …, further=mask, callbacks=[mask.callback]).train()
        patterns = mask.export()
        attach(model, **patterns)

    While training, gates are drawn from the hard concrete distribution, keyed by (seed, step,
    attention, gate): the same in every micro-batch and rank, and when a run is replayed or resumed.
    In evaluation there is no chance: heads have their expected gate, pairs are open or not.

    Args:
        model: of transformers.
        roles: which attention has gates: "cross", "encoder", "decoder", or several of them.
        per: ``head``: one gate for each head. ``pair``: one for each query and key of each head,
            scored from their states; needs patterns that are attached, or attaches `full`.
        budget: the share of gates that may stay open: a number, a `maskwright.schedule`, or a
            `GateBudget` with how hard it is held.
        learning_rate: of the gates; None: that of the model. Gates move slowly at the learning rate
            of weights: 10 to 1,000 times that is usual.
        start: log α at the beginning. At 2.4 and above all gates are 1 in evaluation.
        rank: of the scorer of pairs.
        seed: of the draws, and of the scorer's first weights.

    Raises:
        ConfigError: a setting outside its rule.
        ModelError: the model lacks a role, has a mask already, or its heads cannot have gates.
    """

    needs_logits = False
    """Of its further loss."""

    def __init__(
        self,
        model: Any,
        roles: Role | Sequence[Role] = "cross",
        *,
        per: Literal["head", "pair"] = "head",
        budget: float | Schedule | GateBudget = 0.5,
        learning_rate: float | None = None,
        start: float = 2.5,
        rank: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        asked = (roles,) if isinstance(roles, str) else tuple(roles)
        _check(asked, per, learning_rate, start, rank)
        if getattr(model, NAME, None) is not None:
            raise ModelError(
                f"{type(model).__name__} has an InteractionMask already. export() or detach() it."
            )
        self.per = per
        self.budget = budget if isinstance(budget, GateBudget) else GateBudget(budget)
        self.own_learning_rate = learning_rate
        self.moment = Moment(seed)
        self.callback = InteractionCallback(self)
        # not as parts of this module, of which it is one
        self._model = [model]
        self._attachment: list[Attachment] = []
        self._open = [0.0, 0.0]
        self._roles: list[Role] = []
        device = next(model.parameters()).device
        self.register_buffer("multiplier", torch.zeros((), device=device))
        self.multiplier: Tensor
        gates = self._head_gates(model, asked, start) if per == "head" else None
        self.gates: Any = nn.ModuleList(gates or self._pair_gates(model, asked, start, rank, seed))
        self.to(device)
        self.train(model.training)
        model.add_module(NAME, self)

    # -- on the model ------------------------------------------------------------------------

    def _head_gates(self, model: Any, roles: Sequence[Role], start: float) -> list[HeadGates]:
        found: list[HeadGates] = []
        for path, module, role in _seats(model, roles):
            projections = projections_of(model, module, path)
            found.append(HeadGates(projections, len(found), self.moment, start))
            self._roles.append(role)
        for one in found:
            one.install()
        return found

    def _pair_gates(
        self, model: Any, roles: Sequence[Role], start: float, rank: int, seed: int
    ) -> list[PairGates]:
        if attached_to(model) is None:
            self._attachment = [attach(model, **dict.fromkeys(roles, full))]
        attachment = attached_to(model)
        assert attachment is not None
        generator = torch.Generator().manual_seed(seed ^ _STREAM)
        found: list[PairGates] = []
        for path, module, role in _seats(model, roles):
            seat = attachment.seat_of(module)
            if seat.pattern is None:
                raise ModelError(
                    f"{path} has gates of pairs and no pattern, but the model has others "
                    f"attached: give {role}=full to attach(), or detach them first."
                )
            sizes = projections_of(model, module, path)
            number = len(found)
            gates = PairGates(sizes.heads, sizes.size, number, self.moment, start, rank, generator)
            gates.install(seat)
            found.append(gates)
            self._roles.append(role)
        return found

    def detach(self) -> None:
        """Take the gates off; the model then is what it would be without. Again does nothing."""
        for one in self.gates:
            one.remove()
        for attachment in self._attachment:
            attachment.detach()
        model, self._attachment = self._model[0], []
        if getattr(model, NAME, None) is self:
            delattr(model, NAME)

    # -- the run -------------------------------------------------------------------------------

    def at(self, step: int, total_steps: int | None = None) -> None:
        """The optimizer step that comes, from 0, of how many; `callback` says so in a Trainer."""
        self.moment.clock = Clock(
            seed=self.moment.seed, step=step, total_steps=max(1, total_steps or step + 1)
        )

    def penalty(self) -> Tensor:
        """What is added to the loss of a step, ``()``; see `GateBudget`.

        Raises:
            TrainingError: the step is not known.
        """
        total, count = self._sums()
        self._open[0] += float(total.detach())
        self._open[1] += float(count)
        return self.budget.penalty(
            total / count.clamp(min=1), self.budget.at(self.moment.now), self.multiplier
        )

    def follow(self) -> None:
        """A step is over: move the multiplier of the budget. Every rank must come here."""
        total, count = self._open
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            both = torch.tensor([total, count], dtype=torch.float64, device=self.multiplier.device)
            torch.distributed.all_reduce(both)
            total, count = both.tolist()
        self._open = [0.0, 0.0]
        if count:
            share = self.multiplier.new_tensor(total / count)
            budget = self.budget.at(self.moment.now)
            self.multiplier.copy_(self.budget.followed(self.multiplier, share, budget))

    def further_loss(
        self,
        run: Any,
        inputs: dict[str, Any],
        batch: dict[str, Any],
        places: Tensor,
        logits: Tensor | None,
        tokens: Tensor | int | None,
    ) -> Tensor:
        """As of `FurtherLoss`: the penalty, once in a step."""
        del run, inputs, places, logits
        penalty = self.penalty()
        if tokens is None:
            return penalty
        return penalty * (_real(batch).sum() / torch.as_tensor(tokens, device=penalty.device))

    def measures(self) -> dict[str, float]:
        """The expected share of open gates, the budget, and its multiplier."""
        found = {"gates/multiplier": float(self.multiplier)}
        if self.per == "head":
            with torch.no_grad():
                total, count = self._sums()
            found["gates/open"] = float(total / count)
        if self.moment.clock is not None:
            found["gates/budget"] = self.budget.at(self.moment.now)
        return found

    def _sums(self) -> tuple[Tensor, Tensor]:
        sums = [one.open_sum() for one in self.gates]
        return torch.stack([one for one, _ in sums]).sum(), torch.stack(
            [count for _, count in sums]
        ).sum()

    # -- what came of it -----------------------------------------------------------------------

    def values(self) -> dict[str, list[Tensor]]:
        """Of each role, the gates of evaluation, ``(heads,)`` of each layer.

        Raises:
            ModelError: the gates are of pairs, which depend on the batch; see `pair_patterns`.
        """
        found: dict[str, list[Tensor]] = {}
        for role, one in zip(self._roles, self._heads(), strict=True):
            found.setdefault(role, []).append(one.values())
        return found

    def patterns(self) -> dict[str, Any]:
        """Of each role, an attention pattern for each layer: heads whose gate is 0 see nothing.

        ``attach(model, **mask.patterns())`` does not compute them.

        Raises:
            ModelError: the gates are of pairs.
        """
        return {
            role: [pattern_of(gates > 0) for gates in layers]
            for role, layers in self.values().items()
        }

    def export(self, share: float | None = None) -> dict[str, Any]:
        """Take the gates off and leave their work in the model; returns `patterns`.

        A gate that is not 0 or 1 goes into the weights: the columns of its head in the output
        projection are multiplied by it. So the plain model gives what the gated one gave in
        evaluation, and what closed heads compute changes nothing any more: with the patterns, or
        after `prune`, it is not computed.

        Args:
            share: at most so many of all gates stay open, those of the largest log α; the others
                are closed, whatever they were. None: as they are.

        Raises:
            ModelError: the gates are of pairs.
            ConfigError: the share is none.
        """
        if share is not None:
            self._close_but(share)
        patterns = self.patterns()
        for one in self._heads():
            one.projections.scale_output(one.values())
        self.detach()
        return patterns

    def pair_patterns(self, **batch: Tensor) -> dict[str, Any]:
        """Of each role, a pattern for each layer: the pairs that are open in one batch.

        They depend on what is in the batch, and hold for it alone. Nothing is saved by them that
        was not computed to know them; they show, and test, what was learned.

        Args:
            batch: what the model is called with.

        Raises:
            ModelError: the gates are of heads; see `patterns`.
        """
        if self.per != "pair":
            raise ModelError("The gates are of heads, the same for every batch: use patterns().")
        model, training = self._model[0], self.training
        for one in self.gates:
            one.recording = True
        try:
            with torch.no_grad():
                model.eval()(**batch)
            found: dict[str, Any] = {}
            for role, one in zip(self._roles, self.gates, strict=True):
                found.setdefault(role, []).append(visible(one.kept))
            return found
        finally:
            model.train(training)
            for one in self.gates:
                one.recording, one.kept = False, None

    def _heads(self) -> Iterator[HeadGates]:
        for one in self.gates:
            if not isinstance(one, HeadGates):
                raise ModelError(
                    "The gates are of pairs: they depend on the batch, so there is no pattern of "
                    "heads. Use pair_patterns(**batch)."
                )
            yield one

    def _close_but(self, share: float) -> None:
        """Close all gates but the share of the largest log α."""
        check_share(share)
        gates = list(self._heads())
        scores = torch.cat([one.log_alpha.detach() for one in gates])
        order = scores.argsort(descending=True, stable=True)
        closed = torch.ones_like(scores, dtype=torch.bool)
        closed[order[: int(share * len(scores) + 1e-9)]] = False
        # below log(-γ / ζ) the expected gate is 0
        least = math.log(-GAMMA / ZETA) - 1
        with torch.no_grad():
            sizes = [len(one.log_alpha) for one in gates]
            for one, few in zip(gates, closed.split(sizes), strict=True):
                one.log_alpha[few] = one.log_alpha[few].clamp(max=least)


def pattern_of(opened: Tensor) -> Pattern:
    """Heads that see everything, and heads that see nothing, ``(heads,)`` Boolean."""
    return full if bool(opened.all()) else per_head([full if one else nothing for one in opened])


def _seats(model: Any, roles: Sequence[Role]) -> list[tuple[str, nn.Module, Role]]:
    """Path, module and role of every attention that is to have gates."""
    attachment = attached_to(model)
    seats = find_seats(model) if attachment is None else attachment.seats
    for role in roles:
        if all(seat.role != role for _, seat in seats):
            has = ", ".join(dict.fromkeys(seat.role for _, seat in seats))
            raise ModelError(f"{type(model).__name__} has no {role} attention. It has: {has}.")
    return [(seat.name, module, seat.role) for module, seat in seats if seat.role in roles]


def _real(batch: dict[str, Any]) -> Tensor:
    """Real tokens, as `MaskingTrainer` counts those of a step."""
    for name in ("attention_mask", "decoder_attention_mask"):
        if name in batch:
            return batch[name] != 0
    return batch["labels"] != IGNORE


def _check(roles: Sequence[Any], per: Any, rate: Any, start: Any, rank: Any) -> None:
    for role in roles:
        if role not in ROLES:
            raise ConfigError(unknown("role of InteractionMask", role, ROLES))
    if not roles or len(set(roles)) < len(roles):
        raise ConfigError(f"roles={roles!r} of InteractionMask: at least one, each once.")
    if per not in ("head", "pair"):
        raise ConfigError(f'per={per!r} of InteractionMask: it is "head" or "pair".')
    if rate is not None and not 0 < rate < float("inf"):
        raise ConfigError(
            f"learning_rate={rate!r} of InteractionMask: it is a number above 0, or None for that "
            "of the model."
        )
    if not -10 <= start <= 10:
        raise ConfigError(f"start={start!r} of InteractionMask: it is log α, from -10 to 10.")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ConfigError(f"rank={rank!r} of InteractionMask: it is a whole number, 1 or more.")
