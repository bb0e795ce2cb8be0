"""Text from a saved model: an encoder–decoder of whatever kind, or a causal model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskwright.errors import ConfigError, ModelError, ResultsError
from maskwright.evaluation.translation import average_lagging
from maskwright.hf.conditional.model import ConditionalMaskedLM, is_conditional
from maskwright.hf.simultaneous.generate import simultaneous_generate
from maskwright.lab.files import read_json
from maskwright.lab.model import UNREADABLE, first_line, resolve
from maskwright.lab.run import RUN_FILE
from maskwright.lab.text import read_tokenizer
from maskwright.lab.translate.attached import BY_SCORE, attach_kept
from maskwright.lab.translate.filling import filler
from maskwright.lab.translate.generation import Write, translate
from maskwright.lab.translate.model import know_own_models, load_seq2seq, longest_text
from maskwright.lab.translate.preparation import tokenizers_in

PASSES = 4
_CONTINUED = 64  # tokens that a causal model adds, unless it says otherwise itself


class Generator:
    """Writes a text for each text.

    Args:
        write: what writes a batch of ids.
        tokenizer, target_tokenizer: of what is read and of what is written.
        longest: source tokens that the model takes; None: there is no limit.
        notes: what a user should know of it, a sentence each.
    """

    def __init__(
        self,
        write: Write,
        tokenizer: Any,
        target_tokenizer: Any,
        longest: int | None,
        device: torch.device,
        notes: Sequence[str] = (),
    ) -> None:
        self.write = write
        self.tokenizer = tokenizer
        self.target_tokenizer = target_tokenizer
        self.longest = longest
        self.device = device
        self.notes = tuple(notes)

    def __call__(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 32,
        tell: Callable[[int], None] | None = None,
    ) -> list[str]:
        """The text for each; an empty one for an empty one.

        Args:
            tell: called with the number of texts that are done.

        Raises:
            ConfigError: a text is longer than the model takes.
        """
        self._check_lengths(texts)
        return translate(
            self.write,
            self.tokenizer,
            self.target_tokenizer,
            texts,
            batch_size=batch_size,
            device=self.device,
            tell=tell,
        )

    def _check_lengths(self, texts: Sequence[str]) -> None:
        if self.longest is None or not texts:
            return
        lengths = [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]
        longest = max(lengths)
        if longest > self.longest:
            raise ConfigError(
                f"Text {lengths.index(longest) + 1} has {longest} tokens, more than the "
                f"{self.longest} that the model takes. Cut it into sentences, a line each."
            )


def open_generator(
    place: str,
    *,
    beams: int | None = None,
    simultaneous: int | None = None,
    passes: int | None = None,
    max_new_tokens: int | None = None,
) -> Generator:
    """A model that writes.

    A model of `maskwright train --task translate` writes under the masks that it was trained with.

    Args:
        place: a folder, a Hub name, or ``package:NAME``.
        beams: 1 is greedy; what the model was saved with unless given.
        simultaneous: wait for so many source tokens, then read and write in turn.
        passes: of a model that fills masks.
        max_new_tokens: the longest answer; what the model says unless given.

    Raises:
        ConfigError: two ways to write are asked for, or a number is below 1.
        ModelError: there is no such model, or it does not write in the way asked for.
    """
    _check(beams, simultaneous, passes)
    place = resolve(place)
    if is_conditional(place):
        return _filling(place, beams, simultaneous, passes, max_new_tokens)
    if passes is not None:
        raise ModelError(
            f"{place} writes from left to right, and fills no masks. Leave --mask-predict out, or "
            "train one that does: maskwright train --task translate --decoder-mask cmlm"
        )
    config = _config(place)
    if not getattr(config, "is_encoder_decoder", False):
        if simultaneous is not None:
            raise ModelError(f"{place} is no encoder–decoder: it has no source to wait for.")
        return _continuing(place, beams, max_new_tokens)
    model = load_seq2seq(place)
    tokenizer, target = tokenizers_in(place)
    masks = _kept(Path(place))
    attachment = attach_kept(model, masks)
    notes = []
    if attachment is not None:
        scored = "".join(f", {name} {masks[name]}" for name in BY_SCORE if name in masks)
        notes.append(f"Writing under the masks that it was trained with: {attachment}{scored}")
    if simultaneous is not None:
        write: Write = Reading(model, simultaneous, max_new_tokens)
    else:
        write = _writing(model, beams, max_new_tokens)
    return Generator(write, tokenizer, target, longest_text(model), _device(model), notes)


def _check(beams: int | None, simultaneous: int | None, passes: int | None) -> None:
    if simultaneous is not None and simultaneous < 1:
        raise ConfigError(
            f"--simultaneous waits for {simultaneous} source tokens; it must be at least 1."
        )
    if passes is not None and passes < 1:
        raise ConfigError(f"--mask-predict takes {passes} passes; it must be at least 1.")
    ways = {"--simultaneous": simultaneous, "--mask-predict": passes}
    if beams is not None and beams > 1:
        ways["--beams"] = beams
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are two ways to write. Choose one of them.")


def _config(place: str) -> Any:
    from transformers import AutoConfig

    know_own_models(place)
    try:
        return AutoConfig.from_pretrained(place)
    except UNREADABLE as error:
        raise ModelError(f"No model can be loaded from {place}: {first_line(error)}") from None


def _kept(folder: Path) -> dict[str, Any]:
    """The masks in a folder of ours; none in any other."""
    if not (folder / RUN_FILE).is_file():
        return {}
    record = read_json(folder / RUN_FILE)
    masks = record.get("masks", {}) if isinstance(record, dict) else None
    if not isinstance(masks, dict):
        raise ResultsError(f"{folder / RUN_FILE} is damaged: its masks are not a mapping.")
    return masks


def _writing(model: Any, beams: int | None, max_new_tokens: int | None) -> Write:
    given: dict[str, Any] = {"num_beams": beams, "max_new_tokens": max_new_tokens}
    given = {name: value for name, value in given.items() if value is not None}

    def write(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model.generate(**batch, do_sample=False, **given)

    return write


class Reading:
    """Writes while the source is read, ``k`` tokens behind it, and keeps how long it waited."""

    def __init__(self, model: Any, k: int, max_new_tokens: int | None) -> None:
        self.model = model
        self.settings: dict[str, Any] = {"k": k}
        if max_new_tokens is not None:
            self.settings["max_new_tokens"] = max_new_tokens
        self.delays: list[list[int]] = []
        self.source_lengths: list[int] = []

    def __call__(self, batch: dict[str, torch.Tensor]) -> list[list[int]]:
        written = simultaneous_generate(self.model, **batch, **self.settings)
        self.delays += written.delays
        self.source_lengths += written.source_lengths
        return written.tokens

    @property
    def lagging(self) -> float:
        """Average lagging behind the source, in tokens, of all that was written so far."""
        return float(np.nanmean(average_lagging(self.delays, self.source_lengths)))


def _filling(
    place: str,
    beams: int | None,
    simultaneous: int | None,
    passes: int | None,
    max_new_tokens: int | None,
) -> Generator:
    if simultaneous is not None or (beams or 1) > 1:
        raise ModelError(
            f"{place} fills masks in a few passes, so it has no beams and does not wait. Use "
            "--mask-predict N."
        )
    model = ConditionalMaskedLM.from_pretrained(place)
    attach_kept(model.model, _kept(Path(place)))
    tokenizer, target = tokenizers_in(place)
    write = filler(model, passes or PASSES, max_new_tokens)
    return Generator(write, tokenizer, target, longest_text(model), _device(model))


def _continuing(place: str, beams: int | None, max_new_tokens: int | None) -> Generator:
    """A causal model goes on from a text; only what it adds is written."""
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(place).eval()
    except UNREADABLE as error:
        raise ModelError(
            f"{place} is neither an encoder–decoder nor a causal model: {first_line(error)}"
        ) from None
    tokenizer = read_tokenizer(place)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    own = model.generation_config
    if max_new_tokens is None and own.max_new_tokens is None:
        max_new_tokens = _CONTINUED
    write = _writing(model, beams, max_new_tokens)

    def added(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        written: Any = write(batch)
        return written[:, batch["input_ids"].shape[1] :]

    return Generator(added, tokenizer, tokenizer, longest_text(model), _device(model))


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device
