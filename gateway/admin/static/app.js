// The frame of the page: signing in, navigation, colours.
import { api, Component, forget, get, hashOf, html, render, setCsrf, store, stored, useEffect, useHash, useLive, useRef, useState, whenSignedOut } from "./base.js";
import { Failure, Field, Pill } from "./parts.js";
import { Now } from "./now.js";

const VIEWS = [
  ["now", "Now", "M3 12h4l3 8 4-16 3 8h4"],
  ["calls", "Calls", "M4 6h16M4 12h16M4 18h10"],
  ["playground", "Playground", "M5 4l14 8-14 8z"],
  ["keys", "Keys and budgets", "M11.2 12.8a4.5 4.5 0 1 0-6.4 6.4a4.5 4.5 0 0 0 6.4-6.4zM11.2 12.8L20 4M16 8l3 3"],
  ["demo", "Break it", "M13 3L5 14h6l-1 7 8-11h-6z"],
];
const LOADERS = {
  calls: () => import("./calls.js").then((module) => module.Calls),
  playground: () => import("./playground.js").then((module) => module.Playground),
  keys: () => import("./keys.js").then((module) => module.Keys),
  demo: () => import("./demo.js").then((module) => module.Demo),
};
const THEMES = { auto: "System colours", light: "Light", dark: "Dark" };

const Icon = ({ path }) => html`<svg viewBox="0 0 24 24" width="18" height="18" aria-hidden="true"><path d=${path} fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" /></svg>`;

const SignIn = ({ onOpen }) => {
  const [key, setKey] = useState("");
  const [error, setError] = useState(null);
  const signIn = async (event) => {
    event.preventDefault();
    try { onOpen(await api("POST", "/admin/session", { key })); } catch (failure) { setError(failure); }
  };
  return html`<main class="sign-in"><form class="card" onSubmit=${signIn}><h1><img src="/page/icon.svg" alt="" width="28" height="28" /> Lockgate</h1>
    <p>Enter the admin key of this gateway.</p>
    <${Field} label="Admin key"><input type="password" required autocomplete="current-password" value=${key} onInput=${(event) => setKey(event.currentTarget.value)} /><//>
    <${Failure} error=${error} /><button type="submit" class="primary">Sign in</button></form></main>`;
};

/** Shows the error of a view in its place, so that the other views still work. */
class Guard extends Component {
  constructor(props) { super(props); this.state = { error: null }; }

  static getDerivedStateFromError(error) { return { error }; }

  render({ children }, { error }) {
    const reset = () => { forget("draft"); this.setState({ error: null }); };
    return error ? html`<${Failure} error=${error} /><p>The page could not show this view.</p><button type="button" onClick=${reset}>Reset the view</button>` : children;
  }
}

const View = ({ hash }) => {
  const [views, setViews] = useState({ now: Now });
  const [error, setError] = useState(null);
  const main = useRef(null);
  const before = useRef(hash.view);
  const name = VIEWS.some(([view]) => view === hash.view) ? hash.view : "now";
  useEffect(() => {
    if (!views[name]) LOADERS[name]().then((view) => setViews((known) => ({ ...known, [name]: view })), setError);
    if (before.current !== name) { main.current?.focus({ preventScroll: true }); scrollTo(0, 0); }
    before.current = name;
    document.title = `${VIEWS.find(([view]) => view === name)[1]} · Lockgate`;
  }, [name]);
  const Shown = views[name];
  return html`<main id="main" tabindex="-1" ref=${main} data-view=${name}><${Failure} error=${error} />${Shown ? html`<${Guard} key=${name}><${Shown} rest=${hash.rest} params=${hash.params} /><//>` : html`<p class="loading" role="status">Loading…</p>`}</main>`;
};

const State = () => {
  const { data, error } = useLive();
  if (data?.callers) globalThis.lockgateCallers = data.callers;
  const down = data?.targets.filter((target) => target.state !== "live").length ?? 0;
  if (error) return html`<${Pill} tone="bad">not connected<//>`;
  return html`<span class="header-state" role="status">${data ? html`<${Pill} tone=${down ? "warn" : "good"}>${down ? `${down} of ${data.targets.length} targets not live` : "all targets live"}<//>` : ""}</span>`;
};

const Frame = ({ session, onClose }) => {
  const hash = useHash();
  const [theme, setTheme] = useState(stored("theme", "auto"));
  useEffect(() => { document.documentElement.dataset.theme = theme; store("theme", theme); }, [theme]);
  const next = () => setTheme(Object.keys(THEMES)[(Object.keys(THEMES).indexOf(theme) + 1) % 3]);
  const signOut = async () => { try { await api("DELETE", "/admin/session"); } finally { forget("draft"); onClose(); } };
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>Skip to the content</a>
    <header class="top"><a class="brand" href=${hashOf("now")}><img src="/page/icon.svg" alt="" width="26" height="26" /><span>Lockgate</span></a>
      <nav aria-label="Views">${VIEWS.map(([view, label, path]) => html`<a key=${view} href=${hashOf(view)} aria-current=${(hash.view || "now") === view ? "page" : undefined}><${Icon} path=${path} /><span>${label}</span></a>`)}</nav>
      <div class="top-end"><${State} /><button type="button" class="ghost" onClick=${next} aria-label="Colours: ${THEMES[theme]}">${{ auto: "◐", light: "☀", dark: "☾" }[theme]}</button>
        ${session.required && html`<button type="button" class="ghost" onClick=${signOut}>Sign out</button>`}</div></header>
    <${View} hash=${hash} />`;
};

const Page = () => {
  const [session, setSession] = useState(null);
  const [error, setError] = useState(null);
  const open = (found) => { setCsrf(found.csrf); setSession(found); };
  useEffect(() => {
    whenSignedOut(() => setSession({ required: true, open: false, csrf: "" }));
    get("/admin/session").then(open, setError);
  }, []);
  if (error) return html`<main class="sign-in"><${Failure} error=${error} /></main>`;
  if (!session) return null;
  return session.open ? html`<${Frame} session=${session} onClose=${() => open({ required: true, open: false, csrf: "" })} />` : html`<${SignIn} onOpen=${open} />`;
};

document.documentElement.dataset.theme = stored("theme", "auto");
render(html`<${Page} />`, document.getElementById("app"));
