// Keys and budgets: virtual keys and teams with their limits, and usage as charts.
import { api, count, get, html, moment, query, seconds, short, usd, useLoaded, useState } from "./base.js";
import { Card, Copy, Dialog, Empty, Failure, Field, LongList, Meter, Note, Pill, Select } from "./parts.js";

const GRACES = [["0s", "at once"], ["1h", "1 hour"], ["24h", "1 day"], ["7d", "7 days"]];
const LIMITS = [["requests", "Requests", "600/min"], ["tokens", "Tokens", "200k/min"], ["spend", "Spend", "50 USD/month"], ["concurrent", "At the same time", "20"]];
const FEW = 12;
const CAPTURES = [["none", "nothing"], ["content", "requests and responses"]];
const at = (name) => `/admin/keys/${encodeURIComponent(name)}`;

const amount = (state, value) => (state.kind === "spend" ? usd(value) : short(value));

export const LimitBar = ({ state }) => {
  const used = state.used ?? 0;
  const value = `${amount(state, used)} of ${amount(state, state.limit)}`;
  const reset = state.reset_at ? `resets at ${moment(state.reset_at)}` : state.reset_seconds ? `resets in ${seconds(state.reset_seconds)}` : "";
  return html`<div class="limit" data-limit="${state.owner}:${state.name}:${state.kind}" data-used=${used}>
    <div class="limit-head"><span>${state.kind}${state.window ? ` per ${state.window}` : ""}${state.model ? ` of ${state.model}` : ""}</span><b>${value}${state.kind === "spend" ? "" : ` ${state.unit}`}</b></div>
    <${Meter} share=${state.limit ? used / state.limit : 0} label="${state.kind} of ${state.name}" value=${value} />
    ${reset && html`<small>${reset}</small>`}
  </div>`;
};

const Secret = ({ secret, name, onClose }) => html`<${Dialog} title="Key ${name}" onClose=${onClose}>
  <p>This is the only time that the key is shown. Store it now.</p>
  <p class="secret"><code>${secret}</code></p>
  <div class="actions"><${Copy} text=${secret} label="Copy the key" /><button type="button" class="primary" onClick=${onClose}>I have stored it</button></div>
<//>`;

/** Return the fields of a new key. Fields that are left empty are not sent. */
export function fieldsOf(draft) {
  const limits = Object.fromEntries(LIMITS.map(([name]) => [name, draft[name]?.trim()]).filter(([, value]) => value)
    .map(([name, value]) => [name, name === "concurrent" ? Number(value) : value.includes(",") ? value.split(",").map((each) => each.trim()) : value]));
  const models = draft.models?.split(",").map((name) => name.trim()).filter(Boolean) ?? [];
  return {
    name: draft.name?.trim() ?? "",
    ...(draft.team ? { team: draft.team } : {}), ...(models.length ? { models } : {}), ...(draft.expires ? { expires: draft.expires } : {}),
    ...(Object.keys(limits).length ? { limits } : {}), ...(draft.capture && draft.capture !== "none" ? { capture: draft.capture } : {}),
  };
}

const Create = ({ teams, onDone, onClose }) => {
  const [draft, setDraft] = useState({});
  const [error, setError] = useState(null);
  const typed = (name) => ({ value: draft[name] ?? "", onInput: (event) => setDraft({ ...draft, [name]: event.currentTarget.value }) });
  const create = async (event) => {
    event.preventDefault();
    try { onDone(await api("POST", "/admin/keys", fieldsOf(draft))); } catch (failure) { setError(failure); }
  };
  return html`<${Dialog} title="New key" onClose=${onClose}><form onSubmit=${create}>
    <${Field} label="Name"><input required autocomplete="off" spellcheck=${false} ...${typed("name")} /><//>
    <${Field} label="Team"><${Select} options=${[["", "no team"], ...teams.map((team) => [team.name, team.name])]} value=${draft.team ?? ""} onChange=${(team) => setDraft({ ...draft, team })} /><//>
    <${Field} label="Models" hint="Names, separated by commas. Empty: all models."><input spellcheck=${false} ...${typed("models")} /><//>
    <div class="pair">${LIMITS.map(([name, label, example]) => html`<${Field} key=${name} label=${label}><input placeholder=${example} spellcheck=${false} ...${typed(name)} /><//>`)}</div>
    <${Field} label="Expires"><input type="date" ...${typed("expires")} /><//>
    <${Field} label="Captured content" hint="Captured text is shown with each call and is not encrypted."><${Select} options=${CAPTURES} value=${draft.capture ?? "none"} onChange=${(capture) => setDraft({ ...draft, capture })} /><//>
    <${Failure} error=${error} />
    <div class="actions"><button type="submit" class="primary">Create</button><button type="button" class="ghost" onClick=${onClose}>Cancel</button></div>
  </form><//>`;
};

const Confirm = ({ title, children, action, onDone, onClose }) => {
  const [error, setError] = useState(null);
  const confirm = async () => { try { onDone(await action()); } catch (failure) { setError(failure); } };
  return html`<${Dialog} title=${title} onClose=${onClose}>${children}<${Failure} error=${error} />
    <div class="actions"><button type="button" class="primary" onClick=${confirm}>${title}</button><button type="button" class="ghost" onClick=${onClose}>Cancel</button></div><//>`;
};

const Rotate = ({ name, onDone, onClose }) => {
  const [grace, setGrace] = useState("24h");
  return html`<${Confirm} title="Rotate ${name}" action=${() => api("POST", `${at(name)}/rotate`, { grace })} onDone=${onDone} onClose=${onClose}>
    <p>The key gets a new secret. The present one stays valid for the time that you choose, so that callers can be changed.</p>
    <${Field} label="The present secret ends"><${Select} options=${GRACES} value=${grace} onChange=${setGrace} /><//><//>`;
};

const Entry = ({ entry, isKey, onOpen, onToggle }) => html`<li class="entry card" data-entry=${entry.name}>
  <div class="entry-head"><b class="name">${entry.name}</b>
    ${entry.disabled && html`<${Pill} tone="bad">disabled<//>`}${entry.team && html`<${Pill}>team ${entry.team}<//>`}
    <small>${entry.source === "yaml" ? "in the configuration" : entry.shown ?? "created here"}</small></div>
  <p class="entry-facts">${entry.models ? `models: ${Object.keys(Array.isArray(entry.models) ? Object.fromEntries(entry.models.map((name) => [name, 1])) : entry.models).join(", ")}` : "all models"}${entry.expires ? ` · expires ${moment(entry.expires)}` : ""}${entry.previous ? ` · earlier secret ends ${moment(entry.previous[0].until)}` : ""}</p>
  ${entry.usage === null && html`<${Note} tone="warn">The usage is unknown: the store is unavailable.<//>`}
  <div class="limits">${entry.usage?.map((state, index) => html`<${LimitBar} key=${index} state=${state} />`)}${entry.usage?.length === 0 && html`<small>no limits</small>`}</div>
  ${isKey && entry.source === "runtime" && html`<div class="actions">
    <button type="button" onClick=${() => onOpen("rotate", entry.name)}>Rotate</button>
    <button type="button" onClick=${() => onToggle(entry)}>${entry.disabled ? "Enable" : "Disable"}</button>
    <button type="button" class="danger" onClick=${() => onOpen("revoke", entry.name)}>Revoke</button></div>`}
</li>`;

// ---- usage

const SPANS = [["0", "today"], ["6", "7 days"], ["29", "30 days"], ["89", "90 days"]];
const COLUMNS = [["day", "day"], ["team", "team"], ["model", "model"], ["key", "key"], ["target", "target"], ["tag", "tag"]];
const MEASURES = [["cost_usd", "cost"], ["requests", "requests"], ["output_tokens", "output tokens"], ["prompt_tokens", "prompt tokens"]];
const dayBefore = (days) => new Date(Date.now() - days * 86400000).toISOString().slice(0, 10);

const Usage = () => {
  const [by, setBy] = useState("model");
  const [span, setSpan] = useState("29");
  const [measure, setMeasure] = useState("cost_usd");
  const params = { by, from: dayBefore(Number(span)), to: dayBefore(0) };
  const { value, error } = useLoaded((signal) => get(query("/admin/usage", params), { signal }), [by, span], 10000);
  const rows = value?.rows ?? [];
  const sorted = by === "day" ? rows : [...rows].sort((one, other) => other[measure] - one[measure]);
  const top = Math.max(...rows.map((row) => row[measure]), 0) || 1;
  const shown = (number) => (measure === "cost_usd" ? usd(number) : count(number));
  return html`<${Card} title="Usage" class="wide" more=${html`<a class="button" href=${query("/admin/usage", { ...params, format: "csv" })} download="usage-by-${by}.csv">CSV</a>`}>
    <div class="actions"><${Field} label="by"><${Select} options=${COLUMNS} value=${by} onChange=${setBy} /><//><${Field} label="last"><${Select} options=${SPANS} value=${span} onChange=${setSpan} /><//><${Field} label="show"><${Select} options=${MEASURES} value=${measure} onChange=${setMeasure} /><//></div>
    <${Failure} error=${error} />
    ${value && html`<p class="summary">${count(value.total.requests)} requests, ${short(value.total.prompt_tokens)} prompt and ${short(value.total.output_tokens)} output tokens, ${usd(value.total.cost_usd)}${value.total.unpriced ? `, ${count(value.total.unpriced)} without a known price` : ""}</p>`}
    ${rows.length === 0 && value && html`<${Empty}>No usage in this time.<//>`}
    <${LongList} class="usage" items=${sorted}>${(row) => html`<li key=${row[by]}><span class="name">${row[by] || "(none)"}</span><${Meter} tone="plain" share=${row[measure] / top} label="${row[by] || "none"}" value=${shown(row[measure])} /><b>${shown(row[measure])}</b></li>`}<//>
  <//>`;
};

const Others = ({ limits }) => {
  const others = limits.filter((state) => state.owner !== "key" && state.owner !== "team");
  return others.length > 0 && html`<${Card} title="Limits of models, providers and targets" class="wide"><${LongList} class="entries" items=${others}>${(state, index) => html`<li key=${index} class="entry"><b>${state.owner} ${state.name}</b><${LimitBar} state=${state} /></li>`}<//><//>`;
};

export const Keys = () => {
  const keys = useLoaded((signal) => get("/admin/keys", { signal }), [], 3000);
  const teams = useLoaded((signal) => get("/admin/teams", { signal }), [], 3000);
  const limits = useLoaded((signal) => get("/admin/limits", { signal }), [], 3000);
  const [open, setOpen] = useState(null);
  const [secret, setSecret] = useState(null);
  const [error, setError] = useState(null);
  const [wanted, setWanted] = useState("");
  const found = (keys.value?.data ?? []).filter((entry) => `${entry.name} ${entry.team ?? ""}`.toLowerCase().includes(wanted.trim().toLowerCase()));
  const close = () => setOpen(null);
  const done = (answer) => { setOpen(null); if (answer?.key) setSecret({ secret: answer.key, name: answer.name }); keys.reload(); };
  const toggle = async (entry) => {
    try { await api("PATCH", at(entry.name), { disabled: !entry.disabled }); setError(null); } catch (failure) { setError(failure); }
    keys.reload();
  };
  return html`<h1>Keys and budgets</h1><${Failure} error=${error ?? keys.error ?? teams.error ?? limits.error} />
    <${Card} title="Keys" class="wide" more=${html`<button type="button" class="primary" onClick=${() => setOpen({ kind: "create" })}>New key</button>`}>
      ${keys.value?.data.length === 0 && html`<${Empty}>There are no keys.${globalThis.lockgateCallers?.requires_keys === false ? " Callers need none: authentication is off." : ""}<//>`}
      ${keys.value?.data.length > FEW && html`<div class="actions"><${Field} label="Find a key" hint="A part of its name or of its team."><input type="search" autocomplete="off" spellcheck=${false} value=${wanted} onInput=${(event) => setWanted(event.currentTarget.value)} /><//></div>`}
      <${LongList} class="entries" items=${found}>${(entry) => html`<${Entry} key=${entry.name} entry=${entry} isKey=${true} onOpen=${(kind, name) => setOpen({ kind, name })} onToggle=${toggle} />`}<//><//>
    ${teams.value?.data.length > 0 && html`<${Card} title="Teams" class="wide"><${LongList} class="entries" items=${teams.value.data}>${(entry) => html`<${Entry} key=${entry.name} entry=${entry} />`}<//><//>`}
    ${limits.value && html`<${Others} limits=${limits.value.data} />`}
    <${Usage} />
    ${open?.kind === "create" && html`<${Create} teams=${teams.value?.data ?? []} onDone=${done} onClose=${close} />`}
    ${open?.kind === "rotate" && html`<${Rotate} name=${open.name} onDone=${done} onClose=${close} />`}
    ${open?.kind === "revoke" && html`<${Confirm} title="Revoke ${open.name}" action=${() => api("DELETE", at(open.name))} onDone=${done} onClose=${close}><p>Callers with this key are rejected from now on. A revoked key cannot be restored.</p><//>`}
    ${secret && html`<${Secret} ...${secret} onClose=${() => setSecret(null)} />`}`;
};
