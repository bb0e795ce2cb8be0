"""Every exception has the root, and a name that is not there gets a suggestion."""

from __future__ import annotations

import inspect

from maskwright import errors


def exceptions() -> list[type]:
    """What is raised; warnings, which are exceptions to Python, are not."""
    found = [one for one in vars(errors).values() if inspect.isclass(one)]
    return [one for one in found if issubclass(one, BaseException) and not issubclass(one, Warning)]


def test_every_exception_has_the_root():
    assert len(exceptions()) > 8
    assert all(issubclass(one, errors.MaskwrightError) for one in exceptions())


def test_the_tree_in_the_docstring_is_the_tree():
    tree = errors.__doc__.split("\n\n")[1]
    assert all(one.__name__ in tree for one in exceptions())


def test_warnings_are_named_too():
    found = [one for one in vars(errors).values() if inspect.isclass(one)]
    warnings = [one for one in found if issubclass(one, Warning)]
    assert warnings == [errors.EmptyRowsWarning]
    assert all(one.__name__ in errors.__doc__ for one in warnings)


def test_python_catches_them_by_their_kind_too():
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.MissingExtra, ImportError)
    assert issubclass(errors.SampleIdError, errors.BatchError)


def test_unknown_suggests_and_lists():
    assert errors.unknown("policy", "dynamc", ["static", "dynamic"]) == (
        "Unknown policy 'dynamc'. Did you mean 'dynamic'? Available: dynamic, static."
    )
    assert errors.unknown("policy", "xyz", ["b", "a"]) == "Unknown policy 'xyz'. Available: a, b."
    assert errors.unknown("policy", 3, []).startswith("Unknown policy 3.")


def test_a_missing_extra_prints_the_command():
    error = errors.MissingExtra("pyarrow", "hf")
    assert str(error).endswith('pip install "maskwright[hf]"')
    assert (error.package, error.extra) == ("pyarrow", "hf")
