"""A connection without WebSockets, such as one of the admin listener, rejects handshakes itself."""

from __future__ import annotations

from gateway.http.upgrade import UpgradableConnection
from tests.faults.conftest import Serve
from tests.faults.upstream_server import FaultUpstream
from tests.support.websocket_peer import connected, handshake


async def test_the_admin_listener_rejects_handshakes(serve: Serve, up: FaultUpstream) -> None:
    assert UpgradableConnection.__init__.__kwdefaults__ == {"serves_websockets": False}
    gate = await serve((up, "mock"), top={"passthrough": {"/v1/realtime": {"provider": "p0", "websocket": True}}})
    async with connected(int(gate.admin_url.rsplit(":", 1)[1]), handshake("/v1/realtime")) as client:
        assert client.status == 426
        assert b"upgrade_not_supported" in await client.body()
        assert await client.ended() == b""
    assert up.requests == []
