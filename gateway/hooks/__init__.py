"""Hooks: objects that check or change the texts of calls, or refuse calls. See docs/hooks.md."""
