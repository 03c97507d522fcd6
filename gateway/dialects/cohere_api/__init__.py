"""Cohere's APIs for callers: chat (v2) as chat completions, and embed (v1 and v2) as embeddings requests.

Answers, streams and errors are translated back to Cohere's formats.

Sources: cohere 7.3.1 (ClientV2, Client), docs.cohere.com on streaming.
"""
