"""Parameter rules: what a provider accepts, and how the gateway adapts a request to it.

`rule` has the base class and runs the rules of a provider; the other modules define rules.
"""
