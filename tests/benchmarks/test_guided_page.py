"""The page of guided masks is what the comparisons measured."""

import json

from benchmarks import guided_page


def test_the_page_is_what_the_results_say():
    assert guided_page.PAGE.read_text("utf-8") == guided_page.render(), (
        "docs/results/guided.md is not what was measured: run python -m benchmarks.guided_page"
    )


def test_another_result_is_another_page(tmp_path):
    results = json.loads((guided_page.RESULTS / "compare" / "guided.json").read_text("utf-8"))
    loss = results["regimes"][0]["policies"][0]["summary"]["loss"]
    loss["mean"] = 9.876
    (tmp_path / "guided.json").write_text(json.dumps(results), "utf-8")
    assert "9.876" in guided_page.render(tmp_path)
    assert guided_page.render(tmp_path) != guided_page.render()
