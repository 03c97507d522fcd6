"""Cohere's v2 chat API behind OpenAI's chat API."""

from providers.cohere.provider import COHERE

__all__ = ["COHERE"]
