"""Server-sent events: parsing, relaying, rewriting chunks. This package does no I/O."""
