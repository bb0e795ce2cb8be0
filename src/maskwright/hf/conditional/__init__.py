"""Conditional masked language models: an encoder–decoder that fills in its target's masks."""
