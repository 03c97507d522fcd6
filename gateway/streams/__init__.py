"""Server-sent events: parsing, relaying, rewriting chunks. Does no I/O; imports only providers and errors."""
