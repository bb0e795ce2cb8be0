"""What mask-aware compute saves, measured: the cases, the peers, and the clock."""
