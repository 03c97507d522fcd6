// The base of the page: rendering, requests to the admin API, the data that all views share, and formats of values.
import * as preact from "./vendor/preact.mjs";
import * as hooks from "./vendor/hooks.mjs";
import htm from "./vendor/htm.mjs";

export const html = htm.bind(preact.h);
export const { render } = preact;
export const { Component } = preact;
export const { useState, useEffect, useLayoutEffect, useMemo, useRef, useCallback, useId } = hooks;

// ---- requests

let csrf = "";
let onSignedOut = () => {};

export const setCsrf = (token) => { csrf = token; };
export const whenSignedOut = (action) => { onSignedOut = action; };

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The gateway answered with ${status}.`);
    this.status = status;
    this.code = body?.error?.code ?? null;
    this.param = body?.error?.param ?? null;
  }
}

export async function send(method, path, body, { headers = {}, signal } = {}) {
  const sent = { ...headers };
  if (csrf) sent["x-csrf-token"] = csrf;
  if (body !== undefined) sent["content-type"] = "application/json";
  const text = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
  return fetch(path, { method, headers: sent, body: text, signal, credentials: "same-origin", cache: "no-store" });
}

export async function api(method, path, body, options) {
  const response = await send(method, path, body, options);
  const text = await response.text();
  let value = null;
  try { value = JSON.parse(text); } catch { /* not JSON: the status describes the failure */ }
  if (response.status === 401 && path !== "/admin/session") onSignedOut();
  if (!response.ok) throw new ApiError(response.status, value);
  return value;
}

export const get = (path, options) => api("GET", path, undefined, options);
export const query = (path, params) => {
  const filled = Object.entries(params).filter(([, value]) => value !== "" && value !== null && value !== undefined && value !== false);
  return filled.length ? `${path}?${new URLSearchParams(filled.map(([name, value]) => [name, String(value)]))}` : path;
};
export const isAborted = (error) => error?.name === "AbortError";

// ---- the last 15 minutes, polled for all views

const POLL_MS = 2000;
const POLL_TIMEOUT_MS = 20000; // a gateway that does not answer must not leave old figures on the page unmarked
const live = { data: null, error: null, listeners: new Set(), timer: 0, busy: false };

function tellLive() { for (const listener of live.listeners) listener(); }

function mergePoints(before, now, oldest) {
  const merged = {};
  const first = before ? before.at.findIndex((at) => at > oldest) : -1;
  for (const name of Object.keys(now)) merged[name] = (first < 0 ? [] : before[name].slice(first)).concat(now[name]);
  return merged;
}

async function poll() {
  clearTimeout(live.timer);
  if (live.busy || !live.listeners.size || document.hidden) return;
  live.busy = true;
  try {
    const last = live.data?.points.at.at(-1);
    const fresh = await get(query("/admin/live", { since: last }), { signal: AbortSignal.timeout(POLL_TIMEOUT_MS) });
    if (last !== undefined && last < fresh.now - fresh.window_seconds) live.data = null;
    fresh.points = mergePoints(live.data?.points, fresh.points, fresh.now - fresh.window_seconds);
    live.data = fresh;
    live.error = null;
  } catch (error) {
    live.error = error.name === "TimeoutError" ? new Error("The gateway does not answer.") : error;
  }
  live.busy = false;
  tellLive();
  if (live.listeners.size && live.error?.status !== 401) live.timer = setTimeout(poll, POLL_MS);
}

export function useLive() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const listener = () => redraw((count) => count + 1);
    live.listeners.add(listener);
    poll();
    return () => { live.listeners.delete(listener); if (!live.listeners.size) clearTimeout(live.timer); };
  }, []);
  return { data: live.data, error: live.error };
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

/** Load a value once, again when `keys` change, and every `everyMs` while the page is visible. */
export function useLoaded(load, keys, everyMs = 0) {
  const [state, setState] = useState({ value: null, error: null, loading: true });
  const [asked, setAsked] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    let timer = 0;
    const run = async () => {
      clearTimeout(timer);
      if (document.hidden && everyMs) { timer = setTimeout(run, everyMs); return; }
      try {
        const value = await load(stop.signal);
        if (!stop.signal.aborted) setState({ value, error: null, loading: false });
      } catch (error) {
        if (!isAborted(error) && !stop.signal.aborted) setState((before) => ({ value: before.value, error, loading: false }));
      }
      if (everyMs && !stop.signal.aborted) timer = setTimeout(run, everyMs);
    };
    run();
    return () => { stop.abort(); clearTimeout(timer); };
  }, [...keys, asked]);
  return { ...state, reload: () => setAsked((count) => count + 1) };
}

// ---- addresses: #/view/rest?params

/** Decode a part of an address. A part with an incomplete escape, as in a truncated address, stays as it is. */
function decoded(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

export function readHash() {
  const [path, params = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  return { view: view || "now", rest: rest.map(decoded).join("/"), params: Object.fromEntries(new URLSearchParams(params)) };
}

export const hashOf = (view, rest = "", params = {}) => query(`#/${view}${rest ? `/${encodeURIComponent(rest)}` : ""}`, params);

export function useHash() {
  const [hash, setHash] = useState(readHash());
  useEffect(() => {
    const changed = () => setHash(readHash());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return hash;
}

// ---- values kept in the browser: never secrets

export function stored(name, fallback) {
  try { return JSON.parse(localStorage.getItem(`lockgate.${name}`)) ?? fallback; } catch { return fallback; }
}

export function store(name, value) {
  try { localStorage.setItem(`lockgate.${name}`, JSON.stringify(value)); } catch { /* a private window keeps nothing */ }
}

export function forget(name) {
  try { localStorage.removeItem(`lockgate.${name}`); } catch { /* nothing is kept */ }
}

// ---- formats

const NUMBER = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => NUMBER.format(value);
export const short = (value) => (Math.abs(value) < 10 ? String(Math.round(value * 100) / 100) : Math.abs(value) < 1000 ? String(Math.round(value * 10) / 10) : SHORT.format(value));
export const percent = (share) => (share > 0 && share < 0.001 ? "<0.1 %" : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`);
export function usd(value) {
  if (value === null || value === undefined) return "unknown";
  if (value === 0) return "$0";
  return value >= 0.01 ? `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}` : `$${Number(value.toPrecision(3))}`;
}
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10) return `${Math.round(value * 10) / 10} ms`;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
}
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 90) return `${Math.ceil(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return value < 129600 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} d`;
}
export const clock = (at) => new Date(typeof at === "number" ? at * 1000 : at).toLocaleTimeString("en-GB");
export const moment = (at) => {
  const date = new Date(typeof at === "number" ? at * 1000 : at);
  return `${date.toLocaleDateString("en-CA")} ${date.toLocaleTimeString("en-GB")}`;
};
export const text = (value) => (value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value));
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
