// The frame of the dashboard: the bar with pages, namespace and state, the address, the secret, and the page that is shown.
//
// The address after # says what is shown: `#/queues?ns=jobs&queue=mail`. A page is a module with `open(view)`; it draws into `view.root` and
// may give { update() }, called when only its own parameters have changed; without it, or where it gives false, the page is opened anew.

import { ConnectionLost, Flo, UNAUTHORIZED } from "./flo.js";
import { problems } from "./health.js";
import IMPORTS from "./imports.js";
import { Live } from "./live.js";
import { attempt, dialog, done, field, fill, h, link } from "./ui.js";

const PAGES = [
  { path: "", title: "Overview", file: "page_overview.js", load: () => import("./page_overview.js") },
  { path: "keys", title: "Keys", file: "page_keys.js", load: () => import("./page_keys.js") },
  { path: "queues", title: "Queues", file: "page_queues.js", load: () => import("./page_queues.js") },
  { path: "actions", title: "Actions", file: "page_actions.js", load: () => import("./page_actions.js") },
  { path: "streams", title: "Streams", file: "page_streams.js", load: () => import("./page_streams.js") },
  { path: "timeseries", title: "Time series", file: "page_timeseries.js", load: () => import("./page_timeseries.js") },
  { path: "server", title: "Server", file: "page_server.js", load: () => import("./page_server.js") },
];
const SECRET = "flo-secret"; // in this tab's storage only
const THEME = "flo-theme";
const SHOWN_STATES = { open: "Connected", connecting: "Connecting…", closed: "Connection lost", ended: "Closed" };

/** Have a page's modules loaded, all at once. */
function preload({ file }) {
  for (const name of [file, ...IMPORTS[file]]) document.head.append(h("link", { rel: "modulepreload", href: name }));
}

const at = (id) => document.getElementById(id);
const flo = new Flo(undefined, { secret: sessionStorage.getItem(SECRET) ?? "" });
const live = new Live(flo);

/** What a page has to do with the rest. It ends when another page is opened. */
class View {
  constructor(page, params) {
    this.page = page;
    this.params = params;
    this.root = at("main");
    this.flo = flo;
    this.live = live;
    this.namespace = params.get("ns") || "default";
    this._ends = [];
    this.ended = false;
  }

  /** Whether the person may change something. Where not, buttons that would are left out. */
  get canWrite() {
    return live.last?.access !== "read";
  }

  /** Run an operation in the page's namespace. */
  run(name, given = {}) {
    return flo.run(name, { namespace: this.namespace, ...given });
  }

  /** Call this when the page ends. */
  onEnd(end) {
    this._ends.push(end);
  }

  /** Listen as long as the page is there. */
  on(target, event, listener) {
    target.addEventListener(event, listener);
    this.onEnd(() => target.removeEventListener(event, listener));
  }

  /**
   * Run a task now, and again `ms` after it has ended, as long as the page is there. It pauses while the page is hidden or there is no
   * connection. What else it rejects with is shown in place of the page. Gives a function that runs it at once.
   */
  every(ms, task) {
    let timer = 0;
    let running = false;
    let again = false;
    const run = async () => {
      clearTimeout(timer);
      if (running) return void (again = true);
      if (this.ended || document.hidden || (flo.state !== "open" && flo.state !== "connecting")) return undefined;
      running = true;
      try {
        await task();
      } catch (error) {
        if (!(error instanceof ConnectionLost) && !this.ended) this.fail(error);
      }
      running = false;
      if (again) {
        again = false;
        return run();
      }
      if (!this.ended) timer = setTimeout(run, ms);
      return undefined;
    };
    this.on(document, "visibilitychange", run);
    this.on(flo, "state", () => flo.state === "open" && run());
    this.onEnd(() => clearTimeout(timer));
    run();
    return run;
  }

  /** Show an error in place of the page. */
  fail(error) {
    if (error.status === UNAUTHORIZED) return void askSecret();
    this.end();
    fill(this.root, h("div.card", h("h1", "This cannot be shown"), h("p", error.message), h("p", h("a", { href: link("") }, "Back to the overview"))));
    return undefined;
  }

  /** Change parameters of the page's address; null takes one out. `replace`: no step in the history. */
  set(changes, { replace = false } = {}) {
    const params = new URLSearchParams(this.params);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === undefined || value === "" || value === false) params.delete(name);
      else params.set(name, value);
    }
    const query = params.toString();
    const address = `#/${this.page.path}${query ? `?${query}` : ""}`;
    if (replace) {
      history.replaceState(null, "", address);
      this.params = params;
    } else {
      location.hash = address;
    }
  }

  /** A view of a part of the page, such as a tab: it draws into `root`, and what it begins ends with it, or with the page. */
  part(root) {
    const part = Object.assign(Object.create(this), { root, ended: false, _ends: [], set: (...given) => this.set(...given) });
    this.onEnd(() => part.end());
    return part;
  }

  /** Ask for the name of a new namespace, and make it; gives the name, or null. */
  makeSpace = makeSpace;

  /** Call this when a namespace was made or deleted. */
  spacesChanged = drawSpaces;

  end() {
    this.ended = true;
    for (const end of this._ends.splice(0)) end();
  }
}

// -- the page that is shown --------------------------------------------------------------------------------------------------------------

/** The page of the address, and the rest of it. */
function addressed() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return [PAGES.find((each) => each.path === path) ?? PAGES[0], query];
}

let view = null;
let opened = null; // what `open` gave

async function route() {
  if (!live.last) return; // not before it is known what the person may do: `begin` comes here again
  const [page, query] = addressed();
  const params = new URLSearchParams(query);
  const same = view && !view.ended && view.page === page && view.namespace === (params.get("ns") || "default");
  if (same && opened?.update) {
    view.params = params;
    if (opened.update() !== false) return;
  }
  view?.end();
  const mine = (view = new View(page, params));
  opened = null;
  document.title = `${page.title} · Flo`;
  drawNav(page);
  drawSpaces();
  try {
    const module = await page.load();
    if (mine.ended) return;
    fill(mine.root);
    opened = module.open(mine) ?? null;
    performance.mark("opened"); // from here on the page can be used: loadtest/dashboard.py
  } catch (error) {
    mine.fail(error);
  }
}

function drawNav(current) {
  const nav = at("nav");
  if (!nav.children.length) fill(nav, PAGES.map((page) => h("a", page.title))); // once: the focus stays on what was followed
  PAGES.forEach((page, index) => {
    nav.children[index].setAttribute("href", link(page.path));
    if (page === current) nav.children[index].setAttribute("aria-current", "page");
    else nav.children[index].removeAttribute("aria-current");
  });
  nav.querySelector("[aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" }); // on a phone the bar is wider than the screen
}

function skip(event) {
  event.preventDefault(); // the address is the page's
  at("main").focus();
}

// -- the namespace -----------------------------------------------------------------------------------------------------------------------

const NEW = "\n"; // no namespace has this name

async function drawSpaces() {
  const select = at("namespace");
  const mine = view.namespace;
  const list = await flo.namespace_list().catch(() => []);
  const names = list.map((each) => new TextDecoder().decode(each.namespace));
  if (!names.includes(mine)) names.push(mine);
  fill(select, names.map((name) => h("option", { value: name }, name)), live.last?.access === "all" && h("option", { value: NEW }, "New namespace…"));
  select.value = mine;
}

async function chooseSpace(event) {
  const name = event.target.value === NEW ? await makeSpace() : event.target.value;
  event.target.value = view.namespace;
  if (name) location.hash = `#/${view.page.path}${name === "default" ? "" : `?ns=${encodeURIComponent(name)}`}`;
}

function makeSpace() {
  const input = h("input", { required: true, maxlength: 128, pattern: "[A-Za-z0-9._:\\-]+", title: "letters, digits and . _ : -" });
  const submit = async () => {
    await flo.namespace_create({ key: input.value });
    done(`The namespace ${input.value} is there.`, { command: `flo ns create ${input.value}` });
    drawSpaces();
    return input.value;
  };
  return dialog({ title: "New namespace", children: [field("Name", input)], action: "Create", submit });
}

// -- connection, secret, health ----------------------------------------------------------------------------------------------------------

let asking = false;

async function askSecret() {
  if (asking) return;
  asking = true;
  const input = h("input", { type: "password", required: true, autocomplete: "current-password" });
  const submit = async () => {
    await flo.auth({ value: input.value }); // refused, if it is wrong
    flo.secret = input.value; // of the next connections
    sessionStorage.setItem(SECRET, input.value);
    live.run();
  };
  const text = h("p", "This server has a secret. It is kept in this tab only.");
  const known = await dialog({ title: "Secret", children: [text, field("Secret", input)], action: "Enter", submit });
  asking = false;
  if (!known) fill(at("main"), h("div.card", h("p", "Without the secret there is nothing to see."), h("button.main", { type: "button", onclick: askSecret }, "Enter the secret")));
}

function drawState() {
  const sample = live.last;
  const found = sample ? problems(live.samples.at(-2), sample) : [];
  const worst = flo.state !== "open" ? "bad" : found[0]?.level;
  const state = at("state");
  state.className = `state ${worst ?? ""}`;
  const text = flo.state !== "open" ? SHOWN_STATES[flo.state] : found.length ? `${found.length} to look at` : "All well";
  if (state.textContent !== text) fill(state, flo.state === "open" ? h("a", { href: link("") }, text) : text);
  const lost = flo.state === "closed" || (flo.state === "connecting" && !at("notice").hidden);
  const notice = lost ? "The connection to the server is lost. What you see is as it was; the page connects again by itself." : live.trouble;
  at("notice").hidden = !notice;
  at("notice").textContent = notice;
}

// -- light and dark ----------------------------------------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");

function drawTheme() {
  const chosen = localStorage.getItem(THEME);
  const theme = chosen ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  at("theme").textContent = theme === "dark" ? "Light" : "Dark";
  at("theme").setAttribute("aria-label", theme === "dark" ? "Use light colours" : "Use dark colours");
}

function turnTheme() {
  localStorage.setItem(THEME, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  drawTheme();
}

drawTheme();
dark.addEventListener("change", drawTheme);
at("theme").addEventListener("click", turnTheme);
document.querySelector(".skip").addEventListener("click", skip);
at("namespace").addEventListener("change", (event) => attempt(() => chooseSpace(event)));
addEventListener("hashchange", route);
live.addEventListener("sample", () => {
  drawState();
  if (!view) route();
});
live.addEventListener("refused", askSecret);
live.addEventListener("trouble", drawState);
flo.addEventListener("state", drawState);
flo.connect();
preload(addressed()[0]); // while the connection is made
