"""Usage and cost by day, key, team, model and target: counters, their journal on disk, their copy in Redis, and queries."""
