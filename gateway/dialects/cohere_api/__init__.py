"""Cohere's chat API (v2): its requests as chat completions, and chat answers, streams and errors in its form.

Source: cohere 7.3.1 (ClientV2), docs.cohere.com on streaming.
"""
