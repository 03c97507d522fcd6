"""Anthropic's Messages API behind OpenAI's chat API."""

from providers.anthropic.provider import ANTHROPIC

__all__ = ["ANTHROPIC"]
