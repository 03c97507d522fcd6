"""OpenAI's Responses API, translated to chat completions and back. Source: openai 3.3.0 (types/responses).

`dialect` is the API as the table of dialects lists it; `request`, `answer` and `stream` translate one call.
"""
