"""What a pattern looks like, what it costs, and which backend runs it: for people to read."""
