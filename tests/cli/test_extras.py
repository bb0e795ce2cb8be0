"""Without a package of the extra, one line names the command that installs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each case runs in a fork of a process that has imported the core, which saves its seconds.
SCRIPT = """
import contextlib, io, json, os, sys
import maskwright, maskwright.cli

def attempt(name, arguments):
    sys.modules[name] = None  # an import of it is then a ModuleNotFoundError
    sys.argv = ["maskwright", *arguments]
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            maskwright.cli.main()
        except SystemExit as ended:
            status = ended.code or 0
        except BaseException as error:
            status = repr(error)
    return [status, out.getvalue(), err.getvalue()]

found = {}
for name, arguments in json.loads(sys.argv[1]):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        result = attempt(name, arguments)
        with open(write, "w") as pipe:
            json.dump(result, pipe)
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        found[name] = json.loads(pipe.read())
    os.waitpid(child, 0)
print(json.dumps(found))
"""

# With a preset that does not exist: what is missing must be said before anything else is done.
COMPARE = ["compare", "--preset", "none"]
PACKAGES = (
    "typer", "rich", "pydantic", "yaml", "scipy", "jinja2", "matplotlib", "transformers"
)  # fmt: skip


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """Status, output and error of a command without each package."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([[name, COMPARE] for name in PACKAGES])],
        capture_output=True, text=True, timeout=120, check=False,
        cwd=tmp_path_factory.mktemp("empty"),
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_one_line_with_the_command(without, package):
    status, out, err = without[package]
    assert status == 2
    assert out == ""
    assert err.startswith(f"maskwright: {package} is not installed; it comes with: pip install")
    assert err.strip().endswith(('"maskwright[lab]"', '"maskwright[hf]"'))
    assert len(err.splitlines()) == 1


def test_a_bug_of_our_own_is_not_called_a_missing_package(monkeypatch):
    from maskwright.cli import main

    def broken(**_):
        raise ModuleNotFoundError("No module named 'maskwright.typo'", name="maskwright.typo")

    monkeypatch.setattr("maskwright.cli.app.app", broken)
    with pytest.raises(ModuleNotFoundError, match="typo"):
        main()
