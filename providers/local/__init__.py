"""The embedded engine: a local model in a child process.

    supervisor      starts the child process and watches it
    worker_engine   the engine as seen by a worker
    adapter         the provider
    options         the settings
    weights         the model file
"""
