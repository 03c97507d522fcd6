"""Converts the configuration of LiteLLM's proxy: models, routing, limits and the master key.

Settings that cannot be carried over are listed with their places. Virtual keys, teams and their budgets are not converted, because they
are in LiteLLM's database, not in its file.

Source: docs.litellm.ai (proxy configuration, all settings), as of 2026-10.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from gateway.config import yamlfile
from gateway.config.problem import Problem, Problems, join
from gateway.config.yamlfile import Mapping, Node, Place, Scalar, Sequence
from gateway.convert.litellm_provider import ADDRESSES, KEYLESS, TYPES, base_url, split_model
from gateway.convert.writing import section

BALANCES = {
    "simple-shuffle": None, "least-busy": "least_busy", "latency-based-routing": "latency", "cost-based-routing": "cost",
}  # fmt: skip
_SILENT = frozenset({
    "drop_params", "set_verbose", "json_logs", "modify_params", "enable_pre_call_checks", "debug_level", "mode", "id", "base_model",
    "description", "health_check_model", "use_in_pass_through",
})  # fmt: skip
"""Settings that are left out without a note: those whose effect the gateway always has, those for debugging, and descriptions."""
_DESCRIPTIVE = frozenset({"max_tokens", "max_input_tokens", "max_output_tokens"})
"""Fields that are left out without a note in `model_info`, where they describe a model. In `litellm_params`, they are parameters."""
PRICES = {
    "input_cost_per_token": "prompt", "output_cost_per_token": "output", "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "cache_write", "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning", "input_cost_per_audio_token": "audio_prompt",
    "output_cost_per_audio_token": "audio_output",
}  # fmt: skip
"""Kinds of prices by LiteLLM's names for the prices of single tokens."""
_WITHOUT_OUTPUT = frozenset({"embedding", "rerank"})
_DEPLOYMENT = frozenset({
    "model", "api_key", "api_base", "base_url", "api_version", "organization", "rpm", "tpm", "weight", "timeout", *PRICES,
})  # fmt: skip
_PARAMETERS = frozenset({
    "temperature", "top_p", "seed", "stop", "n", "frequency_penalty", "presence_penalty", "user", "max_tokens", "max_completion_tokens",
    "max_output_tokens", "reasoning_effort", "response_format", "logprobs", "top_logprobs", "tools", "tool_choice", "service_tier",
})  # fmt: skip
_NO_DEFAULTS = "a model has no parameters of its own here: send them with each request"
MAX_ATTEMPTS = 10


class Conversion:
    """One converted configuration. `notes` lists the settings that were not carried over and those that need attention."""

    def __init__(self, data: bytes, file: str) -> None:
        """Convert a file. Raise YamlError if the file is not YAML."""
        self._notes = Problems(file)
        self._providers: dict[str, dict[str, Any]] = {}
        self._identities: dict[str, dict[str, Any]] = {}
        self._models: dict[str, Any] = {}
        self._fallback_settings: dict[str, dict[str, Any]] = {}
        self._splits: dict[str, dict[str, float]] = {}
        self._settings: dict[str, Any] = {}
        self._top: dict[str, Any] = {}
        self._keys: dict[str, Any] = {}
        self._root = _entries(yamlfile.parse(data))
        self._read_models()
        self._read_settings()
        self._finish_models()
        for name, (place, _) in self._root.items():
            if name not in ("model_list", "litellm_settings", "router_settings", "general_settings", "environment_variables"):
                self._note(place, name, "not carried over")
        if "environment_variables" in self._root:
            place, _ = self._root["environment_variables"]
            self._note(place, "environment_variables", "set these variables in the environment of the gateway")

    @property
    def notes(self) -> list[Problem]:
        """The notes in the order of the file."""
        return self._notes.in_order

    def text(self) -> str:
        """Return the configuration of the gateway."""
        top = "".join(f"{name}: {value}\n" for name, value in self._top.items())
        parts = [
            "# Converted from LiteLLM's configuration by lockgate convert.\n",
            top,
            section("providers", "providers, with their credentials", self._providers),
            section("models", "the names that callers use", self._models),
            section("keys", "keys of callers", self._keys),
        ]
        return "\n".join(part for part in parts if part)

    def _number(self, entry: tuple[Place, Node] | None, path: str, default: float) -> float:
        """Return a number from 0 to 10**9, or the default, with a note if the file has anything else."""
        if entry is None:
            return default
        try:
            number = float(_scalar(entry[1]))
        except ValueError:
            number = -1.0
        if not 0 <= number < 1e9:
            self._note(entry[0], path, f"not a number from 0 to 1,000,000,000: {default:g} is used")
            return default
        return number

    def _note(self, place: Place, path: str, message: str) -> None:
        self._notes.add(place, path, message)

    def _read_models(self) -> None:
        _, node = self._root.get("model_list", (None, None))
        for index, item in enumerate(node.items if isinstance(node, Sequence) else ()):
            path, entries = f"model_list[{index}]", _entries(item)
            name = _text(entries, "model_name")
            _, params = entries.get("litellm_params", (item.place, item))
            fields = _entries(params)
            if not name or not _text(fields, "model"):
                self._note(item.place, path, "no model_name or no litellm_params.model: left out")
            elif (target := self._target(fields, path)) is not None:
                if "*" in name[:-1] or ("*" in target and not name.endswith("*")):
                    self._note(item.place, path, f"'*' is possible only at the end of a name: '{name}' is left out")
                    continue
                self._splits.setdefault(name, {})[target] = self._number(fields.get("weight"), f"{path}.weight", 1)
                info = _entries(entries.get("model_info", (None, None))[1])
                described = {name: entry for name, entry in info.items() if name not in _DESCRIPTIVE}
                self._read_deployment(target, {**fields, **described}, path)

    def _target(self, fields: Entries, path: str) -> str | None:
        """Return PROVIDER/MODEL of a deployment, or None if no provider type fits."""
        place, model = fields["model"][0], _text(fields, "model")
        prefix, name = split_model(model)
        address = _text(fields, "api_base") or _text(fields, "base_url") or ADDRESSES.get(prefix, "")
        kind = TYPES.get(prefix, "openai-compatible" if prefix in ADDRESSES else "")
        if kind == "openai" and address and "api.openai.com" not in address:
            kind = prefix = "openai-compatible"  # so that the variable of OpenAI's key is not suggested for another server
        if not kind or not name:
            self._note(place, f"{path}.litellm_params.model", f"no provider type for '{model[:80]}': left out")
            return None
        entry: dict[str, Any] = {"type": kind}
        if address:
            entry["base_url"] = self._variable(address) or base_url(kind, address)
        elif kind in ("azure", "openai-compatible"):
            self._note(place, f"{path}.litellm_params", f"no api_base: set base_url of provider '{prefix}'")
            entry["base_url"] = "${" + _constant(prefix) + "_BASE_URL}"
        if (credential := self._credential(fields, prefix, kind, path)) is not None:
            entry["api_key"] = credential
        if organization := _text(fields, "organization"):
            entry["headers"] = {"OpenAI-Organization": self._variable(organization) or organization}
        return f"{self._provider(prefix.replace('_', '-'), entry)}/{name}"

    def _provider(self, name: str, entry: dict[str, Any]) -> str:
        """Return the name of the provider with this address and credential. Add the provider if it is new."""
        number, known = 1, name
        while self._identities.setdefault(known, entry) != entry:
            number += 1
            known = f"{name}-{number}"
        if known not in self._providers:
            self._providers[known] = {key: value for key, value in entry.items() if key != "type" or value != known}
        return known

    def _credential(self, fields: Entries, prefix: str, kind: str, path: str) -> str | None:
        written = _text(fields, "api_key")
        if not written:
            return None if kind in KEYLESS else "${" + _constant(prefix) + "_API_KEY}"
        if (variable := self._variable(written)) is not None:
            return variable
        variable = "${" + _constant(prefix) + "_API_KEY}"
        self._note(fields["api_key"][0], f"{path}.litellm_params.api_key", f"a key does not belong in the file: set {variable[2:-1]}")
        return variable

    def _variable(self, written: str) -> str | None:
        """Return the variable that `os.environ/NAME` names, or None."""
        name = written.removeprefix("os.environ/")
        return "${" + name + "}" if name != written else None

    def _read_deployment(self, target: str, fields: Entries, path: str) -> None:
        """Read limits, prices and the timeout of a deployment."""
        provider, _, model = target.partition("/")
        entry = self._providers[provider]
        limits = {}
        for name, kind in (("rpm", "requests"), ("tpm", "tokens")):
            if number := int(self._number(fields.get(name), f"{path}.{name}", 0)):
                limits[kind] = f"{number}/min"
        if limits and "*" not in model:
            entry.setdefault("models", {})[model] = {"limits": limits}
        if prices := self._prices(fields, path):
            entry.setdefault("prices", {})["*" if "*" in model else model] = prices
        if timeout := self._number(fields.get("timeout"), f"{path}.timeout", 0):
            entry["timeout"] = f"{timeout:g}s"
        for name, (place, _) in fields.items():
            if name not in _DEPLOYMENT | _SILENT and not name.startswith("supports_"):
                self._note(place, f"{path}.{name}", _NO_DEFAULTS if name in _PARAMETERS else "not carried over")

    def _prices(self, fields: Entries, path: str) -> dict[str, float]:
        """Return the prices of a deployment in USD per million tokens; none if the price of prompt or output is unknown."""
        given = {name: fields[name] for name in PRICES if _text(fields, name)}
        prices = {PRICES[name]: round(self._number(entry, f"{path}.{name}", 0) * 1e6, 9) for name, entry in given.items()}
        if "prompt" in prices and _text(fields, "mode") in _WITHOUT_OUTPUT:
            prices.setdefault("output", 0)
        if "prompt" in prices and "output" in prices:
            return prices
        for name, (place, _) in given.items():
            self._note(place, f"{path}.{name}", "not carried over: the prices of both prompt and output are needed")
        return {}

    def _read_settings(self) -> None:
        readers = {
            "num_retries": self._retries, "request_timeout": self._timeout, "timeout": self._timeout, "allowed_fails": self._cooldown,
            "cooldown_time": self._cooldown, "fallbacks": self._fallbacks, "context_window_fallbacks": self._fallbacks,
            "content_policy_fallbacks": self._fallbacks, "default_fallbacks": self._fallbacks, "model_group_alias": self._aliases,
            "routing_strategy": self._strategy, "redis_host": self._redis, "redis_url": self._redis, "master_key": self._master_key,
        }  # fmt: skip
        for part in ("litellm_settings", "router_settings", "general_settings"):
            _, node = self._root.get(part, (None, None))
            fields = _entries(node)
            for name, (place, value) in fields.items():
                path = join(part, name)
                if name in readers:
                    readers[name](name, value, path, fields)
                elif name not in _SILENT and name not in ("redis_port", "redis_password", "redis_db"):
                    self._note(place, path, "not carried over")

    def _retries(self, name: str, node: Node, path: str, fields: Entries) -> None:
        self._settings["attempts"] = min(int(self._number((node.place, node), path, 0)) + 1, MAX_ATTEMPTS)

    def _timeout(self, name: str, node: Node, path: str, fields: Entries) -> None:
        if seconds := self._number((node.place, node), path, 0):
            self._settings["timeout"] = f"{seconds:g}s"

    def _cooldown(self, name: str, node: Node, path: str, fields: Entries) -> None:
        seconds = self._number((node.place, node), path, 0)
        for entry in self._providers.values():
            cooldown = entry.setdefault("cooldown", {})
            if name == "allowed_fails":
                cooldown["failures"] = int(seconds) + 1
            elif seconds:
                cooldown |= {"time": f"{seconds:g}s", **({"max": f"{seconds:g}s"} if seconds > 300 else {})}

    def _fallbacks(self, name: str, node: Node, path: str, fields: Entries) -> None:
        """Append fallbacks to the routes of their models."""
        items = node.items if isinstance(node, Sequence) else ()
        pairs: list[tuple[str, Node]]
        if name == "default_fallbacks":
            pairs = [(model, Sequence(node.place, items)) for model in self._splits]
        else:
            pairs = [(model, value) for item in items for model, (_, value) in _entries(item).items()]
        for model, value in pairs:
            if model not in self._splits:
                self._note(node.place, path, f"no model '{model}' in model_list")
                continue
            others = value.items if isinstance(value, Sequence) else ()
            settings = self._fallback_settings.setdefault(model, {"targets": {}})
            settings["targets"] |= {_scalar(each): (each.place, path) for each in others if _scalar(each) != model}
            if name == "content_policy_fallbacks":
                settings["fallback_on"] = ["content_filter"]

    def _aliases(self, name: str, node: Node, path: str, fields: Entries) -> None:
        for alias, (place, value) in _entries(node).items():
            model = _scalar(value) or _text(_entries(value), "model")
            if alias in self._splits:
                self._note(place, join(path, alias), "a model of model_list has this name: left out")
            else:
                self._splits[alias] = {model: 1.0}

    def _strategy(self, name: str, node: Node, path: str, fields: Entries) -> None:
        strategy = _scalar(node)
        if strategy not in BALANCES:
            self._note(node.place, path, f"'{strategy}' has no equivalent: calls over a limit of a target go to the next one")
        elif BALANCES[strategy] is not None:
            self._settings["balance"] = BALANCES[strategy]

    def _redis(self, name: str, node: Node, path: str, fields: Entries) -> None:
        if name == "redis_url":
            self._top["store"] = f'"{self._variable(_scalar(node)) or _scalar(node)}"'
            return
        host = self._variable(_scalar(node)) or _scalar(node)
        port = _text(fields, "redis_port") or "6379"
        self._top["store"] = f'"redis://{host}:{self._variable(port) or port}/0"'
        if password := _text(fields, "redis_password"):
            self._top["store_password"] = f'"{self._variable(password) or "${REDIS_PASSWORD}"}"'

    def _master_key(self, name: str, node: Node, path: str, fields: Entries) -> None:
        """Accept the master key as a virtual key. The admin listener has a key of its own."""
        written = _scalar(node)
        if (variable := self._variable(written)) is not None:
            hashed = variable[:-1] + "_HASH}"
            self._note(node.place, path, f"set {hashed[2:-1]} to 'sha256:' and the hash of the key (printf %s KEY | sha256sum)")
        else:
            hashed = "sha256:" + hashlib.sha256(written.encode()).hexdigest()
        self._keys["master"] = {"hash": hashed}

    def _finish_models(self) -> None:
        """Build the routes: a split of the deployments, then the fallbacks."""
        for name, split in self._splits.items():
            settings = self._fallback_settings.get(name, {})
            others = []
            for other, (place, path) in settings.get("targets", {}).items():
                if (found := self._find_fallback(other)) is not None:
                    others.append(found)
                else:
                    self._note(place, path, f"no model '{other}' in model_list")
            first: Any = next(iter(split)) if len(split) == 1 else {target: _weight(weight) for target, weight in split.items()}
            route = [first, *others] if others else first
            extra = {key: value for key, value in self._settings.items() if key != "balance" or len(split) > 1}
            if "fallback_on" in settings:
                extra["fallback_on"] = settings["fallback_on"]
            self._models[name] = {"targets": route, **extra} if extra else route


    def _find_fallback(self, name: str) -> str | None:
        """Return the model of this name, else the target of the longest matching pattern if the pattern has one deployment, else None."""
        if name in self._splits:
            return name
        patterns = [pattern for pattern in self._splits if pattern.endswith("*") and name.startswith(pattern[:-1])]
        pattern = max(patterns, key=len, default="")
        if not pattern or len(self._splits[pattern]) > 1:
            return None
        return next(iter(self._splits[pattern])).replace("*", name[len(pattern) - 1 :])


Entries = dict[str, tuple[Place, Node]]


def _entries(node: Node | None) -> Entries:
    """Return the entries of a mapping with their places; no entries for anything else."""
    return {key: (entry.place, entry.value) for key, entry in node.entries.items()} if isinstance(node, Mapping) else {}


def _scalar(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) and not node.null else ""


def _text(entries: Entries, name: str) -> str:
    return _scalar(entries[name][1]) if name in entries else ""


def _constant(name: str) -> str:
    return re.sub(r"\W", "_", name).upper()


def _weight(weight: float) -> float:
    return int(weight) if weight == int(weight) else weight
