"""What must hold between parts of a configuration that are each right by themselves."""

from __future__ import annotations

from pathlib import Path

from gateway.config_problem import Problems, join, suggest
from gateway.config_secret import refuse_exposed
from gateway.config_types import Config, wildcard


def check_listeners(config: Config, problems: Problems) -> None:
    """No open door: callers off this machine need keys, and so does the admin listener."""
    if config.auth == "keys" and not config.keys and not config.listen.loopback:
        problems.at(
            "listen",
            f"{config.listen} can be reached from outside, and there are no keys: add one under keys, listen on 127.0.0.1, "
            "or let anybody in with auth: none",
        )
    if config.auth == "none" and config.keys:
        problems.at("auth", "with auth: none nobody's key is checked: remove it, or remove the keys")
    if config.admin.key_hash is None and not config.admin.listen.loopback:
        problems.at("admin", f"{config.admin.listen} can be reached from outside: set admin.key_hash, or listen on 127.0.0.1")
    if config.listen == config.admin.listen and config.listen.port:
        problems.at("admin", f"the admin listener needs an address of its own, {config.listen} is the callers'")


def check_keys(config: Config, problems: Problems) -> None:
    """Every key is one caller's, and names models that exist."""
    seen: dict[str, str] = {}
    for name, key in config.keys.items():
        first = seen.setdefault(key.hash, name)
        if first != name and key.hash:
            problems.at(f"{join('keys', name)}.hash", f"the same key as '{first}'")
        for index, model in enumerate(key.models or ()):
            if model not in config.models and wildcard(model, config.models) is None:
                path = f"{join('keys', name)}.models[{index}]"
                problems.at(path, f"no model {problems.written(path)} in this file{suggest(model, config.models, 'models')}")


def check_tls(config: Config, problems: Problems) -> None:
    """The certificate and the key load, and belong together."""
    if config.tls is None or None in (config.tls.cert, config.tls.key):
        return
    import ssl

    try:
        refuse_exposed(Path(config.tls.key), problems.written("tls.key"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config.tls.cert, config.tls.key, password=lambda: b"")
    except ssl.SSLError as error:
        problems.at("tls", f"cert and key cannot be used together: {error.reason or 'not PEM'}")
    except (OSError, ValueError) as error:
        problems.at("tls.key", str(error))
