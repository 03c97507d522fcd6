"""Native attempts: a provider with the caller's API gets the caller's request, and the response is passed on unchanged."""
