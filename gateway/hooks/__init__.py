"""Hooks: rules of a team that see, change or refuse the texts of calls. See docs/hooks.md."""
