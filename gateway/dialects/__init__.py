"""The APIs callers speak: bytes in, a Call out."""
