// Break it: make a scripted provider slow or dead, or cut its streams, and watch the gateway.
import { api, clock, get, hashOf, html, ms, query, useLive, useLoaded, useState } from "./base.js";
import { Card, Code, Empty, Failure, Pill } from "./parts.js";
import { Targets } from "./now.js";

const WORDS = { ok: "Healthy", slow: "Slow", dead: "Dead", cut: "Cut streams", busy: "Rate limited" };
const MEANING = {
  ok: "answers at once", slow: "waits eight seconds before it answers", dead: "closes every connection", cut: "breaks off every stream in the middle",
  busy: "answers 429 with retry-after",
};

const Provider = ({ name, state, behaviours, onSet }) => html`<section class="card provider" aria-label="Provider ${name}" data-provider=${name} data-behaviour=${state.behaviour}>
  <header class="plan-head"><b>${name}</b> <small>${state.type}</small> <${Pill} tone=${state.behaviour === "ok" ? "good" : "bad"}>${WORDS[state.behaviour]}<//></header>
  <div class="actions" role="group" aria-label="Behaviour of ${name}">${behaviours.map((each) => html`<button key=${each} type="button" aria-pressed=${each === state.behaviour ? "true" : "false"} title=${MEANING[each]} onClick=${() => onSet({ provider: name, behaviour: each })}>${WORDS[each]}</button>`)}</div>
  <p class="summary">It ${MEANING[state.behaviour]}. ${state.requests} requests so far.</p>
</section>`;

const Path = ({ call }) => html`<span class="path">${(call.attempts ?? []).map((attempt, index) => html`<span key=${index}>${index > 0 ? " → " : ""}<b>${attempt.target}</b> <${Pill} tone=${attempt.outcome === "ok" ? "good" : "bad"}>${attempt.outcome}<//></span>`)}${call.continued ? html` <${Pill} tone="warn">continued<//>` : ""}</span>`;

const Latest = () => {
  const { value, error } = useLoaded((signal) => get(query("/admin/calls", { limit: 12 }), { signal }), [], 2000);
  return html`<${Card} title="What happens" class="wide"><${Failure} error=${error} />
    ${value?.data.length === 0 && html`<${Empty}>No calls yet: start the traffic.<//>`}
    <ul class="timeline">${value?.data.map((call) => html`<li key=${call.id}><a href=${hashOf("calls", call.id)}>${clock(call.time)}</a> <span class="status ${call.status < 300 ? "good" : call.status < 500 ? "warn" : "bad"}">${call.status}</span> <span>${call.model}</span> <${Path} call=${call} /> <small>${ms(call.ms)}</small></li>`)}</ul><//>`;
};

export const Demo = () => {
  const { data, error } = useLive();
  if (!data) return html`<${Failure} error=${error} /><p class="loading" role="status">Loading…</p>`;
  return data.demo ? html`<${Broken} data=${data} />` : html`<h1>Break it</h1><${Card}><p>This gateway serves real providers, which the page cannot break. Start another one to try it:</p><${Code}>${"lockgate serve --demo"}<//><p>It needs no account: it has the local model and two scripted providers that fail on demand.</p><//>`;
};

const Broken = ({ data }) => {
  const demo = useLoaded((signal) => get("/admin/demo", { signal }), [], 2000);
  const [error, setError] = useState(null);
  const set = async (change) => {
    try { await api("POST", "/admin/demo", change); setError(null); } catch (failure) { setError(failure); }
    demo.reload();
  };
  return html`<h1>Break it</h1><${Failure} error=${error ?? demo.error} />
    ${demo.value && html`<p class="lead">The model <b>${demo.value.model}</b> tries these providers in order, and the local model last. Break one while calls run, and watch the gateway fall back, put it into cooldown, and continue broken streams elsewhere.</p>
      <div class="providers">${Object.entries(demo.value.providers).map(([name, state]) => html`<${Provider} key=${name} name=${name} state=${state} behaviours=${demo.value.behaviours} onSet=${set} />`)}</div>
      <div class="actions"><button type="button" class="primary" aria-pressed=${demo.value.traffic ? "true" : "false"} onClick=${() => set({ traffic: !demo.value.traffic })}>${demo.value.traffic ? "Stop the traffic" : "Start the traffic"}</button><span class="summary">${demo.value.traffic ? "Streams are sent to the model, two a second." : "No calls are sent."}</span></div>`}
    <${Targets} data=${data} />
    <${Latest} />`;
};
