"""JSON-RPC messages of MCP: their methods and tools, errors, and the tools that a list of tools may show.

If a server has a list of allowed tools, a request is rebuilt from the parts that were checked. The gateway and the
server therefore cannot interpret it differently, for example because a key is repeated or written in another case.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.errors import GatewayError, Headers
from gateway.keys.virtual_key import matches_any

PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS = -32700, -32600, -32602
HEADER_MISMATCH = -32020
GATEWAY_ERROR = -32000
"""The code of errors that the protocol does not define: limits, failures of the server, and others."""
TOOLS_CALL, TOOLS_LIST = "tools/call", "tools/list"
METHOD_HEADER, NAME_HEADER = b"mcp-method", b"mcp-name"
MAX_EVENT_BYTES = 16 << 20
"""Maximum size of one event."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_END_BYTES = 4
"""Size of the longest blank line that ends an event."""
_ENCODED = re.compile(rb"=\?base64\?([A-Za-z0-9+/=]*)\?=\Z")
_MEMBERS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_batch = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class RpcError(GatewayError):
    """An error in the form of JSON-RPC. Its HTTP status is 200 only for a call of a tool that is not allowed."""

    def __init__(self, rpc_code: int, id: Any, message: str, *, status: int, code: str | None, headers: Headers = ()) -> None:
        super().__init__(message, status=status, code=code, type="invalid_request_error", headers=headers)
        self._rpc_code = rpc_code
        self._id = id

    def as_body(self) -> bytes:
        """Return the JSON-RPC error response."""
        error = {"code": self._rpc_code, "message": self.message, "data": {"code": self.code}}
        return _encode({"jsonrpc": "2.0", "id": self._id, "error": error})


class Message(NamedTuple):
    """One JSON-RPC message of a caller."""

    body: bytes
    method: str = ""
    id: Any = None
    tool: str = ""
    is_batch: bool = False


def as_rpc_error(error: GatewayError, id: Any) -> RpcError:
    """Return an error of the gateway in the form of JSON-RPC."""
    if isinstance(error, RpcError):
        return error
    return RpcError(GATEWAY_ERROR, id, error.message, status=error.status, code=error.code, headers=error.headers)


def read_message(source: bytes) -> Message:
    """Read a message. The messages of a batch are not read. Raise RpcError if the body is neither a message nor a batch."""
    if source.lstrip()[:1] == b"[":
        return Message(source, is_batch=True)
    try:
        members = _decode_object(source)
        id = _decode(members["id"]) if "id" in members else None
        method = _decode(members["method"]) if "method" in members else ""
        params = _decode_object(members["params"]) if method == TOOLS_CALL and "params" in members else {}
        tool = _decode(params["name"]) if "name" in params else ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _invalid(PARSE_ERROR, "The body must be a JSON-RPC message: one JSON object.") from None
    if type(method) is not str or type(tool) is not str:
        raise _invalid(INVALID_REQUEST, "The method of a message and the name of a tool must be strings.", id)
    if method == TOOLS_CALL:
        members["params"] = msgspec.Raw(_encode(params))
    return Message(_encode(members), method, id, tool)


def check_message(message: Message, tools: Sequence[str], server: str) -> None:
    """Raise RpcError for a batch, a call of a tool that is not allowed, and a message whose meaning is ambiguous."""
    if message.is_batch:
        raise _invalid(INVALID_REQUEST, f"'{server}' has a list of allowed tools and accepts no batches. Send one message per request.")
    members = _decode_object(message.body)
    _check_names(members, _MEMBERS, message.id)
    if not message.method and "method" in members:
        raise _invalid(INVALID_REQUEST, "The method of a message must not be empty.", message.id)
    if message.method != TOOLS_CALL:
        return
    _check_names(_decode_object(members["params"]), frozenset({"name", "arguments", "_meta", "task"}), message.id, only_case=True)
    if not matches_any(message.tool, tools):
        text = f"The tool '{message.tool[:80]}' is not allowed on '{server}'. tools/list returns the allowed tools."
        raise RpcError(INVALID_PARAMS, message.id, text, status=200, code="tool_not_allowed")


def check_headers(message: Message, headers: Headers) -> None:
    """Raise RpcError if the headers that repeat the method and the name of a tool differ from the message."""
    repeated = [(METHOD_HEADER, message.method), *([(NAME_HEADER, message.tool)] if message.method == TOOLS_CALL else [])]
    for name, expected in repeated:
        for found, value in headers:
            if found == name and _header_text(value) != expected:
                text = f"The header {name.decode()} differs from the message."
                raise _invalid(HEADER_MISMATCH, text, message.id)


def allowed_tools(message: bytes, tools: Sequence[str]) -> bytes:
    """Return a response, or a batch of responses, without the tools that are not allowed. Return any other message unchanged."""
    if b"tools" not in message:
        return message
    if message.lstrip()[:1] != b"[":
        return _response_with(message, tools)
    try:
        batch = _decode_batch(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return message
    kept = [_response_with(bytes(each), tools) for each in batch]
    return message if kept == [bytes(each) for each in batch] else _encode([msgspec.Raw(each) for each in kept])


def _response_with(message: bytes, tools: Sequence[str]) -> bytes:
    """Return a response with the allowed tools only, and any other message unchanged."""
    try:
        members = _decode_object(message)
        result = _decode_object(members["result"])
        listed = _decode(result["tools"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return message
    if type(listed) is not list:
        return message
    kept = [tool for tool in listed if type(tool) is dict and matches_any(str(tool.get("name")), tools)]
    if len(kept) == len(listed):
        return message
    result["tools"] = msgspec.Raw(_encode(kept))
    members["result"] = msgspec.Raw(_encode(result))
    return _encode(members)


class EventRelay:
    """Relays an event stream in whole events, so that a heartbeat may follow each piece.

    If there is a list of allowed tools, other tools are removed from the responses in the stream. `mark` converts the
    server's id of an event to the id that the caller gets. All other bytes stay as they are, except that a byte order mark is removed.
    """

    _END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n)|\r\r")  # the two line ends may differ

    _ID = re.compile(rb"(?:\A|(?<=[\r\n]))id:( ?)([^\r\n]*)")

    def __init__(self, tools: Sequence[str] | None, mark: Callable[[bytes], bytes] | None = None) -> None:
        self._tools = tools
        self._mark = mark
        self._pending = bytearray()
        self._is_at_start = True

    def feed(self, piece: bytes) -> bytes:
        """Return the events that are complete. Raise GatewayError if an event is too large."""
        searched_from = max(0, len(self._pending) - LONGEST_END_BYTES)
        self._pending += piece
        if self._is_at_start and len(self._pending) >= len(_BYTE_ORDER_MARK):
            self._is_at_start = False
            if self._pending.startswith(_BYTE_ORDER_MARK):
                del self._pending[: len(_BYTE_ORDER_MARK)]
        out, begin = [], 0
        for end in self._END.finditer(self._pending, searched_from):
            out.append(self._filtered(bytes(self._pending[begin : end.end()])))
            begin = end.end()
        if begin:
            del self._pending[:begin]
        if len(self._pending) > MAX_EVENT_BYTES:
            raise GatewayError("An event of the MCP server is too large.", status=502, code="upstream_event_too_large")
        return b"".join(out)

    def end(self) -> bytes:
        """Return nothing: clients ignore an event without its blank line."""
        return b""

    def _filtered(self, event: bytes) -> bytes:
        if self._mark is not None and b"id:" in event:
            event = self._ID.sub(self._with_mark, event)
        if self._tools is None or b"tools" not in event:
            return event
        lines = re.split(rb"\r\n|\n|\r", event)
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        changed = allowed_tools(data, self._tools)
        if changed == data:
            return event
        others = [line for line in lines if line and not line.startswith(b"data:")]
        return b"\n".join([*others, b"data: " + changed, b"", b""])

    def _with_mark(self, line: re.Match[bytes]) -> bytes:
        assert self._mark is not None
        return b"id:%b%b" % (line[1], self._mark(line[2])) if line[2] else line[0]  # no stream can be resumed with an empty id


def _check_names(members: dict[str, msgspec.Raw], known: frozenset[str], id: Any, *, only_case: bool = False) -> None:
    """Raise RpcError for a name that a server could take for one of the `known` names, or, unless `only_case`, for any other name."""
    for name in members:
        if name not in known and (not only_case or name.casefold() in known):
            raise _invalid(INVALID_REQUEST, f"The message has an unknown member '{name[:40]}'.", id)


def _header_text(value: bytes) -> str:
    encoded = _ENCODED.match(value)
    try:
        return (base64.b64decode(encoded[1], validate=True) if encoded is not None else value).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _invalid(rpc_code: int, message: str, id: Any = None) -> RpcError:
    return RpcError(rpc_code, id, message, status=400, code="invalid_message")
