"""HTTP between callers and the gateway: listeners, connections, requests and responses."""
