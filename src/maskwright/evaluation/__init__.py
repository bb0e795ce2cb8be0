"""How good a model is, on masks that never change, and how sure that is."""
