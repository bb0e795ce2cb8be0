"""Visible-only encoding: masked tokens leave the encoder, and a light decoder predicts them."""
