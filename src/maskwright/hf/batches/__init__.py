"""Batches by their number of tokens."""
