"""Checks requests of the admin listener: the admin key or a session of the page; without an admin key, the origin of the request.

The page sends the admin key to begin a session, whose random token is in a cookie that scripts cannot read.
SameSite=Strict keeps a browser from sending the cookie with requests of other sites, but not with those of pages on
another port of the same host. Requests that change something therefore also need the session's CSRF token in a header.
Sessions are kept in memory. They end after 12 hours, with the process, or when the admin key changes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.admin.entries import read_fields
from gateway.errors import BadRequest, Forbidden, Unauthorized
from gateway.http.page_guard import PageRules
from gateway.keys.authenticate import bearer_token
from gateway.runtime.gateway import Gateway

COOKIE = "lockgate_admin"
CSRF_HEADER = "x-csrf-token"
LIFETIME_S = 12 * 3600.0
MAX_SESSIONS = 100
"""When more sessions are open, the oldest one ends."""
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Session(msgspec.Struct, frozen=True):
    """One session of the page.

    `key_hash` is the hash of the admin key with which the session began; `ends` is a time on the monotonic clock.
    """

    key_hash: str
    csrf: str
    ends: float


class Access:
    """Checks requests of the admin listener of one gateway, and keeps the sessions of its page."""

    def __init__(self, gateway: Gateway, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway = gateway
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        """Sessions by the SHA-256 of their token."""

    def check(self, request: Request) -> None:
        """Raise Unauthorized if there is an admin key, and the request neither contains it nor belongs to an open session.

        In a session, raise Forbidden if a request that changes something does not contain the CSRF token. If there is no
        admin key, the listener is on loopback; in this case, raise Forbidden if the request may come from a web page of
        another site.
        """
        admin = self._gateway.config.admin
        if admin.key_hash is None:
            problem = PageRules(admin.hosts).check_headers(request.scope["headers"])
            if problem is not None:
                raise Forbidden(problem[2], code=problem[1])
            return
        token = bearer_token(request.scope["headers"])
        if token is not None:
            if not _is_admin_key(token, admin.key_hash):
                raise Unauthorized("The admin key is wrong. Send 'Authorization: Bearer KEY'.")
            return
        session = self._session_of(request)
        if session is None:
            raise Unauthorized("The admin key is required. Send 'Authorization: Bearer KEY'.")
        if request.method not in _SAFE_METHODS:
            sent = request.headers.get(CSRF_HEADER, "").encode()
            if not hmac.compare_digest(sent, session.csrf.encode()):
                message = f"The header {CSRF_HEADER} does not contain the token of this session. Reload the page."
                raise Forbidden(message, code="csrf_token_invalid")

    async def show(self, request: Request) -> Response:
        """GET /admin/session: report whether the admin key is required, and return the CSRF token of the open session, if any."""
        if self._gateway.config.admin.key_hash is None:
            self.check(request)
            return json_response({"required": False, "open": True, "csrf": ""})
        session = self._session_of(request)
        return json_response({"required": True, "open": session is not None, "csrf": session.csrf if session else ""})

    async def begin(self, request: Request) -> Response:
        """POST /admin/session: begin a session with the admin key. If no admin key is required, answer as `show` does."""
        fields = await read_fields(request, read_only=())
        key, key_hash = fields.get("key"), self._gateway.config.admin.key_hash
        if type(key) is not str or set(fields) != {"key"}:
            raise BadRequest("The request body must have a single field, 'key': the admin key as a string.", param="key")
        if key_hash is None:
            return await self.show(request)
        if not _is_admin_key(key.encode("utf-8", "surrogatepass"), key_hash):
            raise Unauthorized("The admin key is wrong.")
        token, csrf, now = secrets.token_urlsafe(32), secrets.token_urlsafe(32), self._clock()
        self._sessions = {name: each for name, each in self._sessions.items() if each.ends > now}
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_digest(token.encode())] = Session(key_hash, csrf, now + LIFETIME_S)
        answer = json_response({"required": True, "open": True, "csrf": csrf}, 201)
        _set_cookie(answer, request, token, int(LIFETIME_S))
        return answer

    async def end(self, request: Request) -> Response:
        """DELETE /admin/session: end the session."""
        self.check(request)
        self._sessions.pop(_digest(_cookie(request).encode()), None)
        answer = json_response({"required": self._gateway.config.admin.key_hash is not None, "open": False, "csrf": ""})
        _set_cookie(answer, request, "", 0)
        return answer

    def _session_of(self, request: Request) -> Session | None:
        session = self._sessions.get(_digest(_cookie(request).encode("utf-8", "surrogatepass")))
        if session is None or session.ends <= self._clock() or session.key_hash != self._gateway.config.admin.key_hash:
            return None
        return session


def _is_admin_key(key: bytes, key_hash: str) -> bool:
    return hmac.compare_digest(_digest(key), key_hash.removeprefix("sha256:"))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def cookie_name(request: Request) -> str:
    """Return the name of the cookie for the port that the browser called.

    A browser sends the cookies of a host to all its ports, so with a single name, signing in to a second gateway on the same
    host would end the session at the first one.
    """
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isascii() and port.isdigit() else COOKIE


def _cookie(request: Request) -> str:
    """Return the token in the cookie of a request, or "" if there is none."""
    name = cookie_name(request)
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(request.headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""


def _set_cookie(answer: Response, request: Request, token: str, max_age: int) -> None:
    # a reverse proxy with TLS states the scheme in this header; a caller that forges it only makes its own cookie stricter
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))
    answer.set_cookie(cookie_name(request), token, max_age=max_age, path="/", secure=secure, httponly=True, samesite="strict")
