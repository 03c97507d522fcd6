"""The other listener: health, readiness, metrics and what operators ask and change. Callers never see it."""
