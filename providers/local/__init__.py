"""The embedded engine: its weights, the child process that runs the model, the supervisor of that child, and its wire."""
