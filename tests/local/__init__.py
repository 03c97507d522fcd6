"""The embedded engine: its pure parts, and the real model in a real child process."""
