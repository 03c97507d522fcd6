"""The embedded engine: a local model in a child process.

Gateway and tests import `supervisor`, `worker_engine` (a worker's view), `adapter` (the provider), `options` and
`weights` (the model file). The other modules are internal.
"""
