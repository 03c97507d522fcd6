"""The demo of `lockgate serve --demo`: two scripted providers that fail on demand, a configuration with them, and calls to it."""
