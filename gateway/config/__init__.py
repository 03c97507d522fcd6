"""The YAML an operator edits: read, checked, compared and shown. `load` has the way in."""
