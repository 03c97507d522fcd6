"""Token counts, estimates and truncation to a context window. Imports the catalog and providers; knows no call."""
