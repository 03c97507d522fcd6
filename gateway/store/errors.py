"""The error of a store that cannot be used."""


class StoreUnavailableError(Exception):
    """A store (Redis, or a file) cannot be read or written now. The text names the cause."""
