"""Writing a target while its source is still being read."""
