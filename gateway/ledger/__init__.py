"""What was used: counters by day, key, team, model and target; their journal; and how they are read."""
