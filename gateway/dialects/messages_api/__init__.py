"""Anthropic's Messages API for callers: requests to chat completions, and answers, streams and errors back.

Source: anthropic 2.14.0 (types), platform.claude.com/docs/en/api (errors, rate limits, streaming), as of 2026-11.
"""
