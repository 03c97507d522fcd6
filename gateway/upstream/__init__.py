"""The way to upstreams: one transport seam, a lean HTTP/1.1 client behind it, and httpx for what that does not do."""
