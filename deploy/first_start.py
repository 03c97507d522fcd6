"""What a stack needs before its first start, made once: a virtual key, an admin key, and the passwords of Redis and Grafana.

Nothing here has a default: every secret is 256 random bits, in a file of its own that only the services' user may read, in the
folder of the one service that needs it. The virtual key is printed and kept nowhere but in that output; only its hash stays.

    first_start.py --secrets FOLDER               make what is missing
    first_start.py --secrets FOLDER --new-key     another virtual key in place of the old one

    FOLDER/gateway/     key.sha256, admin-key.sha256, store-password
    FOLDER/redis/       users.acl, health-password
    FOLDER/prometheus/  admin-key
    FOLDER/grafana/     admin-password
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
from pathlib import Path

GATEWAY_RIGHTS = (
    "~lockgate:* resetchannels -@all +evalsha +eval +script|load +ping +time +exists +set +get +del +pexpire +expire "
    "+hget +hset +hmget +hgetall +hincrby +hdel +hlen +hexists +hscan +zadd +zcard +zcount +zscore +zrangebyscore +zrem "
    "+zremrangebyscore +info +role"
)
"""What the gateway's Redis user may do, the list of docs/stores.md: what its scripts need, on its own keys."""


def main() -> None:
    """Make what is missing and say so."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--secrets", type=Path, required=True, help="where the secrets are kept, a folder for each service")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="where callers find the gateway, to be shown")
    parser.add_argument("--new-key", action="store_true", help="make another virtual key; the old one ends when the gateway reloads")
    parser.add_argument("keep", nargs="*", type=Path, help="folders of the services' data: made theirs by a file in each")
    given = parser.parse_args()
    os.umask(0o077)
    for folder in given.keep:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lockgate").touch()  # an engine gives a volume that is not empty to nobody else
    marker: Path = given.secrets / "gateway" / "key.sha256"
    if not marker.exists():
        make_all(given.secrets)
    elif not given.new_key:
        say("The keys of an earlier start are kept. Another virtual key: docker compose run --rm init --new-key")
        return
    key = "lg-" + secrets.token_urlsafe(32)
    write(marker, f"sha256:{sha256(key)}")  # the last file: without it everything is made anew
    say(f"""
Your virtual key, shown this once (only its hash is kept):

  {key}

  curl {given.url}/v1/chat/completions -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\
    -d '{{"model": "local", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'
""")


def make_all(folder: Path) -> None:
    """Every secret but the virtual key."""
    admin, store, health, grafana = (secrets.token_urlsafe(32) for _ in range(4))
    write(folder / "gateway" / "admin-key.sha256", f"sha256:{sha256(admin)}")
    write(folder / "gateway" / "store-password", store)
    users = (
        "user default off",
        f"user gateway on #{sha256(store)} {GATEWAY_RIGHTS}",
        f"user health on #{sha256(health)} -@all +ping",
    )
    write(folder / "redis" / "users.acl", "\n".join(users) + "\n")
    write(folder / "redis" / "health-password", health)
    write(folder / "prometheus" / "admin-key", admin)
    write(folder / "grafana" / "admin-password", grafana)
    say(f"Grafana's user is admin, its password {grafana}")


def write(path: Path, text: str) -> None:
    """A file with `text`, there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
        file.write(text)
    draft.replace(path)


def sha256(text: str) -> str:
    """The hex digest that takes a secret's place."""
    return hashlib.sha256(text.encode()).hexdigest()


def say(text: str) -> None:
    """To the log, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
