"""`lockgate top`: a live view of a running gateway in a terminal."""
