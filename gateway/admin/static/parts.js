// Parts that several views use: cards, buttons, dialogs, meters, charts.
import { clock, count, html, useEffect, useLayoutEffect, useId, useRef, useState } from "./base.js";

export const Card = ({ title, more, children, class: name = "" }) => {
  const id = useId();
  return html`<section class="card ${name}" aria-labelledby=${title ? id : undefined}>
    ${title && html`<header class="card-head"><h2 id=${id}>${title}</h2>${more && html`<div class="card-more">${more}</div>`}</header>`}
    ${children}
  </section>`;
};

const TONES = { live: "good", ready: "good", ok: "good", probing: "warn", pending: "warn", starting: "warn", cooling: "bad", firing: "bad", failed: "bad" };
export const Pill = ({ tone, children }) => html`<span class="pill ${TONES[tone] ?? tone ?? ""}">${children}</span>`;

export const Note = ({ tone = "", children }) => html`<p class="note ${tone}" role=${tone === "bad" ? "alert" : undefined}>${children}</p>`;
export const Failure = ({ error }) => error && html`<${Note} tone="bad">${error.message}<//>`;
export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

export const Field = ({ label, hint, children, class: name = "" }) => {
  const id = useId();
  const control = Array.isArray(children) ? children.find(Boolean) : children;
  control.props.id = id;
  if (hint) control.props["aria-describedby"] = `${id}-hint`;
  return html`<div class="field ${name}"><label for=${id}>${label}</label>${control}${hint && html`<small id="${id}-hint">${hint}</small>`}</div>`;
};

export const Select = ({ options, value, onChange, ...rest }) => html`<select ...${rest} value=${value} onChange=${(event) => onChange(event.currentTarget.value)}>
  ${options.map((option) => {
    const [key, label] = Array.isArray(option) ? option : [option, option];
    return html`<option key=${key} value=${key} selected=${key === value}>${label}</option>`;
  })}
</select>`;

/** Buttons of which one is chosen. Arrow keys move the choice, as in every tab list. */
export const Tabs = ({ label, options, value, onChange, controls }) => {
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const index = options.findIndex(([key]) => key === value);
    const next = options[(index + step + options.length) % options.length][0];
    onChange(next);
    event.currentTarget.querySelector(`[data-tab="${next}"]`)?.focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>
    ${options.map(([key, title]) => html`<button key=${key} type="button" role="tab" data-tab=${key} id="${controls}-${key}" aria-controls=${controls}
      aria-selected=${key === value ? "true" : "false"} tabindex=${key === value ? 0 : -1} onClick=${() => onChange(key)}>${title}</button>`)}
  </div>`;
};

/** Copy a text. Without TLS, browsers offer the clipboard only through a selection, except on loopback. */
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  if (!isDone) throw new Error("The browser does not copy.");
  return undefined;
}

export const Copy = ({ text, label = "Copy" }) => {
  const [done, setDone] = useState("");
  const copy = async () => {
    try { await copyText(text); setDone("Copied"); } catch { setDone("The browser did not copy"); }
    setTimeout(() => setDone(""), 2500);
  };
  return html`<button type="button" class="ghost" onClick=${copy}><span aria-live="polite">${done || label}</span></button>`;
};

export const Code = ({ children, label = "Code", copy = true }) => html`<div class="code">
  ${copy && html`<div class="code-tools"><${Copy} text=${children} /></div>`}
  <pre tabindex="0" aria-label=${label}><code>${children}</code></pre>
</div>`;

/** A modal dialog of the browser: it keeps the focus inside and closes on Escape. */
export const Dialog = ({ title, onClose, children }) => {
  const box = useRef(null);
  const id = useId();
  useEffect(() => {
    const opener = document.activeElement;
    const dialog = box.current;
    dialog.showModal();
    return () => { dialog.close(); opener?.focus?.(); }; // while the dialog is open, nothing outside can have the focus
  }, []);
  return html`<dialog ref=${box} aria-labelledby=${id} onClose=${onClose} onCancel=${onClose}>
    <header class="card-head"><h2 id=${id}>${title}</h2><button type="button" class="ghost" aria-label="Close" onClick=${onClose}>✕</button></header>
    ${children}
  </dialog>`;
};

const AT_FIRST = 100;

/** A list of which the first entries are shown, and the others on demand: a browser cannot redraw thousands every few seconds. */
export const LongList = ({ items, class: name, children: draw }) => {
  const [length, setLength] = useState(AT_FIRST);
  return html`<ul class=${name}>${items.slice(0, length).map(draw)}</ul>
    ${items.length > length && html`<button type="button" class="ghost" onClick=${() => setLength(length + AT_FIRST)}>Show more (${count(items.length - length)} not shown)</button>`}`;
};

/** A bar that shows which part of a whole is used. */
export const Meter = ({ share, label, value, tone }) => {
  const used = Math.max(0, Math.min(1, share || 0));
  return html`<div class="meter ${tone ?? (used >= 1 ? "bad" : used > 0.8 ? "warn" : "")}" role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax="100"
    aria-valuenow=${Math.round(used * 100)} aria-valuetext=${value}><span style=${{ width: `${used * 100}%` }}></span></div>`;
};

export function useWidth() {
  const box = useRef(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const measure = () => setWidth(Math.floor(box.current?.clientWidth ?? 0));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  return [box, width];
}

const HEIGHT = 84;

/**
 * A chart over time. `bars` are stacked, `lines` are drawn over them: [{ name, color, values }], with null where there is no value.
 * The pointer or the arrow keys select a time, and its values are shown above the chart.
 */
export const Chart = ({ label, at, bars = [], lines = [], format, height = HEIGHT }) => {
  const [box, width] = useWidth();
  const [chosen, setChosen] = useState(null);
  const length = at.length;
  const sums = at.map((_, index) => bars.reduce((sum, series) => sum + (series.values[index] ?? 0), 0));
  const peak = Math.max(0, ...sums, ...lines.flatMap((series) => series.values.map((value) => value ?? 0)));
  const top = peak || 1;
  const step = width / Math.max(1, length);
  const y = (value) => height - 4 - (value / top) * (height - 10);
  const select = (event) => {
    const place = event.clientX - box.current.getBoundingClientRect().left;
    setChosen(Math.max(0, Math.min(length - 1, Math.floor(place / step))));
  };
  const keys = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    setChosen((index) => Math.max(0, Math.min(length - 1, (index ?? length) + move)));
  };
  const shown = chosen === null || chosen >= length ? null : chosen;
  const values = shown === null ? "" : [...bars, ...lines].filter((series) => series.values[shown] !== null)
    .map((series) => `${series.name} ${format(series.values[shown])}`).join(" · ");
  return html`<div class="chart" ref=${box} tabindex="0" role="group" aria-label="${label}. Arrow keys show single values."
    onPointerMove=${select} onPointerLeave=${() => setChosen(null)} onKeyDown=${keys} onBlur=${() => setChosen(null)}>
    <div class="chart-tip" aria-live="polite">${shown === null ? "" : html`<b>${clock(at[shown])}</b> ${values}`}</div>
    <svg width=${width} height=${height} viewBox="0 0 ${Math.max(1, width)} ${height}" aria-hidden="true">
      <line class="axis" x1="0" x2=${width} y1=${height - 3.5} y2=${height - 3.5} />
      ${bars.length > 0 && at.map((_, index) => stack(bars, index, step, y, shown === index))}
      ${lines.map((series) => html`<path key=${series.name} class="line ${series.color}" d=${pathOf(series.values, step, y)} />`)}
      ${shown !== null && html`<line class="cursor" x1=${(shown + 0.5) * step} x2=${(shown + 0.5) * step} y1="0" y2=${height - 4} />`}
    </svg>
    <div class="chart-times" aria-hidden="true"><span>${length ? clock(at[0]).slice(0, 5) : ""}</span><span>now</span></div>
  </div>`;
};

function stack(bars, index, step, y, isChosen) {
  let below = 0;
  return bars.map((series) => {
    const value = series.values[index] ?? 0;
    if (!value) return null;
    const [low, high] = [y(below), y(below + value)];
    below += value;
    return html`<rect key="${series.name}${index}" class="bar ${series.color} ${isChosen ? "chosen" : ""}" x=${index * step + 0.5} y=${high}
      width=${Math.max(0.5, step - 1)} height=${Math.max(0.75, low - high)} />`;
  });
}

function pathOf(values, step, y) {
  let path = "";
  let open = false;
  values.forEach((value, index) => {
    if (value === null) { open = false; return; }
    path += `${open ? "L" : "M"}${((index + 0.5) * step).toFixed(1)} ${y(value).toFixed(1)}${open ? "" : "h.01"}`;
    open = true;
  });
  return path;
}

/** The route of a model: an order or a split of targets and other models, with the share of the calls that each target served. */
export const Route = ({ node, shares = {}, total = 0 }) => {
  if (!node) return null;
  if (node.order) {
    if (node.order.length === 1) return html`<${Route} node=${node.order[0]} shares=${shares} total=${total} />`;
    return html`<div class="route"><span class="route-kind">in this order</span><ol>${node.order.map((each, index) => html`<li key=${index}><${Route} node=${each} shares=${shares} total=${total} /></li>`)}</ol></div>`;
  }
  if (node.split) {
    return html`<div class="route"><span class="route-kind" title=${node.how}>split, ${node.balance}</span><ul>${node.split.map((each, index) => html`<li key=${index}><b class="weight">${Math.round(each.share * 100)} %</b><${Route} node=${each} shares=${shares} total=${total} /></li>`)}</ul></div>`;
  }
  if (node.model) return html`<div class="route"><span class="route-kind">model ${node.model}</span><${Route} node=${node.route} shares=${shares} total=${total} /></div>`;
  const share = total ? (shares[node.target] ?? 0) / total : 0;
  return html`<div class="leaf"><span class="dot ${node.state ?? "live"}" aria-hidden="true"></span><span class="leaf-name">${node.target}</span>
    ${node.state && html`<${Pill} tone=${node.state}>${node.state === "cooling" ? "in cooldown" : node.state}<//>`}
    ${node.skipped && html`<small>skipped: ${node.skipped}</small>`}
    ${total > 0 && html`<span class="leaf-share"><${Meter} share=${share} tone="plain" label="Share of ${node.target}" value="${Math.round(share * 100)} %" /><span>${Math.round(share * 100)} %</span></span>`}
  </div>`;
};
