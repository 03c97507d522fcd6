"""Features the gateway supplies when a provider lacks them: stop strings, JSON mode, several choices, token probabilities."""
