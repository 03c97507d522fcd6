"""The other listener: health, readiness and metrics. Callers never see it."""
