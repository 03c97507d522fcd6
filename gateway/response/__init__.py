"""One upstream exchange and the response to the caller."""
