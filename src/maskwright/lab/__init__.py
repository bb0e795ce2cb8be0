"""Experiments: train, compare honestly, and keep everything that was measured."""

from maskwright.errors import MissingExtra

for _package in ("pydantic", "yaml", "scipy", "rich"):
    try:
        __import__(_package)
    except ImportError:
        raise MissingExtra(_package, "lab") from None
