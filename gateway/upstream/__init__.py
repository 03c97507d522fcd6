"""Connections to upstreams: the interface `transport`, a lean HTTP/1.1 client, and httpx for HTTP/2 and proxies."""
