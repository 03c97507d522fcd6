"""What a call costs: CPU and memory of the gateway beside nginx, in the same run, on loopback."""
