"""Translates requests of Cohere's chat API (v2) to chat completions, and answers, streams and errors to its format.

Source: cohere 7.3.1 (ClientV2), docs.cohere.com on streaming.
"""
