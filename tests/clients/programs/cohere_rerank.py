"""cohere: rankings of its v1 and v2, and an error of each. Prints one JSON object."""

import json
import os

import cohere
from cohere.errors import BadRequestError, NotFoundError

MODEL, ORIGIN, KEY = os.environ["MODEL"], os.environ["ORIGIN"], os.environ["API_KEY"]
TEXTS = ["paris", "berlin", "capital of france"]

first, second = cohere.Client(base_url=ORIGIN, api_key=KEY), cohere.ClientV2(base_url=ORIGIN, api_key=KEY)
documents = [{"text": text, "id": str(at)} for at, text in enumerate(TEXTS)]
one = first.rerank(model=MODEL, query="capital", documents=documents, top_n=2, return_documents=True)
two = second.rerank(model=MODEL, query="capital", documents=TEXTS, max_tokens_per_doc=100)
try:
    second.rerank(model="no-such-model", query="capital", documents=TEXTS)
except NotFoundError as error:
    unknown = error.body["message"]
try:
    first.rerank(model=MODEL, query="", documents=TEXTS)
except BadRequestError as error:
    invalid = error.body["error"]["param"]
print(
    json.dumps(
        {
            "one": [[each.index, each.document.text] for each in one.results], "two": [each.index for each in two.results],
            "classes": [type(one).__name__, type(two).__name__], "scores": [each.relevance_score for each in two.results],
            "units": [one.meta.billed_units.search_units, two.meta.billed_units.search_units], "version": two.meta.api_version.version,
            "unknown": unknown, "invalid": invalid,
        }
    )
)  # fmt: skip
