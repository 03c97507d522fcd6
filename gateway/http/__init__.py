"""The callers' side of the wire: listeners, connections, request bodies. Imports config, errors and the tools below; knows no call."""
