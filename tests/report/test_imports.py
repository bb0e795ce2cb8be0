import subprocess
import sys

import pytest

from maskwright.errors import MissingExtra
from maskwright.report import curves, html  # noqa: F401  (curves must be there to be taken away)

PROBE = """
import sys
import maskwright
before = set(sys.modules)
import maskwright.report, maskwright.report.tables, maskwright.report.curves
after = set(sys.modules) - before
assert not {"torch", "transformers", "datasets"} & after, after
assert {name for name in after if name.startswith("maskwright.")} <= {
    "maskwright.errors", "maskwright.placing", "maskwright.report", *(
        "maskwright.report." + name
        for name in "curves examples facts formatting html palette svg tables tasks".split()
    )
}, after
"""
WITHOUT_EXTRAS = """
import sys
sys.modules["jinja2"] = sys.modules["matplotlib"] = sys.modules["yaml"] = None
import maskwright.report, maskwright.report.tables
"""


@pytest.mark.parametrize("program", [PROBE, WITHOUT_EXTRAS])
def test_the_room_is_imported_without_models_and_without_its_extras(program):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize(
    "module, package",
    [("jinja2", "jinja2"), ("matplotlib.axes", "matplotlib"), ("yaml", "PyYAML")],
)
def test_a_missing_extra_names_the_install_command(results, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "maskwright.report.curves")
    monkeypatch.delattr("maskwright.report.curves")
    with pytest.raises(MissingExtra, match=rf'{package} is not.*pip install "maskwright\[lab\]"'):
        html.render_page(results)
