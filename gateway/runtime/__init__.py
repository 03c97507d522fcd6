"""The state of a process, and the objects made from one configuration (a generation). A reload replaces the generation."""
