"""Replaced token detection: a generator proposes, and the model tells what was replaced."""
