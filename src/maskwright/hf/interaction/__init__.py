"""Learned interaction masks: gates on attention that train with the model, and what they leave."""
