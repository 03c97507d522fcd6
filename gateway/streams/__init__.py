"""Server-sent events in and out: parsing, relaying, rewriting chunks. No I/O; imports only providers and errors."""
