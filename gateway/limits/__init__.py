"""What a call may spend: limits, budgets, and how they are refused. Imports call, config, store, tokens and usage."""
