// The playground: write a request, see what each target would receive, send it, and read the receipt.
import { api, count, get, hashOf, html, isAborted, ms, send, store, stored, text, usd, useEffect, useLoaded, useMemo, useRef, useState } from "./base.js";
import { Card, Code, Empty, Failure, Field, Note, Pill, Select, Tabs } from "./parts.js";
import { programs } from "./code.js";
import { call } from "./streams.js";

const DOORS = [["/v1/chat/completions", "Chat completions"], ["/v1/messages", "Messages"], ["/v1/responses", "Responses"]];
const WRITTEN = new Set(["messages", "input", "instructions", "system", "stream", "tools"]);
const START = { model: "", door: DOORS[0][0], system: "", messages: [{ role: "user", text: "What is the capital of France?", images: [] }], tools: "", params: { max_tokens: "64" }, stream: true };
const EXPLAIN_DELAY_MS = 250;

// ---- the request

const MEDIA = /^data:(image\/[a-z+.-]+);base64,(.*)$/s;

function contentOf(message, door) {
  if (!message.images.length) return message.text;
  const images = message.images.map((url) => {
    const [, kind, data] = MEDIA.exec(url) ?? [];
    if (door === "/v1/messages") return { type: "image", source: { type: "base64", media_type: kind, data } };
    return door === "/v1/responses" ? { type: "input_image", image_url: url } : { type: "image_url", image_url: { url } };
  });
  return [{ type: door === "/v1/responses" ? "input_text" : "text", text: message.text }, ...images];
}

/** Return the tools in the format of the API at `door`; the editor has them in the format of chat completions. */
function toolsOf(source, door) {
  const tools = JSON.parse(source);
  if (!Array.isArray(tools) || door === "/v1/chat/completions") return tools;
  return tools.map((tool) => {
    if (!tool?.function) return tool;
    const { name, description, parameters } = tool.function;
    return door === "/v1/messages" ? { name, ...(description ? { description } : {}), input_schema: parameters ?? { type: "object" } } : { type: "function", name, ...(description ? { description } : {}), parameters: parameters ?? { type: "object" } };
  });
}

function valueOf(source, schema) {
  const kinds = kindsOf(schema);
  if (kinds.includes("boolean") && (source === "true" || source === "false")) return source === "true";
  if ((kinds.includes("number") || kinds.includes("integer")) && source.trim() !== "" && Number.isFinite(Number(source))) return Number(source);
  if (kinds.includes("string") && !kinds.includes("array") && !kinds.includes("object")) return source;
  try { return JSON.parse(source); } catch { if (kinds.includes("string")) return source; throw new SyntaxError("not JSON"); }
}

function kindsOf(schema) {
  if (!schema) return [];
  const own = schema.type === undefined ? [] : [schema.type].flat();
  const enums = (schema.enum ?? []).map((value) => (value === null ? "null" : typeof value));
  return [...new Set([...own, ...enums, ...(schema.anyOf ?? []).flatMap(kindsOf)])].filter((kind) => kind !== "null");
}

/** Return the body of the request and the problems of its parts. */
export function bodyOf(draft, schemas) {
  const { door } = draft;
  const problems = {};
  const turns = draft.messages.map((message) => ({ role: message.role, content: contentOf(message, door) }));
  const body = { model: draft.model };
  if (door === "/v1/chat/completions") body.messages = [...(draft.system ? [{ role: "system", content: draft.system }] : []), ...turns];
  else if (door === "/v1/messages") { if (draft.system) body.system = draft.system; body.messages = turns; } else { if (draft.system) body.instructions = draft.system; body.input = turns; }
  if (draft.tools.trim()) { try { body.tools = toolsOf(draft.tools, door); } catch (error) { problems.tools = `The tools are not valid JSON: ${error.message}`; } }
  for (const [name, source] of Object.entries(draft.params)) {
    if (source === "") continue;
    const sent = door === "/v1/responses" && name === "max_tokens" ? "max_output_tokens" : name;
    try { body[sent] = valueOf(source, schemas?.[door]?.[sent] ?? {}); } catch { problems[name] = `The value of ${name} is not valid JSON.`; }
  }
  if (draft.stream) body.stream = true;
  return { body, problems };
}

/** Return the draft of a request's body, or null if the editor cannot show all its messages. */
export function draftOf(door, body) {
  const { model, messages, input, system, instructions, tools, stream, ...params } = body;
  const given = typeof input === "string" ? [{ role: "user", content: input }] : messages ?? input;
  const [first, ...rest] = Array.isArray(given) ? given : [];
  const isSystem = first?.role === "system" && typeof first.content === "string";
  const turns = isSystem ? rest : given;
  const isShown = (turn) => (turn.role === "user" || turn.role === "assistant") && typeof turn.content === "string" && Object.keys(turn).every((name) => ["role", "content", "type"].includes(name));
  const above = system ?? instructions ?? (isSystem ? first.content : "");
  if (!Array.isArray(turns) || !turns.length || !turns.every(isShown) || typeof above !== "string" || !DOORS.some(([path]) => path === door)) return null;
  return {
    model, door, system: above, messages: turns.map(({ role, content }) => ({ role, text: content, images: [] })), tools: tools ? JSON.stringify(tools, null, 2) : "",
    params: Object.fromEntries(Object.entries(params).map(([name, value]) => [name, text(value)])), stream: stream === true,
  };
}

// ---- the editor

const Messages = ({ messages, onChange }) => {
  const set = (index, fields) => onChange(messages.map((message, at) => (at === index ? { ...message, ...fields } : message)));
  const attach = (index, files) => Promise.all([...files].map((file) => new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(file);
  }))).then((images) => set(index, { images: [...messages[index].images, ...images] }));
  return html`<fieldset class="messages"><legend>Messages</legend>
    ${messages.map((message, index) => html`<div class="message" key=${index}>
      <div class="message-head">
        <${Select} aria-label="Role of message ${index + 1}" options=${["user", "assistant"]} value=${message.role} onChange=${(role) => set(index, { role })} />
        <label class="ghost file">Add image<input type="file" accept="image/*" multiple aria-label="Add an image to message ${index + 1}" onChange=${(event) => { attach(index, event.currentTarget.files); event.currentTarget.value = ""; }} /></label>
        ${messages.length > 1 && html`<button type="button" class="ghost" aria-label="Remove message ${index + 1}" onClick=${() => onChange(messages.filter((_, at) => at !== index))}>Remove</button>`}
      </div>
      <textarea rows="3" aria-label="Message ${index + 1}" value=${message.text} onInput=${(event) => set(index, { text: event.currentTarget.value })}></textarea>
      ${message.images.length > 0 && html`<div class="images">${message.images.map((url, at) => html`<button key=${at} type="button" class="ghost" aria-label="Remove image ${at + 1}" onClick=${() => set(index, { images: message.images.filter((_, each) => each !== at) })}><img src=${url} alt="" /></button>`)}</div>`}
    </div>`)}
    <button type="button" class="ghost add" onClick=${() => onChange([...messages, { role: messages.at(-1)?.role === "user" ? "assistant" : "user", text: "", images: [] }])}>Add message</button>
  </fieldset>`;
};

const Parameters = ({ params, schemas, onChange, problems }) => {
  const names = Object.keys(schemas ?? {}).filter((name) => !WRITTEN.has(name)).sort();
  const free = names.filter((name) => !(name in params));
  const without = (name) => Object.fromEntries(Object.entries(params).filter(([each]) => each !== name));
  return html`<fieldset class="params"><legend>Parameters</legend>
    ${Object.entries(params).map(([name, source]) => {
      const kinds = kindsOf(schemas?.[name]);
      const values = schemas?.[name]?.enum?.filter((value) => value !== null).map(String);
      const set = (value) => onChange({ ...params, [name]: value });
      const control = kinds.length === 1 && kinds[0] === "boolean" ? html`<${Select} options=${["", "true", "false"]} value=${source} onChange=${set} aria-label=${name} />`
        : values ? html`<${Select} options=${["", ...values]} value=${source} onChange=${set} aria-label=${name} />`
          : html`<input aria-label=${name} value=${source} spellcheck=${false} inputmode=${kinds.length === 1 && kinds[0] !== "string" && kinds[0] !== "object" && kinds[0] !== "array" ? "decimal" : "text"} placeholder=${kinds.join(" or ") || "JSON"} onInput=${(event) => set(event.currentTarget.value)} />`;
      return html`<div class="param" key=${name}><code>${name}</code>${control}<button type="button" class="ghost" aria-label="Remove ${name}" onClick=${() => onChange(without(name))}>✕</button>
        ${problems[name] && html`<${Note} tone="bad">${problems[name]}<//>`}</div>`;
    })}
    <${Select} aria-label="Add a parameter" value="" options=${[["", "Add a parameter…"], ...free.map((name) => [name, name])]} onChange=${(name) => name && onChange({ ...params, [name]: "" })} />
  </fieldset>`;
};

// ---- what each target would receive

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The lines of an upstream body: its members, marked by whether they differ from those of the caller's request. */
function linesOf(sent, original) {
  const lines = [];
  const show = (name, value) => `${JSON.stringify(name)}: ${JSON.stringify(value, null, 2)}`.replaceAll("\n", "\n  ");
  for (const [name, value] of Object.entries(sent)) {
    const mark = !(name in original) ? "add" : same(value, original[name]) ? "" : "change";
    lines.push({ mark, source: show(name, value) });
  }
  for (const [name, value] of Object.entries(original)) if (!(name in sent)) lines.push({ mark: "remove", source: show(name, value) });
  return lines;
}

const MARKS = { add: "+", remove: "−", change: "~", "": " " };
const SAID = { add: "added: ", remove: "removed: ", change: "changed: ", "": "" };

export const Plan = ({ target, original }) => html`<section class="plan card" aria-label="Request to ${target.target}">
  <header class="plan-head"><b>${target.target}</b> <small>${target.type}</small> ${"native" in target && html`<${Pill} tone=${target.native ? "good" : ""}>${target.native ? "native" : "translated"}<//>`}</header>
  ${target.translated_because && html`<p class="why">translated because ${target.translated_because}</p>`}
  ${target.error && html`<${Note} tone="bad">${target.error.param ? `${target.error.param}: ` : ""}${target.error.message}<//>`}
  ${target.adjustments && html`<ul class="adjustments">${target.adjustments.length === 0 ? html`<li class="none">nothing is adjusted</li>` : target.adjustments.map((each, index) => html`<li key=${index}><code>${each.param}</code> <${Pill} tone="warn">${each.action}<//>
    ${each.from !== undefined && each.from !== null && html` <del>${text(each.from)}</del>`}${each.to !== undefined && each.to !== null && html` → <ins>${text(each.to)}</ins>`}${each.why && html` <small>${each.why}</small>`}</li>`)}</ul>`}
  ${target.request && html`<p class="url"><code>${target.request.method} ${target.request.url}</code></p>
    <pre class="body" tabindex="0" aria-label="Body for ${target.target}">${linesOf(target.request.body ?? target.request.bodies?.[0] ?? {}, original).map((line, index) => html`<span key=${index} class="l-${line.mark || "same"}"><span aria-hidden="true">${MARKS[line.mark]} </span><span class="sr-only">${SAID[line.mark]}</span>${line.source}${"\n"}</span>`)}</pre>
    <details><summary>Headers</summary><pre tabindex="0" aria-label="Headers for ${target.target}">${Object.entries(target.request.headers).map(([name, value]) => `${name}: ${value}\n`)}</pre></details>`}
  ${target.context && html`<small>context: ${Object.entries(target.context).filter(([, value]) => value !== null).map(([name, value]) => `${name.replaceAll("_", " ")} ${text(value)}`).join(", ")}</small>`}
</section>`;

function useExplanation(path, body, isReady) {
  const [state, setState] = useState({ plan: null, error: null, busy: false });
  const source = JSON.stringify(body);
  useEffect(() => {
    if (!isReady) return undefined;
    const stop = new AbortController();
    setState((before) => ({ ...before, busy: true }));
    const timer = setTimeout(async () => {
      try { setState({ plan: await api("POST", "/admin/explain", { path, body }, { signal: stop.signal }), original: JSON.parse(source), error: null, busy: false }); } catch (error) {
        if (!isAborted(error)) setState({ plan: null, error, busy: false });
      }
    }, EXPLAIN_DELAY_MS);
    return () => { clearTimeout(timer); stop.abort(); };
  }, [path, source, isReady]);
  return state;
}

const Explain = ({ path, body, isReady }) => {
  const { plan, original, error, busy } = useExplanation(path, body, isReady);
  return html`<div aria-busy=${busy ? "true" : "false"} data-explained=${plan && !busy ? "true" : "false"}><${Failure} error=${error} />
    ${plan?.refused && html`<${Note} tone="bad">This call would be refused with ${plan.status}${plan.refused.param ? ` because of ${plan.refused.param}` : ""}: ${plan.refused.message}<//>`}
    ${plan?.targets && html`<p class="summary">${plan.model}${plan.route !== plan.model ? ` (by ${plan.route})` : ""}: what each target would receive, in the order of the route. ${plan.strict ? "Strict: no lossy change is made." : ""}</p>
      <div class="plans">${plan.targets.map((target) => html`<${Plan} key=${target.target} target=${target} original=${original} />`)}</div>`}
    ${!plan && !error && html`<${Empty}>Choose a model to see what its targets would receive.<//>`}</div>`;
};

// ---- answers

const PHASES = { waiting: "waiting", streaming: "streaming", done: "ok", stopped: "pending", failed: "failed" };

const Receipt = ({ receipt }) => html`<div class="receipt">
  <ol class="attempts">${receipt.attempts.map((each, index) => html`<li key=${index}><b>${each.target}</b> <${Pill} tone=${each.outcome === "ok" ? "good" : "bad"}>${each.outcome}<//> <small>${ms(each.ms)}</small></li>`)}</ol>
  ${receipt.adjustments?.length > 0 && html`<ul class="adjustments">${receipt.adjustments.map((each, index) => html`<li key=${index}><code>${each.param}</code> <${Pill} tone="warn">${each.action}<//>${each.from !== undefined && each.from !== null && html` <del>${text(each.from)}</del>`}${each.to !== undefined && each.to !== null && html` → <ins>${text(each.to)}</ins>`}</li>`)}</ul>`}
  ${receipt.continued && html`<p>continued: ${receipt.continued.map((each) => text(each)).join(", ")}</p>`}
  <dl class="figures">${Object.entries(receipt.timings ?? {}).filter(([, value]) => typeof value === "number").map(([name, value]) => html`<div key=${name}><dt>${name.replace(/_ms$/, "").replaceAll("_", " ")}</dt><dd>${ms(value)}</dd></div>`)}
    <div><dt>cost</dt><dd>${usd(receipt.cost_usd)}</dd></div></dl>
  <details><summary>The whole receipt</summary><${Code} label="Receipt">${JSON.stringify(receipt, null, 2)}<//></details>
</div>`;

const Answer = ({ model, state }) => html`<section class="answer card" aria-label="Answer of ${model}" data-phase=${state.phase}>
  <header class="plan-head"><b>${model}</b> ${state.target && html`<small>${state.target}</small>`} <${Pill} tone=${PHASES[state.phase]}>${state.phase}<//></header>
  ${state.reasoning && html`<details><summary>Reasoning</summary><p class="prose">${state.reasoning}</p></details>`}
  <p class="prose answer-text" aria-live="off">${state.text}${state.phase === "streaming" && html`<span class="caret" aria-hidden="true"></span>`}</p>
  ${state.tools.length > 0 && html`<${Code} label="Tool calls">${state.tools.join("").trimStart()}<//>`}
  ${state.error && html`<${Note} tone="bad">${state.status && state.status !== 200 ? `${state.status}: ` : ""}${state.error}<//>`}
  <dl class="figures">
    <div><dt>first token</dt><dd>${ms(state.firstMs)}</dd></div><div><dt>total</dt><dd>${ms(state.totalMs)}</dd></div>
    ${state.usage && html`<div><dt>tokens</dt><dd>${count(state.usage.prompt ?? 0)} + ${count(state.usage.output ?? 0)}</dd></div>
      ${state.totalMs && state.usage.output ? html`<div><dt>speed</dt><dd>${(state.usage.output / Math.max(0.001, (state.totalMs - (state.firstMs ?? 0)) / 1000)).toFixed(0)} tokens/s</dd></div>` : ""}`}
    ${state.finish && html`<div><dt>finish</dt><dd>${state.finish}</dd></div>`}
  </dl>
  ${state.receipt && html`<${Receipt} receipt=${state.receipt} />`}
  ${state.id && html`<p><a href=${hashOf("calls", state.id)}>This call in the record</a></p>`}
</section>`;

// ---- token probabilities

/** Return the tokens and their probabilities, the likeliest first. JavaScript moves keys such as "7" to the front of an object. */
export const likeliest = (logits) => Object.entries(logits).sort((one, next) => next[1] - one[1]);

const Tokens = ({ draft, models, virtualKey }) => {
  const [written, setWritten] = useState("");
  const [state, setState] = useState({ bars: null, error: null, busy: false });
  const choices = models.filter((model) => model.targets.some((target) => target.startsWith("local/")));
  const [model, setModel] = useState(choices.find((each) => each.id === draft.model)?.id ?? choices[0]?.id ?? draft.model);
  const ask = async (continued) => {
    setState((before) => ({ ...before, busy: true, error: null }));
    const turns = [...(draft.system ? [{ role: "system", content: draft.system }] : []), ...draft.messages.map((message) => ({ role: message.role, content: message.text }))];
    const messages = continued ? [...turns, { role: "assistant", content: continued }] : turns;
    try {
      const response = await send("POST", "/admin/relay/v1/chat/logits", { model, messages, top_k: 12 }, { headers: virtualKey ? { "x-virtual-key": virtualKey } : {} });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error?.message ?? `The gateway answered with ${response.status}.`);
      setWritten(continued);
      setState({ bars: likeliest(answer.logits), emulated: answer.emulated, error: null, busy: false });
    } catch (error) { setState({ bars: null, error, busy: false }); }
  };
  return html`<div class="tokens"><p class="summary">The likeliest next tokens of the answer. Choose one to continue with it.</p>
    <div class="actions"><${Field} label="Model"><${Select} options=${models.map((each) => each.id)} value=${model} onChange=${setModel} /><//>
      <button type="button" disabled=${state.busy} onClick=${() => ask("")}>Show probabilities</button>
      ${written && html`<button type="button" class="ghost" onClick=${() => ask("")}>Start again</button>`}</div>
    <${Failure} error=${state.error} />
    ${state.bars && html`<p class="prose written" aria-label="Answer so far">${written || html`<i>the answer begins here</i>`}<span class="caret" aria-hidden="true"></span></p>
      <ol class="bars" aria-busy=${state.busy ? "true" : "false"}>${state.bars.map(([token, share]) => html`<li key=${token}><button type="button" class="token" disabled=${state.busy} onClick=${() => ask(written + token)}><span class="sr-only">Continue with</span>
        <code>${JSON.stringify(token).slice(1, -1).replaceAll(" ", "␣") || "∅"}</code><span class="token-bar"><span style=${{ width: `${share * 100}%` }}></span></span><span>${(share * 100).toFixed(1)} %</span></button></li>`)}</ol>
      ${state.emulated && html`<small>The provider lists only its likeliest tokens.</small>`}`}
  </div>`;
};

const Programs = ({ path, body }) => {
  const [language, setLanguage] = useState("curl");
  const shown = programs(path, body);
  return html`<${Tabs} label="Language" controls="program" value=${language} onChange=${setLanguage} options=${[["curl", "curl"], ["python", "Python"], ["node", "Node"]]} />
    <div id="program" role="tabpanel" aria-labelledby="program-${language}"><${Code} label="The call in ${language}">${shown[language]}<//></div>`;
};

// ---- the view

function useCalls() {
  const [states, setStates] = useState({});
  const stop = useRef(null);
  const start = async (path, bodies, key) => {
    stop.current?.abort();
    stop.current = new AbortController();
    setStates({});
    await Promise.all(bodies.map((body, index) => call(path, body, { key, signal: stop.current.signal, onChange: (state) => setStates((before) => ({ ...before, [index]: { ...state, model: body.model } })) })));
  };
  useEffect(() => () => stop.current?.abort(), []);
  const isRunning = Object.values(states).some((state) => state.phase === "waiting" || state.phase === "streaming");
  return { states: Object.values(states), start, stop: () => stop.current?.abort(), isRunning };
}

export const Playground = ({ params }) => {
  const models = useLoaded((signal) => get("/admin/models", { signal }), []);
  const schemas = useLoaded((signal) => get("/admin/parameters", { signal }), []);
  const names = models.value?.data.map((model) => model.id) ?? [];
  const [draft, setDraft] = useState(() => ({ ...START, ...stored("draft", {}), ...(params.model ? { model: params.model } : {}), ...(DOORS.some(([path]) => path === params.door) ? { door: params.door } : {}) }));
  const [wantedOther, setOther] = useState("");
  const [key, setKey] = useState("");
  const [tab, setTab] = useState("explain");
  const calls = useCalls();
  const set = (fields) => setDraft((before) => { const next = { ...before, ...fields }; store("draft", { ...next, messages: next.messages.map((message) => ({ ...message, images: [] })) }); return next; });
  const model = names.includes(draft.model) || (draft.model && params.model === draft.model) ? draft.model : names[0] ?? "";
  const other = wantedOther !== model && names.includes(wantedOther) ? wantedOther : "";
  const { body, problems } = useMemo(() => bodyOf({ ...draft, model }, schemas.value), [draft, model, schemas.value]);
  const isReady = Boolean(model) && Boolean(schemas.value) && Object.keys(problems).length === 0;
  const needsKey = globalThis.lockgateCallers?.requires_keys;
  const run = (event) => { event.preventDefault(); if (isReady) { setTab("answer"); calls.start(draft.door, [body, ...(other ? [{ ...body, model: other }] : [])], key); } };
  const options = model && !names.includes(model) ? [model, ...names] : names;
  return html`<h1>Playground</h1><${Failure} error=${models.error ?? schemas.error} /><div class="playground">
    <form class="card editor" onSubmit=${run}>
      <div class="pair"><${Field} label="Model"><${Select} options=${options} value=${model} onChange=${(value) => set({ model: value })} /><//>
        <${Field} label="Compare with"><${Select} options=${[["", "no other model"], ...names.filter((name) => name !== model).map((name) => [name, name])]} value=${other} onChange=${setOther} /><//></div>
      <${Field} label="API"><${Select} options=${DOORS} value=${draft.door} onChange=${(door) => set({ door })} /><//>
      ${needsKey && html`<${Field} label="Virtual key" hint="Sent with each call, and kept only until the page is closed."><input type="password" autocomplete="off" value=${key} onInput=${(event) => setKey(event.currentTarget.value)} /><//>`}
      <${Field} label="System"><textarea rows="2" value=${draft.system} onInput=${(event) => set({ system: event.currentTarget.value })}></textarea><//>
      <${Messages} messages=${draft.messages} onChange=${(messages) => set({ messages })} />
      <details><summary>Tools</summary><textarea class="mono" rows="5" aria-label="Tools as JSON" spellcheck=${false} placeholder='[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]' value=${draft.tools} onInput=${(event) => set({ tools: event.currentTarget.value })}></textarea></details>
      ${problems.tools && html`<${Note} tone="bad">${problems.tools}<//>`}
      <${Parameters} params=${draft.params} schemas=${schemas.value?.[draft.door]} problems=${problems} onChange=${(changed) => set({ params: changed })} />
      <div class="actions sticky"><button type="submit" class="primary" disabled=${!isReady}>Send</button>
        ${calls.isRunning && html`<button type="button" onClick=${calls.stop}>Stop</button>`}
        <label class="check"><input type="checkbox" checked=${draft.stream} onChange=${(event) => set({ stream: event.currentTarget.checked })} /> stream</label>
        <button type="button" class="ghost" onClick=${() => set({ ...START, model })}>Reset</button></div>
    </form>
    <div class="results"><${Tabs} label="Result" controls="result" value=${tab} onChange=${setTab} options=${[["explain", "Explain"], ["answer", "Answer"], ["tokens", "Tokens"], ["code", "Code"]]} />
      <div id="result" role="tabpanel" aria-labelledby="result-${tab}">
        ${tab === "explain" && html`<${Explain} path=${draft.door} body=${body} isReady=${isReady} />${other && html`<h2>${other}</h2><${Explain} path=${draft.door} body=${{ ...body, model: other }} isReady=${isReady} />`}`}
        ${tab === "answer" && (calls.states.length ? html`<div class="answers">${calls.states.map((state) => html`<${Answer} key=${state.model} model=${state.model} state=${state} />`)}</div><p class="sr-only" role="status">${calls.isRunning ? "The answer is arriving." : `Finished. ${calls.states.map((state) => state.text).join(" ")}`}</p>` : html`<${Empty}>Nothing has been sent yet.<//>`)}
        ${tab === "tokens" && html`<${Tokens} draft=${{ ...draft, model }} models=${models.value?.data ?? []} virtualKey=${key} />`}
        ${tab === "code" && html`<${Programs} path=${draft.door} body=${body} />`}
      </div></div>
  </div>`;
};
