"""Parameter rules: the values that a provider accepts, and how the gateway adapts a request to the provider.

`rule` has the base class and runs the rules of a provider; the other modules define the rules and their helpers.
"""
