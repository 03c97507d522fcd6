"""/admin/teams: lists teams, and creates, changes and removes them at run time."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.admin.entries import (
    changes,
    check_entry,
    conflict,
    log_change,
    not_found,
    read_fields,
    store_unavailable,
    take_name,
    with_usage,
)
from gateway.admin.key_json import Change, team_from_json, team_to_json
from gateway.admin.merge_patch import merge
from gateway.config.key import TeamConfig
from gateway.keys.store import RuntimeTeam
from gateway.runtime.gateway import Gateway
from gateway.store.errors import StoreUnavailableError

MAX_SHOWN_KEYS = 5


class TeamAdmin:
    """The endpoints under /admin/teams of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self, request: Request) -> Response:
        """GET /admin/teams: list all teams, those of the configuration and those created at run time."""
        config, runtime = self._gateway.config.teams, self._gateway.runtime_teams.by_name
        entries = [(_team_json(team, "yaml"), team) for team in config.values()]
        entries += [(_runtime_team_json(team), team.entry) for name, team in runtime.items() if name not in config]
        return json_response({"object": "list", "data": await with_usage(self._gateway, [*entries])})

    async def show(self, request: Request) -> Response:
        """GET /admin/teams/{name}: return one team."""
        name = request.path_params["name"]
        configured = self._gateway.config.teams.get(name)
        if configured is not None:
            return json_response((await with_usage(self._gateway, [(_team_json(configured, "yaml"), configured)]))[0])
        team = self._gateway.runtime_teams.by_name.get(name)
        if team is None:
            raise not_found("team", name, code="team_not_found")
        return await self._answer(team)

    async def create(self, request: Request) -> Response:
        """POST /admin/teams: create a team."""
        fields = {name: value for name, value in (await read_fields(request)).items() if value is not None}
        name = take_name(fields)
        entry = self._read(name, fields)
        if name in self._gateway.config.teams:
            raise conflict(f"The team '{name}' is defined in the configuration. Choose another name.", code="team_exists")
        try:
            team = await self._gateway.runtime_teams.add(entry)
        except StoreUnavailableError as error:
            raise store_unavailable("team", error) from None
        if team is None:
            raise conflict(f"The team '{name}' already exists. Choose another name.", code="team_exists")
        log_change(self._gateway, "team_made", team=name, disabled=entry.disabled)
        told: dict[str, Any] = {}
        if self._gateway.runtime_teams.store.is_volatile:
            told["note"] = (
                "'journal' is off, so this team is lost on restart. To keep it, set 'journal' to a folder or 'store' to a Redis URL."
            )
        return await self._answer(team, told, 201)

    async def change(self, request: Request) -> Response:
        """PATCH /admin/teams/{name}: merge the request into the team (RFC 7396); null removes a field."""
        fields = await read_fields(request)
        name = request.path_params["name"]
        self._refuse_configured(name)

        def merged(team: RuntimeTeam) -> RuntimeTeam:
            entry = self._read(name, merge(team_to_json(team.entry), fields), Change(team.entry, fields))
            return msgspec.structs.replace(team, entry=entry)

        try:
            both = await self._gateway.runtime_teams.change(name, merged)
        except StoreUnavailableError as error:
            raise store_unavailable("team", error) from None
        if both is None:
            raise not_found("team", name, code="team_not_found")
        log_change(self._gateway, "team_changed", team=name, disabled=both[1].entry.disabled)
        shown = ({"disabled": False, **team_to_json(team.entry)} for team in both)
        return await self._answer(both[1], changes(*shown))

    async def remove(self, request: Request) -> Response:
        """DELETE /admin/teams/{name}: remove a team that no key uses."""
        name = request.path_params["name"]
        self._find(name)
        users = [key.entry.name for key in self._gateway.runtime_keys.keys.values() if key.entry.team == name]
        if users:
            shown = ", ".join(f"'{each}'" for each in users[:MAX_SHOWN_KEYS])
            more = f" and {len(users) - MAX_SHOWN_KEYS} more" if len(users) > MAX_SHOWN_KEYS else ""
            text = f"The team '{name}' has keys ({shown}{more}). Revoke them or change their team first, or disable the team."
            raise conflict(text, code="team_in_use")
        try:
            if not await self._gateway.runtime_teams.revoke(name):
                raise not_found("team", name, code="team_not_found")
        except StoreUnavailableError as error:
            raise store_unavailable("team", error) from None
        log_change(self._gateway, "team_removed", team=name)
        return json_response({"object": "team", "name": name, "removed": True})

    async def _answer(self, team: RuntimeTeam, told: dict[str, Any] | None = None, status: int = 200) -> Response:
        shown = (await with_usage(self._gateway, [(_runtime_team_json(team), team.entry)]))[0]
        return json_response({**shown, **(told or {})}, status)

    def _refuse_configured(self, name: str) -> None:
        if name in self._gateway.config.teams:
            raise conflict(f"The team '{name}' is defined in the configuration. Change it there and reload.", code="team_exists")

    def _find(self, name: str) -> RuntimeTeam:
        self._refuse_configured(name)
        team = self._gateway.runtime_teams.by_name.get(name)
        if team is None:
            raise not_found("team", name, code="team_not_found")
        return team

    def _read(self, name: str, entry: dict[str, Any], change: Change[TeamConfig] | None = None) -> TeamConfig:
        return check_entry("teams", name, lambda: team_from_json(self._gateway.config, name, entry, change=change))


def _team_json(team: TeamConfig, source: str) -> dict[str, Any]:
    return {"object": "team", "name": team.name, "source": source, "disabled": False, **team_to_json(team)}


def _runtime_team_json(team: RuntimeTeam) -> dict[str, Any]:
    return {**_team_json(team.entry, "runtime"), "created": int(team.created)}
