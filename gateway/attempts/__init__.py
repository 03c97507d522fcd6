"""Sends one call: choice of candidates, retries, fallbacks, hedging, mirroring, continuing a stream."""
