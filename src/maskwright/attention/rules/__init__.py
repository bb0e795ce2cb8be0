"""The library of rules: one idea of who may attend to whom in each file."""
