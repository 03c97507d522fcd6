"""Connections to upstreams: the interface `transport`, a lean HTTP/1.1 client behind it, and httpx for what that does not support."""
