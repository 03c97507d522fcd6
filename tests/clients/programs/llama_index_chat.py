"""LlamaIndex, which uses version 2 of the openai package: an answer and a stream. Prints one JSON object."""

import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

llm = OpenAILike(
    model=os.environ["MODEL"], api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"],
    is_chat_model=True, context_window=2048, max_tokens=12, temperature=0, max_retries=0, timeout=120,
)  # fmt: skip
messages = [ChatMessage(role="user", content="What is the capital of France?")]
pieces = [piece.delta or "" for piece in llm.stream_chat(messages)]
print(json.dumps({"text": llm.chat(messages).message.content, "streamed": "".join(pieces), "pieces": sum(map(bool, pieces))}))
