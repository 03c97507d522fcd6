"""What callers may send: paths, checks and response forms of each API. Imports providers and errors."""
