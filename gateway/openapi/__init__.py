"""The OpenAPI document of both listeners, generated from the tables that serve and check requests."""
