"""The demo of `lockgate serve --demo`: two scripted providers that fail on demand, their configuration, and calls to the gateway."""
