"""Tests of the gateway in front of distributed engines."""
