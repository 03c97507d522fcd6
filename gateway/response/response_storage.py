"""Stores responses of the Responses API for callers that request it, and loads the previous one that a request names.

A call that neither stores nor names a response never waits for the store.
"""

from __future__ import annotations

import re
from functools import partial

from gateway.call import Call
from gateway.config.responses import ResponsesConfig
from gateway.dialects.responses_api import stored
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.dialects.responses_api.stored import StoredResponse, StoreWishes
from gateway.dialects.responses_api.values import Raw
from gateway.errors import NotFound, Unavailable, refuse
from gateway.http.caller import Caller
from gateway.keys.virtual_key import VirtualKey
from gateway.response.translated_caller import TranslatedCaller
from gateway.store.errors import StoreUnavailableError
from gateway.store.responses import Bounds, ResponseStore

RECORDS_AT_LEAST = 8
"""Minimum number of records for which there is room; the maximum size of a record follows from it."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
"""The form of ids: the gateway's own, and those of providers that have the Responses API."""


class ResponseStorage:
    """The stored responses of one configuration."""

    def __init__(self, store: ResponseStore, config: ResponsesConfig, max_body: int) -> None:
        """`max_body` also limits a request together with the conversation that it continues."""
        self._store = store
        self._bounds = Bounds(config.ttl, config.max_bytes)
        self._max_record = config.max_bytes // RECORDS_AT_LEAST
        self._max_body = max_body

    async def begin(self, call: Call, caller: Caller, source: bytes) -> None:
        """Load the previous response that a body names. Prepare to store the answer if the body requests that."""
        wishes = await self.load_previous(call, source)
        if wishes is None or not wishes.stores or not isinstance(caller, TranslatedCaller):
            return
        if len(source) > self._max_record:
            may = f"a response with its conversation may have at most {self._max_record} bytes"
            why = may if self._max_record else "the gateway stores no responses"
            raise refuse("store", f"'store: true' is not possible: {why}.", "unsupported_parameter")
        if wishes.previous is None:
            try:
                await self._store.check()
            except StoreUnavailableError as error:
                raise _unavailable("Try again, or send 'store: false'") from error
        caller.keep = partial(self._keep, call, wishes.previous)

    @staticmethod
    def wishes_of(call: Call, source: bytes) -> StoreWishes | None:
        """Return the body's parameters for the store, or None if the call does not use the store."""
        return stored.read_wishes(source) if type(call.translator) is ResponsesTranslator else None

    async def load_previous(self, call: Call, source: bytes) -> StoreWishes | None:
        """Load the previous response that a body names. Return the body's parameters for the store, or None if the call uses no store."""
        translator, wishes = call.translator, self.wishes_of(call, source)
        if wishes is None or type(translator) is not ResponsesTranslator:
            return None
        if wishes.previous is not None:
            try:
                found = await self._load(call.key, wishes.previous)
            except StoreUnavailableError as error:
                advice = "Try again, or send the earlier items in 'input' instead of 'previous_response_id'"
                raise _unavailable(advice) from error
            if found is None:
                raise stored.not_found(wishes.previous)
            translator.earlier = found.conversation()
            if sum(map(len, translator.earlier)) + len(source) > self._max_body:
                message = f"The conversation of '{wishes.previous}' and this request exceed {self._max_body} bytes."
                raise refuse("previous_response_id", message)
        return wishes

    async def read(self, key: VirtualKey | None, id: str) -> StoredResponse:
        """Return a stored response. Raise NotFound if this key has stored no response with this id."""
        try:
            found = await self._load(key, id)
        except StoreUnavailableError as error:
            raise _unavailable("Try again") from error
        if found is None:
            raise _unknown(id)
        return found

    async def delete(self, key: VirtualKey | None, id: str) -> None:
        """Delete a stored response. Raise NotFound if this key has stored no response with this id."""
        try:
            is_deleted = _ID.fullmatch(id) is not None and await self._store.delete(_owner(key), id)
        except StoreUnavailableError as error:
            raise _unavailable("The response may still be stored: try again") from error
        if not is_deleted:
            raise _unknown(id)

    async def _load(self, key: VirtualKey | None, id: str) -> StoredResponse | None:
        record = await self._store.load(_owner(key), id) if _ID.fullmatch(id) is not None else None
        return stored.read_record(record) if record is not None else None

    async def _keep(self, call: Call, previous: str | None, answer: bytes) -> bytes:
        """Store a complete answer, or the response in the last events of a stream.

        Return the bytes to send, with `store: false` if the response was not stored.
        """
        translator = call.translator
        assert isinstance(translator, ResponsesTranslator)
        is_events = not answer.lstrip().startswith(b"{")
        given = stored.final_response(answer) if is_events else Raw(answer)
        if given is None:
            return answer
        response = stored.mark(given, store=True, previous=previous)
        record = stored.write_record(response, translator.items())
        if not await self._save(call, stored.id_of(response), record):
            response = stored.mark(given, store=False, previous=previous)
        if not is_events:
            return bytes(response)
        head, _, tail = answer.rpartition(bytes(given))
        return head + bytes(response) + tail

    async def _save(self, call: Call, id: str, record: bytes) -> bool:
        """Store a record. Return False if the record is too large, if its id is malformed, or if the store fails."""
        if len(record) > self._max_record or not _ID.fullmatch(id):
            return False
        try:
            await self._store.save(_owner(call.key), id, record, self._bounds)
        except StoreUnavailableError:  # the store has reported the failure
            return False
        return True


def _owner(key: VirtualKey | None) -> str:
    """Return the owner of the responses that a key stores. Callers without keys share one owner."""
    return key.name if key is not None else ""


def _unknown(id: str) -> NotFound:
    return NotFound(f"Response with id '{id[:80]}' not found.", param="response_id", code="response_not_found")


def _unavailable(advice: str) -> Unavailable:
    # the log has the cause, which may contain addresses
    return Unavailable(f"The store of responses is unavailable. {advice}.", code="store_unavailable")
