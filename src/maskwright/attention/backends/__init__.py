"""The ways to run an attention, what each can do and costs, and which is chosen."""
