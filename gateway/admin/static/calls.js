// Calls: the last calls from the call record, and one call as a waterfall.
import { api, clock, count, get, hashOf, html, moment, ms, plural, query, store, useEffect, useLoaded, useState, usd } from "./base.js";
import { Card, Code, Copy, Empty, Failure, Field, Note, Pill, Route, Select } from "./parts.js";
import { commandOf } from "./code.js";
import { draftOf, Plan } from "./playground.js";

const FILTERS = ["key", "team", "user", "model", "target", "status", "slow", "cost", "since", "adjusted", "sort", "limit"];
const STATUSES = [["", "any"], ["2xx", "2xx"], ["4xx", "4xx"], ["429", "429"], ["499", "499 (disconnected)"], ["5xx", "5xx"]];
const SORTS = [["", "latest"], ["ms", "slowest"], ["cost", "most expensive"]];
const SPANS = [["", "any time"], ["15m", "15 minutes"], ["1h", "1 hour"], ["1d", "1 day"], ["7d", "7 days"]];

const toneOf = (status) => (status < 300 ? "good" : status < 500 ? "warn" : "bad");

function notesOf(call) {
  const notes = [];
  if (call.error) notes.push(call.error);
  if ((call.attempts?.length ?? 0) > 1) notes.push(`${call.attempts.length} attempts`);
  if (call.queue_ms >= 1) notes.push(`queued ${ms(call.queue_ms)}`);
  if (call.adjustments?.length) notes.push(`${call.adjustments.length} adjusted`);
  if (call.continued) notes.push("continued");
  if (call.aborted) notes.push("caller disconnected");
  return notes;
}

const Filters = ({ params }) => {
  const [draft, setDraft] = useState(params);
  useEffect(() => setDraft(params), [JSON.stringify(params)]);
  const apply = (changed) => { location.hash = hashOf("calls", "", { ...draft, ...changed }); };
  const typed = (name) => ({ value: draft[name] ?? "", onInput: (event) => setDraft({ ...draft, [name]: event.currentTarget.value }) });
  return html`<form class="filters" onSubmit=${(event) => { event.preventDefault(); apply({}); }}>
    ${["key", "team", "user", "model", "target"].map((name) => html`<${Field} key=${name} label=${name}><input type="search" autocomplete="off" spellcheck=${false} ...${typed(name)} /><//>`)}
    <${Field} label="status"><${Select} options=${STATUSES} value=${draft.status ?? ""} onChange=${(status) => apply({ status })} /><//>
    <${Field} label="takes at least"><input type="search" placeholder="2s" ...${typed("slow")} /><//>
    <${Field} label="costs at least"><input type="search" inputmode="decimal" placeholder="0.01" ...${typed("cost")} /><//>
    <${Field} label="in the last"><${Select} options=${SPANS} value=${draft.since ?? ""} onChange=${(since) => apply({ since })} /><//>
    <${Field} label="order"><${Select} options=${SORTS} value=${draft.sort ?? ""} onChange=${(sort) => apply({ sort })} /><//>
    <label class="check"><input type="checkbox" checked=${draft.adjusted === "true"} onChange=${(event) => apply({ adjusted: event.currentTarget.checked ? "true" : "" })} /> adjusted only</label>
    <div class="actions"><button type="submit">Filter</button><button type="button" class="ghost" onClick=${() => { location.hash = hashOf("calls"); }}>Clear</button></div>
  </form>`;
};

const Row = ({ call }) => html`<tr>
  <td><a href=${hashOf("calls", call.id)} title=${moment(call.time)} aria-label="Call ${call.id} at ${clock(call.time)}">${clock(call.time)}</a></td>
  <td><span class="status ${toneOf(call.status)}">${call.status}</span></td>
  <td class="number">${ms(call.ms)}</td>
  <td class="number wide-only">${ms(call.first_byte_ms)}</td>
  <td class="number wide-only">${call.prompt_tokens === undefined ? "–" : `${count(call.prompt_tokens)} + ${count(call.output_tokens)}`}</td>
  <td class="number wide-only">${"cost_usd" in call ? usd(call.cost_usd) : "–"}</td>
  <td class="name">${call.model || "–"}<small>${call.target ? ` → ${call.target}` : ""}</small></td>
  <td class="name wide-only">${call.key ?? "–"}</td>
  <td class="notes">${notesOf(call).map((note) => html`<${Pill} key=${note}>${note}<//> `)}</td>
</tr>`;

const List = ({ params }) => {
  const [isLive, setLive] = useState(true);
  const wanted = Object.fromEntries(FILTERS.filter((name) => params[name]).map((name) => [name, params[name]]));
  const { value, error, loading } = useLoaded((signal) => get(query("/admin/calls", { limit: 100, ...wanted }), { signal }), [JSON.stringify(wanted), isLive], isLive ? 3000 : 0);
  return html`<h1>Calls</h1><${Card} class="wide">
    <${Filters} params=${params} />
    <${Failure} error=${error} />
    <p class="summary" role="status">${value ? html`${plural(value.total.calls, "call")}${value.has_more ? `, ${value.data.length} shown` : ""} · ${usd(value.total.cost_usd)}${value.total.unpriced ? ` · ${plural(value.total.unpriced, "call")} without a known price` : ""}` : loading ? "Loading…" : ""}
      <label class="check"><input type="checkbox" checked=${isLive} onChange=${(event) => setLive(event.currentTarget.checked)} /> follow</label></p>
    ${value && value.data.length === 0 && html`<${Empty}>No call matches. Send one from the <a href=${hashOf("playground")}>playground</a>.<//>`}
    ${value && value.data.length > 0 && html`<div class="table-box" tabindex="0" role="region" aria-label="Calls"><table class="calls">
      <thead><tr><th scope="col">time</th><th scope="col">status</th><th scope="col" class="number">duration</th><th scope="col" class="number wide-only">first byte</th><th scope="col" class="number wide-only">tokens</th><th scope="col" class="number wide-only">cost</th><th scope="col">model → target</th><th scope="col" class="wide-only">key</th><th scope="col">notes</th></tr></thead>
      <tbody>${value.data.map((call) => html`<${Row} key=${call.id + call.time} call=${call} />`)}</tbody></table></div>`}
  <//>`;
};

/** The parts of a call's time: label, tone, start and end in milliseconds after its start. */
export function stepsOf(call) {
  const steps = [];
  for (const attempt of call.attempts ?? []) {
    const sent = attempt.sent_ms;
    const queued = attempt.queue_ms ?? 0;
    if (queued) steps.push({ label: `queue of ${attempt.target}`, tone: "wait", start: (sent ?? queued) - queued, end: sent ?? queued });
    if (sent === undefined || (!attempt.ms && attempt.outcome !== "cached")) {
      steps.push({ label: `${attempt.target}: ${attempt.outcome}, not sent`, tone: "bad", start: sent ?? queued, end: sent ?? queued });
      continue;
    }
    steps.push({ label: `${attempt.target}: ${attempt.outcome}`, tone: attempt.outcome === "ok" ? "good" : "bad", start: sent, end: sent + attempt.ms, mark: attempt.head_ms });
  }
  if (call.first_byte_ms !== undefined) steps.push({ label: "first byte to the caller", tone: "moment", start: call.first_byte_ms, end: call.first_byte_ms });
  steps.push({ label: "end", tone: "moment", start: call.ms, end: call.ms });
  return steps;
}

const Waterfall = ({ call }) => {
  const steps = stepsOf(call);
  const whole = Math.max(0.01, call.ms, ...steps.map((step) => step.end));
  const place = (value) => `${(value / whole) * 100}%`;
  return html`<ol class="waterfall" aria-label="Where the time went">${steps.map((step, index) => html`<li key=${index}>
    <span class="step-label">${step.label}</span>
    <span class="step-track" aria-hidden="true"><span class="step ${step.tone}" style=${{ left: place(step.start), width: step.end > step.start ? place(step.end - step.start) : "2px" }}></span>
      ${step.mark !== undefined && html`<span class="step-mark" style=${{ left: place(step.mark) }} title="response began at ${ms(step.mark)}"></span>`}</span>
    <span class="step-time">${step.end > step.start ? `${ms(step.start)} – ${ms(step.end)}` : ms(step.start)}</span>
  </li>`)}</ol>`;
};

/** An adjustment of a record, such as `max_tokens:clamp 9000 -> 8192`, in its parts. */
export function adjustmentOf(line) {
  const [, param, action, from, to] = /^(.*?):(\S+)(?: (\S+) -> (\S+))?$/.exec(line) ?? [line, line, "", undefined, undefined];
  return { param, action, from, to };
}

const Adjusted = ({ lines }) => html`<table class="plain"><caption>Adjustments</caption><thead><tr><th scope="col">parameter</th><th scope="col">change</th><th scope="col">from → to</th></tr></thead>
  <tbody>${lines.map((line) => { const { param, action, from, to } = adjustmentOf(line); return html`<tr key=${line}><td><code>${param}</code></td><td><${Pill} tone="warn">${action}<//></td><td>${from === undefined ? "" : html`<code>${from}</code> → <code>${to}</code>`}</td></tr>`; })}</tbody></table>`;

function factsOf(call) {
  const caller = [call.client, call.key && `key ${call.key}`, call.team && `team ${call.team}`, call.end_user && `end user ${call.end_user}`].filter(Boolean).join(", ");
  const tokens = call.prompt_tokens === undefined ? "" : `${count(call.prompt_tokens)} prompt + ${count(call.output_tokens)} output${call.cached_tokens ? `, ${count(call.cached_tokens)} cached` : ""}${call.estimated ? ", estimated" : ""}`;
  return [
    ["ended", moment(call.time)],
    ["caller", caller],
    ["request", `${call.path}, model ${call.model || "–"}${call.stream ? ", stream" : ""}`],
    ["route", call.route],
    ["target", call.target],
    ["error", [call.error, call.param].filter(Boolean).join(" ") + (call.message ? `: ${call.message}` : "")],
    ["stream end", call.stream_end],
    ["finish", call.finish?.join(", ")],
    ["tokens", tokens],
    ["cost", "cost_usd" in call ? usd(call.cost_usd) : ""],
    ["limits", call.limits?.map((state) => `${state.limit} for ${state.owner}: ${state.used} of ${state.amount} used${state.refused ? " (refused the call)" : ""}`).join("; ")],
    ["continued", call.continued?.map((each) => `by ${each.target}, after ${plural(each.at, "character")}`).join(", ")],
    ["skipped", call.skipped?.map((each) => `${each.target}${each.param ? ` (${each.param})` : ""}`).join(", ")],
    ["tags", call.tags ? JSON.stringify(call.tags) : ""],
    ["other ids", ["client_id", "upstream_id", "trace_id", "mirror_of"].filter((name) => call[name]).map((name) => `${name} ${call[name]}`).join(", ")],
  ].filter(([, value]) => value);
}

/** The captured request of a call, if it is complete. */
export function bodyOfCall(call) {
  if (!call.content || call.content.cut) return null;
  try { return JSON.parse(call.content.request); } catch { return null; }
}

const RouteToday = ({ call, plan }) => (plan.refused ? html`<${Note} tone="bad">Today this call would be refused: ${plan.refused}<//>` : html`<div class="today">
  <p>The route of <b>${call.model}</b> today (found ${plan.found}), with the shares of ${count(plan.calls)} simulated calls:</p>
  <${Route} node=${plan.route} shares=${plan.first} total=${plan.calls} />
  <p>${plan.first[call.target] ? `${call.target}, which served this call, would still be first for ${Math.round(plan.first[call.target] / plan.calls * 100)} % of the calls.` : call.target ? `${call.target}, which served this call, would not be first today.` : ""}</p></div>`);

const RequestToday = ({ body, plan }) => (plan.refused ? html`<${Note} tone="bad">Today this call would be refused with ${plan.status}: ${plan.refused.message}<//>`
  : html`<p>What each target would receive today:</p><div class="plans">${plan.targets.map((target) => html`<${Plan} key=${target.target} target=${target} original=${body} />`)}</div>`);

const Today = ({ call }) => {
  const [state, setState] = useState(null);
  const body = bodyOfCall(call);
  const ask = async () => {
    setState({ busy: true });
    try {
      const route = await api("POST", "/admin/route", { model: call.model, n: 1000 });
      setState({ route, request: body && await api("POST", "/admin/explain", { path: call.path, body }) });
    } catch (error) { setState({ error }); }
  };
  return html`<button type="button" onClick=${ask}>Explain again today</button>
    <div aria-live="polite">${state?.busy && "Planning…"}<${Failure} error=${state?.error} />
      ${state?.route && html`<${RouteToday} call=${call} plan=${state.route} />`}${state?.request && html`<${RequestToday} body=${body} plan=${state.request} />`}</div>`;
};

const Content = ({ content }) => html`<${Card} title="Content" more=${content.cut && html`<${Pill} tone="warn">not complete<//>`}>
  <details><summary>Request</summary><${Code} label="Request">${content.request}<//></details>
  <details><summary>Response</summary><${Code} label="Response">${content.response}<//></details><//>`;

/** Keep the request of a captured call as the draft of the playground. */
function keepDraft(call) {
  const body = bodyOfCall(call);
  const draft = body && draftOf(call.path, body);
  if (draft) store("draft", draft);
}

const Detail = ({ id }) => {
  const { value, error } = useLoaded((signal) => get(`/admin/calls/${encodeURIComponent(id)}?content=true`, { signal }), [id]);
  return html`<p class="crumbs"><a href=${hashOf("calls")}>← all calls</a></p><h1>Call <code>${id}</code></h1><${Failure} error=${error} />
    ${value?.data.map((call, index) => html`<div key=${index} class="stack">
      <${Card} title=${html`<span class="status ${toneOf(call.status)}">${call.status}</span> in ${ms(call.ms)}`} more=${html`<a class="button" onClick=${() => keepDraft(call)} href=${hashOf("playground", "", { model: call.model, door: call.path })}>Open in the playground</a> <${Copy} label="Copy as curl" text=${commandOf(call.path, bodyOfCall(call) ?? { model: call.model, ...(call.stream ? { stream: true } : {}), messages: [{ role: "user", content: "…" }] })} />`}>
        <${Waterfall} call=${call} />
        <dl class="facts">${factsOf(call).map(([name, fact]) => html`<div key=${name}><dt>${name}</dt><dd>${fact}</dd></div>`)}</dl>
        ${call.adjustments?.length > 0 && html`<${Adjusted} lines=${call.adjustments} />`}
        ${call.model && !call.method && html`<${Today} call=${call} />`}
      <//>
      ${call.content && html`<${Content} content=${call.content} />`}
      <details><summary>The record as JSON</summary><${Code} label="The record as JSON">${JSON.stringify({ ...call, content: undefined }, null, 2)}<//></details>
    </div>`)}`;
};

export const Calls = ({ rest, params }) => (rest ? html`<${Detail} key=${rest} id=${rest} />` : html`<${List} params=${params} />`);
