"""The callers' side of the wire: listeners, connections, requests and responses. Imports only `config` and `errors`."""
