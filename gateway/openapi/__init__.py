"""The OpenAPI document of both listeners, generated from the tables by which requests are served and checked."""
