"""Encoder–decoders: batches of sources and targets, masked on both sides."""
