"""Parameter rules: what a provider accepts, and how the gateway adapts a request to it.

`engine` runs the rules; `values`, `shapes`, `pairs` and `messages` define them. `common` holds the rules that most providers share.
"""
