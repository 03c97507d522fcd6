"""Sending one call: which candidate is tried, what follows a failure, hedging, mirroring, continuing a stream. Joins the stages."""
