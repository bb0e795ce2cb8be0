"""Attention patterns in a Hugging Face model: where it attends, its own mask, and ours on top."""
