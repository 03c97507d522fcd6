"""One upstream exchange and the caller's response to it. Imports no other stage."""
