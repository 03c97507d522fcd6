"""A model name becomes an ordered list of candidates. Imports targets, config and the call; no other stage."""
