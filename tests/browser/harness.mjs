// A Chromium for the tests of pages. A scenario is a script that calls `scenario`; tests/browser/conftest.py runs it.
// By hand: node tests/browser/NAME.mjs http://127.0.0.1:PORT FOLDER WORDS…   (it launches a Chromium, and leaves its screenshots in FOLDER)
// `node harness.mjs` launches one for several scenarios: it prints its endpoint, for the environment's FLO_CHROMIUM, and ends with its input.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { argv, env, stdin } from "node:process";
import { fileURLToPath } from "node:url";

const require = createRequire(new URL("../node/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const WAIT_MS = 15_000; // for whatever a scenario waits for; a busy machine makes all of it slow
export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };
const LAUNCH = {
  executablePath: env.FLO_CHROMIUM_PROGRAM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox", // as root, as CI runs it, there is none
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", // nothing leaves this machine
  ],
};

/**
 * Run `play({ base, words, open })` and print what it returns as one line of JSON. The script fails if `play` does, or if a page
 * has troubles at the end that `takeTroubles` has not taken; then there is a screenshot of each page in the folder.
 */
export async function scenario(play) {
  const [base, folder, ...words] = argv.slice(2);
  mkdirSync(folder, { recursive: true });
  const browser = await (env.FLO_CHROMIUM ? chromium.connect(env.FLO_CHROMIUM) : chromium.launch(LAUNCH));
  const pages = [];
  try {
    const result = await play({ base, words, open: (path, options) => open(browser, pages, base, folder, path, options) });
    for (const page of pages) if (!page.isClosed()) await page.evaluate(() => 0); // what it has noted until now has arrived behind this
    for (const page of pages) assert.deepEqual(page.takeTroubles(), [], `troubles of ${page.url()}`);
    console.log(JSON.stringify(result ?? null));
  } catch (error) {
    console.error(error.stack);
    for (const page of pages) for (const trouble of page.takeTroubles()) console.error(`${page.url()}: ${trouble}`);
    await Promise.allSettled(pages.map((page, at) => shot(page, `failed-${at}`)));
    console.error(`screenshots are in ${folder}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

/**
 * A new page with storage of its own, at a path of the server or at a URL. Options: `dark`, `viewport` (DESKTOP, PHONE), and those of
 * playwright's `newContext`.
 */
async function open(browser, pages, base, folder, path, { dark = false, viewport = DESKTOP, ...options } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: scheme(dark), reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  const url = new URL(path, base).href;
  page.folder = folder;
  page.takeTroubles = watch(page, new URL(url).host);
  pages.push(page);
  await page.goto(url);
  return page;
}

/** Note what should not happen on a page; returns a function that gives the sentences since its last call. */
function watch(page, host) {
  let troubles = [];
  const note = (kind, text) => troubles.push(`${kind}: ${text}`);
  const foreign = (url) => /^(https?|wss?):/.test(url) && new URL(url).host !== host;
  page.on("console", (message) => {
    const text = message.text();
    const { url } = message.location(); // Chromium asks for /favicon.ico by itself, at a time of its own
    if (text.includes("Content Security Policy")) note("CSP", text);
    else if (message.type() === "error" && !url.endsWith("/favicon.ico")) note("console", url ? `${text} (${url})` : text);
  });
  page.on("pageerror", (error) => note("page error", error.stack ?? error.message));
  page.on("requestfailed", (request) => {
    const why = request.failure()?.errorText;
    if (why !== "net::ERR_ABORTED") note("failed request", `${request.method()} ${request.url()} ${why}`); // aborted: the page was left meanwhile
  });
  page.on("request", (request) => foreign(request.url()) && note("foreign request", request.url()));
  page.on("websocket", (socket) => foreign(socket.url()) && note("foreign request", socket.url()));
  return () => {
    const taken = troubles;
    troubles = [];
    return taken;
  };
}

const scheme = (dark) => (dark ? "dark" : "light");

/** Switch between the light and the dark scheme. */
export const setDark = (page, dark) => page.emulateMedia({ colorScheme: scheme(dark) });

/** Save what the page shows, all of it if `fullPage`, as NAME.png in the folder of screenshots; returns its path. */
export async function shot(page, name, options = {}) {
  const path = join(page.folder, `${name}.png`);
  await page.screenshot({ path, ...options });
  return path;
}

/** What axe-core finds wrong on the page, a sentence for each element. Its source goes in by evaluation, which a CSP does not hinder. */
export async function accessibility(page, options = {}) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"));
  const { violations } = await page.evaluate((given) => window.axe.run(document, given), { resultTypes: ["violations"], preload: false, ...options });
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")}: ${node.failureSummary}`));
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const server = await chromium.launchServer({ ...LAUNCH, host: "127.0.0.1" });
  console.log(server.wsEndpoint());
  stdin.resume();
  stdin.on("end", () => server.close());
}
