"""Tests of gateway/hooks."""
