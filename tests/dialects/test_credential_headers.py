"""Headers in which callers bring a credential: their form, and the credential, which is never printed."""

from __future__ import annotations

import pytest

from gateway.config.secret import Secret
from gateway.dialects.credential_headers import CREDENTIAL_PREFIX, MAX_CREDENTIAL_CHARS, is_credential_header, read_credentials
from gateway.dialects.gateway_headers import read_gateway_headers
from gateway.errors import BadRequest

OPENAI = f"{CREDENTIAL_PREFIX}openai".encode()


def test_credentials_are_read_by_provider_and_never_printed() -> None:
    found = read_credentials([(b"accept", b"*/*"), (OPENAI, b" sk-1 "), (f"{CREDENTIAL_PREFIX}gpu-box".encode(), b"k2")])
    assert found == {"openai": Secret("sk-1"), "gpu-box": Secret("k2")}
    assert "sk-1" not in repr(found)
    settings = read_gateway_headers([(OPENAI, b"sk-1")])
    assert settings.credentials == {"openai": Secret("sk-1")}
    assert "sk-1" not in repr(settings)


@pytest.mark.parametrize("value", [b"", b" ", b"a b", b"a\tb", b"\xff", b"x" * (MAX_CREDENTIAL_CHARS + 1)])
def test_an_unusable_credential_is_refused_without_showing_it(value: bytes) -> None:
    with pytest.raises(BadRequest) as error:
        read_credentials([(OPENAI, value)])
    assert error.value.param == OPENAI.decode()
    assert "xxx" not in error.value.message


def test_a_repeated_credential_is_refused() -> None:
    with pytest.raises(BadRequest, match="repeated"):
        read_credentials([(OPENAI, b"a"), (OPENAI, b"a")])


def test_only_the_prefix_marks_a_credential() -> None:
    assert is_credential_header(OPENAI)
    assert not is_credential_header(b"x-gateway-credentials")
