"""Training that pays for what the masks leave: real tokens, and predicted ones in the head."""
