"""Token counts and room in the context window. Imports the catalog and providers; knows no call."""
