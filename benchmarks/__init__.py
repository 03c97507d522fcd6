"""Benchmarks: CPU and memory of the gateway and of nginx, in the same run, on loopback."""
