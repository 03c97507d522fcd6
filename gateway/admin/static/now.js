// Now: the current state of the gateway. Charts of the last 15 minutes, targets, routes, alerts, and the configuration.
import { clock, count, get, hashOf, html, moment, ms, percent, plural, seconds, short, usd, useEffect, useLive, useLoaded, useState } from "./base.js";
import { Card, Chart, Empty, Failure, LongList, Meter, Note, Pill, Route } from "./parts.js";

const BARS = 60;
const MIN_SPAN_S = 180;

/** Group the points into about BARS bars, from the first point, but at least MIN_SPAN_S, to now. */
export function barsOf(data) {
  const { points, now, step_seconds: step, window_seconds: window } = data;
  const span = Math.min(window, Math.max(MIN_SPAN_S, now - (points.at[0] ?? now)));
  const width = Math.max(1, Math.ceil(span / BARS / step)) * step;
  const first = Math.floor((now - span) / width) + 1;
  const length = Math.floor(now / width) - first + 1;
  const at = Array.from({ length }, (_, index) => (first + index) * width);
  const sums = {};
  for (const name of ["calls", "errors", "refused", "prompt_tokens", "output_tokens", "cost_usd", "seconds"]) sums[name] = new Array(length).fill(0);
  const worst = { first_token_p50_ms: new Array(length).fill(null), first_token_p95_ms: new Array(length).fill(null) };
  points.at.forEach((time, index) => {
    const bar = Math.floor(time / width) - first;
    if (bar < 0 || bar >= length) return;
    for (const name of Object.keys(sums)) sums[name][bar] += points[name][index];
    for (const name of Object.keys(worst)) {
      const value = points[name][index];
      if (value !== null) worst[name][bar] = Math.max(worst[name][bar] ?? 0, value);
    }
  });
  return { at, ...sums, ...worst };
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);
const rates = (bars, name) => bars[name].map((value, index) => value / Math.max(bars.seconds[index], 1e-9) * (bars.seconds[index] ? 1 : 0));
const latest = (values) => { for (let index = values.length - 1; index >= 0; index -= 1) if (values[index] !== null) return values[index]; return null; };

/** The rate over the last 15 seconds: the last complete points. */
function rateNow(points, name) {
  const from = Math.max(0, points.at.length - 5);
  return total(points[name].slice(from)) / Math.max(1e-9, total(points.seconds.slice(from)));
}

const Tile = ({ title, value, note, children }) => html`<section class="card tile" aria-label=${title}>
  <h2>${title}</h2><p class="tile-value">${value}</p><p class="tile-note">${note}</p>${children}
</section>`;

const Tiles = ({ data }) => {
  const bars = barsOf(data);
  const calls = total(bars.calls);
  const errors = total(bars.errors);
  const refused = total(bars.refused);
  const good = bars.calls.map((value, index) => Math.max(0, value - bars.errors[index] - bars.refused[index]));
  const perSecond = (value) => `${short(value)}/s`;
  const scaled = (values) => values.map((value, index) => (bars.seconds[index] ? value / bars.seconds[index] : 0));
  return html`<div class="tiles">
    <${Tile} title="Requests" value=${perSecond(rateNow(data.points, "calls"))} note="${count(calls)} in 15 min · ${count(data.in_flight.calls)} in flight">
      <${Chart} label="Requests per second" at=${bars.at} format=${perSecond} bars=${[
        { name: "ok", color: "c-good", values: scaled(good) }, { name: "refused", color: "c-warn", values: scaled(bars.refused) },
        { name: "errors", color: "c-bad", values: scaled(bars.errors) }]} />
    <//>
    <${Tile} title="Errors" value=${calls ? percent(errors / calls) : "–"} note="${plural(errors, "error")} · ${count(refused)} refused">
      <${Chart} label="Errors and refused calls" at=${bars.at} format=${short} bars=${[
        { name: "refused", color: "c-warn", values: bars.refused }, { name: "errors", color: "c-bad", values: bars.errors }]} />
    <//>
    <${Tile} title="First token" value=${ms(latest(bars.first_token_p50_ms))} note="median · 95 %: ${ms(latest(bars.first_token_p95_ms))}">
      <${Chart} label="Time to first token" at=${bars.at} format=${ms} lines=${[
        { name: "median", color: "c-main", values: bars.first_token_p50_ms }, { name: "95 %", color: "c-soft", values: bars.first_token_p95_ms }]} />
    <//>
    <${Tile} title="Tokens" value=${perSecond(rateNow(data.points, "output_tokens"))} note="${short(total(bars.output_tokens))} output · ${short(total(bars.prompt_tokens))} prompt">
      <${Chart} label="Tokens per second" at=${bars.at} format=${perSecond} bars=${[
        { name: "output", color: "c-main", values: rates(bars, "output_tokens") }, { name: "prompt", color: "c-soft", values: rates(bars, "prompt_tokens") }]} />
    <//>
    <${Tile} title="Spend" value=${usd(total(bars.cost_usd))} note="in 15 min, at known prices">
      <${Chart} label="Spend" at=${bars.at} format=${usd} bars=${[{ name: "spend", color: "c-main", values: bars.cost_usd }]} />
    <//>
  </div>`;
};

const STATES = { live: "live", cooling: "in cooldown", probing: "probing" };

const Until = ({ target, now }) => {
  const [left, setLeft] = useState(target.cooling_seconds ?? 0);
  useEffect(() => {
    setLeft(target.cooling_seconds ?? 0);
    const timer = setInterval(() => setLeft((value) => Math.max(0, value - 1)), 1000);
    return () => clearInterval(timer);
  }, [target.cooling_until, now]);
  if (!target.cooling_until) return null;
  return html`<span class="until">until ${clock(target.cooling_until)} · <b>${seconds(left)}</b> left</span>`;
};

export const Targets = ({ data }) => {
  const served = {};
  for (const targets of Object.values(data.shares)) for (const [target, calls] of Object.entries(targets)) served[target] = (served[target] ?? 0) + calls;
  return html`<${Card} title="Targets" class="wide">
    <${LongList} class="targets" items=${[...data.targets].sort((one, next) => (one.state === "live") - (next.state === "live"))}>${(target) => html`<li key=${target.target} class="target ${target.state}" data-target=${target.target} data-state=${target.state}>
      <div class="target-head"><b class="target-name">${target.target}</b><${Pill} tone=${target.state}>${STATES[target.state] ?? target.state}<//></div>
      ${target.reason && html`<p class="target-why">${target.reason} <${Until} target=${target} now=${data.now} /></p>`}
      <dl class="figures">
        <div><dt>in flight</dt><dd>${count(target.in_flight)}</dd></div>
        <div><dt>waiting</dt><dd>${count(target.waiting)}</dd></div>
        <div><dt>latency</dt><dd>${ms(target.latency_ms)}</dd></div>
        <div><dt>served</dt><dd><a href=${hashOf("calls", "", { target: target.target })}>${count(served[target.target] ?? 0)}</a></dd></div>
      </dl>
      ${target.waiting > 0 && html`<p class="target-last">waiting: ${Object.entries(target.waiting_by_key).map(([key, calls]) => `${key || "(no key)"} ${count(calls)}`).join(", ")}</p>`}
      ${target.last_failure && html`<p class="target-last">last failure: ${target.last_failure}</p>`}
      ${target.credentials.length > 1 && html`<p class="target-last">${target.credentials.map((one) => html`<${Pill} tone=${one.state}>key ${one.index + 1}<//> `)}</p>`}
    </li>`}<//>
    ${data.targets.length === 0 && html`<${Empty}>The configuration names no target.<//>`}
  <//>`;
};

const Routes = ({ data }) => {
  const states = data.targets.map((target) => target.state).join();
  const { value, error } = useLoaded((signal) => get("/admin/models", { signal }), [data.configuration.generation, states]);
  return html`<${Card} title="Routes" more=${html`<small>shares of the last 15 minutes</small>`}>
    <${Failure} error=${error} />
    <${LongList} class="routes" items=${value?.data.filter((model) => model.configured || data.shares[model.id]) ?? []}>${(model) => {
      const shares = data.shares[model.id] ?? {};
      const calls = total(Object.values(shares));
      return html`<li key=${model.id} class="route-row"><div class="route-model"><a href=${hashOf("playground", "", { model: model.id })}>${model.id}</a><small>${plural(calls, "call")}</small></div>
        <div>${model.route ? html`<${Route} node=${model.route} shares=${shares} total=${calls} />` : html`<${Note} tone="warn">${model.refused}<//>`}</div></li>`;
    }}<//>
    ${value && !value.data.some((model) => model.configured) && html`<${Empty}>The configuration defines no model.<//>`}
  <//>`;
};

const Alerts = ({ alerts }) => html`<${Card} title="Alerts" more=${html`<${Pill} tone=${alerts.some((alert) => alert.state === "firing") ? "bad" : alerts.length ? "warn" : "good"}>${alerts.length || "none"}<//>`}>
  ${alerts.length === 0 && html`<${Empty}>No alert would fire now.<//>`}
  <ul class="alerts">${alerts.map((alert) => html`<li key=${alert.alert + alert.subject}>
    <${Pill} tone=${alert.state}>${alert.state}<//> <b>${alert.alert}</b> <small>${alert.severity}</small>
    <p>${alert.summary}</p><small>since ${clock(alert.since)}${alert.state === "pending" ? `, fires after ${seconds(alert.for_seconds)}` : ""}</small>
  </li>`)}</ul>
<//>`;

const Changes = ({ changes }) => html`<ul class="diff">${changes.map((change, index) => html`<li key=${index} class="d${{ "+": "add", "-": "remove", "~": "change" }[change[0]] ?? ""}"><code>${change}</code></li>`)}</ul>`;

const Configuration = ({ configuration }) => {
  const { generation, path, loaded_at: loadedAt, last_reload: last, error: mistakes, needs_restart: restart, changes, rejected } = configuration;
  return html`<${Card} title="Configuration" more=${html`<${Pill} tone=${last.successful ? "ok" : "failed"}>${last.successful ? "valid" : "rejected"}<//>`}>
    <dl class="facts">
      <div><dt>generation</dt><dd>${generation}, serving since ${moment(loadedAt)}</dd></div>
      <div><dt>file</dt><dd class="path">${path}</dd></div>
      <div><dt>last reload</dt><dd>${moment(last.at)}</dd></div>
    </dl>
    ${mistakes.length > 0 && html`<${Note} tone="bad">The file was rejected; generation ${generation} is still serving.<//>
      <ul class="mistakes">${mistakes.map((mistake, index) => html`<li key=${index}><code>${mistake.line}</code></li>`)}</ul>`}
    ${rejected.length > 0 && html`<details open><summary>${plural(rejected.length, "change")} in the rejected file</summary><${Changes} changes=${rejected} /></details>`}
    ${changes.length > 0 && html`<details open=${mistakes.length === 0}><summary>${plural(changes.length, "change")} in this generation</summary><${Changes} changes=${changes} /></details>`}
    ${restart.length > 0 && html`<${Note} tone="warn">These changes take effect after a restart:<//><${Changes} changes=${restart} />`}
  <//>`;
};

const Engines = ({ engines }) => Object.keys(engines).length > 0 && html`<p class="engines">${Object.entries(engines).map(([name, state]) => html`<span key=${name}>local engine <b>${name}</b> <${Pill} tone=${state}>${state}<//></span>`)}</p>`;

export const Now = () => {
  const { data, error } = useLive();
  if (!data) return html`<${Failure} error=${error} /><p class="loading" role="status">Loading…</p>`;
  return html`<h1 class="sr-only">Now</h1>
    ${error && html`<${Note} tone="bad">The figures are not current: ${error.message}<//>`}
    <${Tiles} data=${data} />
    <${Targets} data=${data} />
    <div class="columns"><${Routes} data=${data} /><div class="stack"><${Alerts} alerts=${data.alerts} /><${Configuration} configuration=${data.configuration} /><${Engines} engines=${data.engines} /></div></div>`;
};
