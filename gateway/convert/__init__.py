"""Conversion of other programs' configurations. Imports only `gateway.config`."""
