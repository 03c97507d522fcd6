"""Chat completions sent through OpenAI's Responses API, for models and calls that chat completions do not serve.

`request` converts the body, `answers` and `stream` convert the answer, and `provider` chooses the API.
Source: openai 3.57.0 (types/responses).
"""
