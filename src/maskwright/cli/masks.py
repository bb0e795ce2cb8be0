"""The commands that show masks: preview, recipes, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maskwright.cli.options import Change, File, Policies, Preset, listed, open_console, quiet


def preview(
    file: File = None,
    preset: Preset = None,
    policies: Policies = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A published recipe instead; `maskwright recipes` lists them.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Your own text, instead of the beginning of the held-out one.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="A folder or Hub name, instead of the tokenizer of the settings.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="How many epochs.")] = 3,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the masks.")] = 0,
    changes: Change = None,
) -> None:
    """Show a text as each policy masks it, epoch by epoch.

    Example: `maskwright preview --policies static,dynamic --text "The state of the union"`
    """
    from maskwright.cli.show import legend, preview_table
    from maskwright.lab.examples import make_recipe, phrases_in, tokenise
    from maskwright.lab.settings import load
    from maskwright.lab.text import corpus_of, read_tokenizer, tokenizer_of

    quiet()
    experiment = load(file=file, preset=preset, changes=changes or (), policies=listed(policies))
    data = experiment.data if tokenizer is None else None
    corpus: Any = None
    if text is None or data is not None:
        corpus = corpus_of(experiment.data)
    tokens = read_tokenizer(str(tokenizer)) if data is None else tokenizer_of(data, corpus)
    sample_text = corpus.documents("validation")[0][:240] if text is None else text
    texts = [sample_text] if corpus is None else corpus.documents("validation")
    if recipe is not None:
        shown: dict[str, Any] = {recipe: make_recipe(recipe, tokens, texts)}
    else:
        chosen = experiment.policies.values()
        phrases = phrases_in(texts, tokens) if any(p.collocations for p in chosen) else None
        shown = {name: policy.masking(phrases) for name, policy in experiment.policies.items()}
    sample = tokenise(sample_text, tokens)
    out = open_console()
    out.print(preview_table(shown, sample, tokens, epochs=epochs, seed=seed))
    out.print(legend(tokens.mask_token))


def replay(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, with its `run.json`.")],
    step: Annotated[int, typer.Option(help="Which batch, from 0.")],
    rows: Annotated[int | None, typer.Option(help="Only so many samples.")] = None,
) -> None:
    """Show exactly what a batch of a finished run masked, computed again from its settings.

    `maskwright replay runs/compare/runs/fresh/dynamic/seed-0 --step 12`
    """
    from maskwright.lab.replay import replay as run
    from maskwright.lab.text import read_tokenizer

    quiet()
    plan = run(folder, step)
    print(plan.show(read_tokenizer(folder), rows=len(plan.batch) if rows is None else rows))


def recipes() -> None:
    """List the published masking policies: paper, form and meaning.

    `maskwright preview --recipe bert --text "The quick brown fox …"` shows one at work.
    """
    from maskwright.cli.show import recipes_table
    from maskwright.corruption import RECIPES

    open_console().print(recipes_table(RECIPES))
