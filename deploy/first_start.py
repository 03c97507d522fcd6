"""Create the secrets of the stack, once: a virtual key, an admin key, and the passwords of Redis and Grafana.

With --alerts, each start also writes the configuration of Alertmanager, with the webhook in the variable ALERT_WEBHOOK. With --config, each
start also writes the configuration of the gateway, with the providers whose credential is in a variable such as OPENAI_API_KEY.

There are no default secrets. Each secret is 256 random bits in its own file, readable only by the services' user, in the folder
of the one service that needs it. The virtual key is printed once, or not at all with --quiet; only its hash is stored.

    first_start.py --secrets FOLDER               create the secrets unless they exist
    first_start.py --secrets FOLDER --new-key     replace the virtual key
    first_start.py --secrets FOLDER --quiet       print no secret, for an output that is kept in a log

    FOLDER/gateway/       key.sha256, admin-key.sha256, store-password, gateway.yaml, one file per provider
    FOLDER/redis/         users.acl, health-password
    FOLDER/prometheus/    admin-key
    FOLDER/alertmanager/  alertmanager.yml
    FOLDER/grafana/       admin-password
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

# The rights of the gateway's Redis user, as listed in docs/stores.md: the commands of the gateway's scripts, on its
# keys.
GATEWAY_RIGHTS = (
    "~lockgate:* resetchannels -@all +evalsha +eval +script|load +ping +time +exists +set +get +del +pexpire +expire "
    "+hget +hset +hmget +hgetall +hincrby +hdel +hlen +hexists +hscan +zadd +zcard +zcount +zscore +zrangebyscore +zrem "
    "+zremrangebyscore +info +role +xadd +xdel +xrange +xrevrange"
)

PROVIDERS = (
    "anthropic", "cerebras", "cohere", "deepseek", "fireworks", "gemini", "groq", "mistral", "openai", "openrouter", "together", "xai",
)  # fmt: skip
"""The types of providers whose credential may be in a variable: OPENAI_API_KEY is that of openai."""


def main() -> None:
    """Write the configurations, and create the secrets unless they exist."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--secrets", type=Path, required=True, help="folder for the secrets, with one subfolder per service")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the gateway's URL, used in the printed example")
    parser.add_argument("--new-key", action="store_true", help="replace the virtual key; the next reload revokes the old one")
    parser.add_argument("--quiet", action="store_true", help="print no secret; --new-key prints a virtual key later")
    parser.add_argument("--config", type=Path, help="the configuration of the gateway, in which providers are commented out")
    parser.add_argument("--alerts", type=Path, help="the configuration of Alertmanager, without the webhook")
    parser.add_argument("keep", nargs="*", type=Path, help="data folders of the services, to which a marker file is added")
    given = parser.parse_args()
    os.umask(0o077)
    for folder in given.keep:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lockgate").touch()  # a container engine keeps the owner of a volume that is not empty
    if given.config is not None:
        write_config(given.secrets / "gateway", given.config.read_text(), os.environ)
    if given.alerts is not None:
        text = with_webhook(given.alerts.read_text(), os.environ.get("ALERT_WEBHOOK", ""))
        write(given.secrets / "alertmanager" / "alertmanager.yml", text)
    marker: Path = given.secrets / "gateway" / "key.sha256"
    if not marker.exists():
        make_all(given.secrets, quiet=given.quiet)
    elif not given.new_key:
        say("The keys of an earlier start are kept. To replace the virtual key: docker compose run --rm init --new-key")
        return
    key = "lg-" + secrets.token_urlsafe(32)
    write(marker, f"sha256:{sha256(key)}")  # written last: if it is missing, the next start creates everything again
    if given.quiet:
        say("All secrets are created. To get a virtual key: docker compose run --rm init --new-key")
        return
    say(f"""
Your virtual key, shown only once (the gateway keeps only its hash):

  {key}

  curl {given.url}/v1/chat/completions -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\
    -d '{{"model": "local", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'
""")


def with_webhook(text: str, url: str) -> str:
    """Return the configuration of Alertmanager with this webhook. Without a webhook, the receiver in the configuration sends nothing."""
    if not url:
        return text.partition("    webhook_configs:")[0]
    if not url.startswith(("http://", "https://")) or not url.isprintable():
        sys.exit("ALERT_WEBHOOK must be an http or https URL.")
    return text.replace("- url: ALERT_WEBHOOK", f"- url: {json.dumps(url)}")


def write_config(folder: Path, text: str, environ: Mapping[str, str]) -> None:
    """Write the configuration of the gateway and the credentials of its providers.

    The lines of a provider whose variable is set are used; all others stay comments, so that line numbers are those of the original.
    """
    credentials = {name: environ.get(f"{name.upper()}_API_KEY", "").strip() for name in PROVIDERS}
    for name, credential in credentials.items():
        if credential:
            write(folder / name, credential)
            text = re.sub(rf'^  # (?={name}: |"{name}/\*": )', "  ", text, flags=re.MULTILINE)
    write(folder / "gateway.yaml", text)
    for name, credential in credentials.items():  # last: a running gateway must not load a configuration whose files are missing
        if not credential:
            (folder / name).unlink(missing_ok=True)


def make_all(folder: Path, *, quiet: bool) -> None:
    """Create every secret except the virtual key."""
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
    if not quiet:
        say(f"Grafana's user is admin; its password is {grafana}")


def write(path: Path, text: str) -> None:
    """Write the file atomically, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
        file.write(text)
    draft.replace(path)


def sha256(text: str) -> str:
    """Return the hex digest of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def say(text: str) -> None:
    """Print the text and flush."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
