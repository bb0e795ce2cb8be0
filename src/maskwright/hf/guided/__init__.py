"""Guided masks in a Trainer: scores as by-products of the step, and what a checkpoint keeps."""
