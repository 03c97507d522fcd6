"""Benchmarks: CPU, memory and latency of the gateway, of nginx and of other gateways, in the same run, on loopback."""
