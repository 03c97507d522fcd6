"""Checks of `issuers`, and the key sets in their files."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec.structs import replace

from gateway.config.extras import has_extra
from gateway.config.files import Files
from gateway.config.formats import read_https_url
from gateway.config.issuer import OTHERS, IssuerConfig
from gateway.config.key_set import read_key_set
from gateway.config.problem import Problems, join, suggest
from gateway.config.types import Config

MAX_LEEWAY_S = 300.0
MIN_REFRESH_S = 10.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def with_key_sets(config: Config, files: Files, problems: Problems) -> Config:
    """Return the configuration with the content of each `jwks_file`. Report unusable files, and leave out their content."""
    issuers = {}
    for name, issuer in config.issuers.items():
        issuers[name] = issuer
        if not isinstance(issuer, IssuerConfig) or not isinstance(issuer.jwks_file, str):
            continue
        try:
            text = files.text(Path(issuer.jwks_file))
            if has_extra("jwt"):  # without the extra, check_extras reports that it is missing
                read_key_set(text)
            issuers[name] = replace(issuer, key_set=text)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            problems.add_at_path(f"{join('issuers', name)}.jwks_file", f"{issuer.jwks_file} is unusable: {reason}")
    return replace(config, issuers=issuers) if issuers else config


def check_name(config: Config, name: str, problems: Problems) -> None:
    """Refuse a key whose name may also be that of an issuer's caller: the usage of the key and of that caller would be counted together."""
    issuer, slash, _ = name.partition("/")
    if slash and issuer in config.issuers:
        text = f"names that begin with '{issuer}/' belong to callers with a token of the issuer '{issuer}': choose another name"
        problems.add_at_path(join("keys", name), text)


def check_issuers(config: Config, problems: Problems) -> None:
    """Refuse invalid names, key sources and bounds, claims without effect, and teams and tags that are not in the file."""
    seen: dict[str, str] = {}
    for name, issuer in config.issuers.items():
        where = join("issuers", name)
        if not _NAME.fullmatch(name):
            text = "an issuer's name has at most 64 letters, digits and . _ -, and begins with a letter or digit, such as staff"
            problems.add_at_path(where, text)
        first = seen.setdefault(issuer.issuer, name)
        if first != name and issuer.issuer:
            problems.add_at_path(f"{where}.issuer", f"same issuer as '{first}': list all audiences under '{first}'")
        _check_source(issuer, where, problems)
        if issuer.leeway > MAX_LEEWAY_S:
            problems.add_at_path(f"{where}.leeway", f"must be at most {MAX_LEEWAY_S:g}s: synchronize the clocks instead")
        if not issuer.algorithms:
            problems.add_at_path(f"{where}.algorithms", "expected at least one algorithm, such as RS256")
        _check_claims(issuer, where, problems)
        _check_names(config, issuer, where, problems)


def _check_source(issuer: IssuerConfig, where: str, problems: Problems) -> None:
    """Refuse two sources of keys, an issuer from which no source can be derived, and settings without effect."""
    if issuer.jwks_url is not None and issuer.jwks_file is not None:
        problems.add_at_path(f"{where}.jwks_file", "jwks_url is set as well: remove one of them")
    if issuer.jwks_file is not None:
        for name in ("ca", "proxy"):
            if getattr(issuer, name) is not None:
                problems.add_at_path(f"{where}.{name}", "has no effect with jwks_file: remove it")
    elif issuer.jwks_url is None:
        try:
            read_https_url(issuer.issuer)
        except ValueError:
            text = "is not an https URL, so its keys cannot be found: set jwks_url or jwks_file"
            problems.add_at_path(f"{where}.issuer", text)
    if issuer.refresh < MIN_REFRESH_S:
        problems.add_at_path(f"{where}.refresh", f"must be at least {MIN_REFRESH_S:g}s")


def _check_claims(issuer: IssuerConfig, where: str, problems: Problems) -> None:
    """Refuse `teams` and `policies` without the claims that select them, and `policy_claim` without policies."""
    if issuer.teams and issuer.team_claim is None:
        problems.add_at_path(f"{where}.teams", "has no effect without team_claim: set the claim that names the team")
    if issuer.policy_claim is None and set(issuer.policies) - {OTHERS}:
        problems.add_at_path(f"{where}.policies", "set policy_claim, the claim that selects the policy, or keep only the policy '*'")
    if issuer.policy_claim is not None and not issuer.policies:
        problems.add_at_path(f"{where}.policy_claim", "has no effect without policies: add one for each value of the claim")


def _check_names(config: Config, issuer: IssuerConfig, where: str, problems: Problems) -> None:
    """Refuse teams and tags that are not in the file."""
    named = [(join(f"{where}.teams", value), team) for value, team in issuer.teams.items()]
    for value, policy in issuer.policies.items():
        path = join(f"{where}.policies", value)
        if policy.team is not None:
            named.append((f"{path}.team", policy.team))
        for index, tag in enumerate(policy.tags):
            if tag not in config.tags:
                problems.add_at_path(f"{path}.tags[{index}]", f"no tag '{tag}' under tags{suggest(tag, config.tags, 'tags')}")
    for path, team in named:
        if team not in config.teams:
            text = f"no team {problems.source_text(path)} in this file{suggest(team, config.teams, 'teams')}"
            problems.add_at_path(path, text)
