"""TLS settings for clients that call only http:// addresses."""

from __future__ import annotations

import ssl

WITHOUT_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A context that trusts no authority. A client without it loads all public authorities when it is created, which takes 40 ms."""
