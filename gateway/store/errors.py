"""The error of a store that cannot be used."""


class StoreUnavailableError(Exception):
    """A store (Redis or a file) cannot be read or written. The message states the cause."""
