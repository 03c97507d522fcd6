"""LangChain's standard integration tests, unmodified, over each API. Run with pytest; API_MODEL names the model.

Files that the tests fetch from the internet come from this module.
"""

import base64
import os
import struct
from typing import Any

import httpx
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

ORIGIN, KEY = os.environ["ORIGIN"], os.environ["KEY"]
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
WAVE_FORMAT = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + WAVE_FORMAT + b"data\x00\x00\x00\x00"
FILES = {"png": PNG, "pdf": PDF, "wav": WAV}
THOUGHT_TOKENS, CACHED_TOKENS, WRITTEN_TOKENS = 4, 4, 2  # reported by the upstream
DETAILS = ["reasoning_output", "cache_read_input"]


@pytest.fixture(autouse=True)
def _without_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "get", lambda url, **_: httpx.Response(200, content=FILES[url.rsplit(".", 1)[-1]]))


class Standard(ChatModelIntegrationTests):
    """The settings and tests that are common to all APIs of the gateway."""

    __test__ = False
    more: dict[str, Any] = {}  # noqa: RUF012 (parameters of a subclass)

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        common = {"model": "capable", "base_url": f"{ORIGIN}/v1", "api_key": KEY, "max_retries": 0}
        return {**common, "stream_usage": True, **self.more}

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_pdf_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "other"

    @property
    def supported_usage_metadata_details(self) -> Any:
        return {"invoke": DETAILS, "stream": DETAILS}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        message = self._asked(stream, self._thinking())
        assert message.usage_metadata["output_token_details"]["reasoning"] == THOUGHT_TOKENS
        return message

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        message = self._asked(stream, {})
        assert message.usage_metadata["input_token_details"]["cache_read"] == CACHED_TOKENS
        return message

    def _thinking(self) -> dict[str, Any]:
        return {"reasoning_effort": "low"}

    def _asked(self, stream: bool, more: dict[str, Any]) -> AIMessage:
        model = self.chat_model_class(**{**self.chat_model_params, **more})
        if not stream:
            return model.invoke("Hello")
        pieces = list(model.stream("Hello"))
        full = pieces[0]
        for piece in pieces[1:]:
            full = full + piece
        return full


class TestChatCompletions(Standard):
    """ChatOpenAI over /v1/chat/completions."""

    __test__ = True

    @property
    def supports_audio_inputs(self) -> bool:
        return True


class TestResponses(Standard):
    """ChatOpenAI over /v1/responses."""

    __test__ = True
    more = {"use_responses_api": True}  # noqa: RUF012


class TestMessages(Standard):
    """ChatAnthropic over /v1/messages."""

    __test__ = True

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "capable", "base_url": ORIGIN, "api_key": KEY, "max_retries": 0, "max_tokens": 4096}

    @property
    def supported_usage_metadata_details(self) -> Any:
        details = [*DETAILS, "cache_creation_input"]
        return {"invoke": details, "stream": details}

    def invoke_with_cache_creation_input(self, *, stream: bool = False) -> AIMessage:
        message = self._asked(stream, {})
        details = {"cache_read": CACHED_TOKENS, "cache_creation": WRITTEN_TOKENS}
        assert message.usage_metadata["input_token_details"] == details
        return message

    def _thinking(self) -> dict[str, Any]:
        return {"thinking": {"type": "enabled", "budget_tokens": 1024}}


class TestEmbeddings(EmbeddingsIntegrationTests):
    """OpenAIEmbeddings over /v1/embeddings."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        # the package's tokenizer comes from the internet, so texts are sent as texts
        return {"model": "capable", "base_url": f"{ORIGIN}/v1", "api_key": KEY, "check_embedding_ctx_length": False}
