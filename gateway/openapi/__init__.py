"""The OpenAPI document of both listeners, generated from the tables with which the gateway serves and checks requests."""
