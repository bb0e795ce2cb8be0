"""The page of translation is what was measured."""

import json

import pytest

from benchmarks import translation_page


@pytest.mark.skipif(not translation_page.PAGE.is_file(), reason="nothing was recorded yet")
def test_the_page_is_what_the_results_say():
    assert translation_page.PAGE.read_text("utf-8") == translation_page.render(), (
        "docs/results/translation.md is not what was measured: run "
        "python -m benchmarks.translation_page"
    )


def test_a_trained_model_is_on_the_page_with_its_own_figures(tmp_path):
    way = {"bleu": 31.25, "bleu_single": 24.0, "chrf": 50.0, "tokens_per_second": 1234.0}
    run = {
        "spec": {
            "threads": 2,
            "model": {"layers": 2, "width": 64},
            "data": {"corpus": "tatoeba", "test": {"sources": 1000}},
        },
        "final": {"loss": 2.0, "perplexity": 7.39, "exposure": 0.123},
        "cost": {"seconds": 1380.0, "tokens_per_second": 2500.0},
        "parameters": 7_600_000,
        "steps": 4321,
        "history": [{"epoch": 3.21}],
        "written": {"4 beams": way},
    }
    (tmp_path / "train-x.json").write_text(json.dumps(run))
    page = translation_page.render(tmp_path)
    for shown in (
        "Marian 2+2×64 on tatoeba",
        "31.2",
        "24.0",
        "4,321 steps",
        "3.21 epochs",
        "23 min 00 s",
        "+0.123",
    ):
        assert shown in page
    assert "31.2" not in translation_page.render(tmp_path / "nothing")
