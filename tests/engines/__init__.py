"""Distributed engines in front of which the gateway is proven."""
