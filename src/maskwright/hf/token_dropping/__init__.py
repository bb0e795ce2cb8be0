"""Token dropping: the middle layers run on important tokens only."""
