"""The callers' endpoints for stored responses: read, list the input items, delete, cancel. Compaction is rejected."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.responses_api.stored import list_items
from gateway.errors import BadRequest, refuse
from gateway.keys.virtual_key import VirtualKey
from gateway.response.response_storage import ResponseStorage
from gateway.runtime.gateway import Gateway
from gateway.server.json_answers import json_answer


class StoredResponses:
    """The endpoints below `/v1/responses/{id}`. Each endpoint finds only responses that the caller's virtual key stored."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def _authenticate(self, request: Request) -> tuple[ResponseStorage, VirtualKey | None, str]:
        """Return the storage, the caller's key and the id of the response."""
        generation = self._gateway.generation
        key = await generation.keys.identify(request.scope["headers"], request.scope["query_string"])
        return generation.storage, key, request.path_params["id"]

    async def response(self, request: Request) -> Response:
        """GET or DELETE /v1/responses/{id}: return or delete a stored response."""
        storage, key, id = await self._authenticate(request)
        if request.method == "DELETE":
            await storage.delete(key, id)
            return json_answer(request, {"id": id, "object": "response", "deleted": True})
        if request.query_params.get("stream", "").lower() == "true":
            message = "'stream' is not supported: a stored response is complete. Request it without 'stream'."
            raise refuse("stream", message, "unsupported_parameter")
        return json_answer(request, (await storage.read(key, id)).response)

    async def input_items(self, request: Request) -> Response:
        """GET /v1/responses/{id}/input_items: list the input items of a stored response and of earlier turns."""
        storage, key, id = await self._authenticate(request)
        found = await storage.read(key, id)
        return json_answer(request, list_items(found.items, request.query_params))

    async def cancel(self, request: Request) -> Response:
        """POST /v1/responses/{id}/cancel: reject the request, because no response is created in the background."""
        storage, key, id = await self._authenticate(request)
        await storage.read(key, id)
        raise BadRequest("Only a response that was created with 'background: true' can be cancelled.", param="background")

    async def compact(self, request: Request) -> Response:
        """POST /v1/responses/compact: reject the request. Only the vendor that compacts a conversation can read the result."""
        await self._gateway.generation.keys.identify(request.scope["headers"], request.scope["query_string"])
        message = (
            "Compaction is not supported: only the vendor can read a compacted conversation, and the call may go to another one. "
            "Send a shorter conversation, or set 'truncation: auto' to leave out old messages."
        )
        raise BadRequest(message, code="unsupported_operation")
