"""Tests of the fast lane."""
