// The frame of the dashboard: the bar, the address, the secret, the theme, the connection. Words: which part, and what it needs.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { kill } from "node:process";
import { PHONE, accessibility, scenario, setDark } from "./harness.mjs";
import { dashboard, settled, walk } from "./walk.mjs";

const WCAG = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] };
const CONTRAST = { runOnly: ["color-contrast"] };
const TRANSFER_BYTES_MAX = 150_000;
const CHANGING =
  /^(new|create|add|delete|remove|purge|pause|resume|requeue|enqueue|append|trim|edit|save|put|set|expire|undo|duplicate|ack|acknowledge|give back|move|configure|clear|rename|restore|touch|persist|increment|drop|send|import|close|kill|change|write|settings|invoke|register|deregister|cancel the run|retry|drain)\b/i;

const sleepless = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
const hash = (page) => page.evaluate(() => location.hash);
const focused = (page) => page.evaluate(() => document.activeElement.textContent.trim());
const theme = (page) => page.evaluate(() => document.documentElement.dataset.theme);
const dark = async (page, wanted) => {
  await setDark(page, wanted);
  await page.waitForFunction((name) => document.documentElement.dataset.theme === name, wanted ? "dark" : "light");
};
const heading = (page, name) => page.getByRole("heading", { level: 1, name }).waitFor();

/** The text of a number that moves, once it is another than `before`. */
async function moved(page, before) {
  const tile = page.locator(".tile", { hasText: "requests a second" }).locator("b");
  for (;;) {
    const text = await tile.innerText();
    if (!["–", "0", before].includes(text)) return text;
    await sleepless(page);
  }
}

/** Keep a server busy until `stop` is called. */
function load(base) {
  let going = true;
  const run = (async () => {
    for (let at = 0; going; at++) await fetch(`${base}/api/v1/kv/default/keys/load`, { method: "PUT", body: String(at) }).catch(() => 0);
  })();
  return async () => {
    going = false;
    await run;
  };
}

const parts = {
  async overview({ base, open }) {
    const page = await dashboard(open, base);
    await heading(page, "Overview");
    await page.locator(".health").getByText("All well.").waitFor();
    assert.equal(await page.locator("#state").innerText(), "All well");
    const stop = load(base);
    await moved(page, await moved(page));
    await stop();
    await page.getByRole("img", { name: /^Requests: [\d,.]+, 0$/ }).waitFor();
    await page.getByRole("table", { name: "Commands now" }).getByText("kv_put").waitFor();
    const bytes = await page.evaluate(() => [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")].reduce((sum, entry) => sum + entry.transferSize, 0));
    assert.ok(bytes > 10_000 && bytes < TRANSFER_BYTES_MAX, `${bytes} bytes were moved`);
  },

  async address({ base, open }) {
    const page = await dashboard(open, base, "#/server?tab=settings&find=history");
    await page.getByText("2 settings of").waitFor();
    await page.reload();
    await page.getByText("2 settings of").waitFor();
    assert.equal(await hash(page), "#/server?tab=settings&find=history");
    await page.getByRole("link", { name: "Overview" }).click();
    await heading(page, "Overview");
    assert.equal(await hash(page), "#/");
    await page.goBack();
    await page.getByText("2 settings of").waitFor();

    await page.getByLabel("Namespace").selectOption("jobs");
    await page.waitForFunction(() => location.hash === "#/server?ns=jobs");
    await heading(page, "Server");
    await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Queues" }).click();
    await page.waitForFunction(() => location.hash === "#/queues?ns=jobs");
    assert.equal(await page.getByLabel("Namespace").inputValue(), "jobs");
    await page.getByLabel("Namespace").selectOption("New namespace…");
    await page.getByRole("dialog").getByLabel("Name").fill("fresh");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => location.hash === "#/queues?ns=fresh");

    // Light and dark: as the system says until the person chooses
    assert.equal(await theme(page), "light");
    await setDark(page, true);
    await page.waitForFunction(() => document.documentElement.dataset.theme === "dark");
    await page.getByRole("button", { name: "Use light colours" }).click();
    assert.equal(await theme(page), "light");
    await page.reload();
    await page.getByRole("button", { name: "Use dark colours" }).waitFor();
    assert.equal(await theme(page), "light");
  },

  async keyboard({ base, open }) {
    const page = await dashboard(open, base, "#/server?tab=settings");
    await settled(page);
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Skip to the content");
    assert.ok(await page.locator(".skip").evaluate((link) => link.getBoundingClientRect().left >= 0));
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    assert.equal(await hash(page), "#/server?tab=settings");
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "Clients"); // the first of the page's own

    await page.reload();
    await settled(page);
    const reached = [];
    for (let at = 0; at < 9; at++) {
      await page.keyboard.press("Tab");
      reached.push(await focused(page));
    }
    assert.deepEqual(reached, ["Skip to the content", "Flo", "Overview", "Keys", "Queues", "Actions", "Streams", "Time series", "Server"]);
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => location.hash === "#/timeseries");
    await settled(page);
    assert.equal(await focused(page), "Time series"); // the way goes on from where it was
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await heading(page, "Server");
    await page.waitForFunction(() => document.title === "Server · Flo");
  },

  async secret({ base, open, words: [secret] }) {
    const page = await dashboard(open, base, "#/server?tab=storage");
    const box = page.getByRole("dialog");
    await box.getByLabel("Secret").fill("wrong");
    await page.keyboard.press("Enter");
    const refusal = box.getByRole("alert");
    await refusal.waitFor();
    assert.match(await refusal.innerText(), /wrong/);
    await box.getByLabel("Secret").fill(secret);
    await page.keyboard.press("Enter");
    await box.waitFor({ state: "detached" });
    await page.getByText("Every write is on disk").waitFor();
    await page.reload();
    await page.getByText("Every write is on disk").waitFor(); // this tab remembers it
    assert.equal(await box.count(), 0);
    assert.ok(!JSON.stringify(await page.evaluate(() => [{ ...localStorage }, document.cookie, location.href])).includes(secret));

    const other = await dashboard(open, base);
    await other.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    await other.getByRole("button", { name: "Enter the secret" }).click();
    await other.getByRole("dialog").getByLabel("Secret").fill(secret);
    await other.keyboard.press("Enter");
    await heading(other, "Overview");
  },

  async readonly({ base, open, words: secrets }) {
    const seen = [];
    for (const secret of secrets) {
      const page = await dashboard(open, base);
      await page.getByRole("dialog").getByLabel("Secret").fill(secret);
      await page.keyboard.press("Enter");
      await heading(page, "Overview");
      const buttons = [];
      const addresses = await walk(page, async (address) => {
        const found = await page.locator("button:visible, input[type=submit]:visible, [role=button]:visible").evaluateAll((all) => all.map((button) => button.getAttribute("aria-label") ?? button.textContent.trim()));
        buttons.push(...found.filter((text) => CHANGING.test(text)).map((text) => `${address}: ${text}`));
      });
      seen.push({ addresses, buttons, options: await page.getByLabel("Namespace").locator("option").allInnerTexts() });
    }
    const [full, read] = seen;
    assert.ok(full.buttons.some((text) => text.endsWith("New namespace")), "the check finds no button where there are some");
    assert.ok(full.options.includes("New namespace…"));
    assert.deepEqual(read.buttons, []);
    assert.ok(!read.options.includes("New namespace…"));
    assert.ok(full.addresses.length >= 10 && read.addresses.length >= 10);
  },

  async restart({ base, open, words: [pid, file] }) {
    const page = await dashboard(open, base);
    let stop = load(base);
    await moved(page);
    kill(Number(pid));
    await stop();
    const notice = page.getByRole("alert");
    await notice.getByText("The connection to the server is lost").waitFor();
    assert.equal(await page.locator("#state").innerText(), "Connection lost");
    writeFileSync(file, "start it again");
    await notice.waitFor({ state: "hidden" });
    stop = load(base);
    await moved(page, await moved(page));
    await stop();
    await page.locator("#state").getByText("All well").waitFor();
    for (const trouble of page.takeTroubles()) assert.match(trouble, /WebSocket connection to .*\/ws' failed: .*(ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET)|503/);
  },

  async hidden({ base, open }) {
    const page = await dashboard(open, base, "#/server");
    await page.clock.install(); // hours pass in no time
    await page.reload();
    await page.getByRole("table", { name: "Clients" }).waitFor();
    await settled(page);
    const show = (shown) =>
      page.evaluate((hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }, !shown);
    const before = page.sent;
    await page.clock.runFor(20_000);
    await settled(page);
    assert.ok(page.sent > before);
    await show(false);
    await settled(page, { waiting: true }); // what was asked before
    const quiet = page.sent;
    await page.clock.runFor(3_600_000);
    await settled(page);
    assert.equal(page.sent, quiet);
    await show(true);
    await page.clock.runFor(10_000);
    await settled(page);
    assert.ok(page.sent > quiet);
  },

  async looks({ base, open, words: [mode] }) {
    const page = await dashboard(open, base, "", mode === "phone" ? { viewport: PHONE } : {});
    const found = [];
    const look = async (where) => {
      const note = async (scheme, rules) => found.push(...(await accessibility(page, rules)).map((sentence) => `${where}, ${scheme}: ${sentence}`));
      await note("light", WCAG);
      if (mode === "phone") return;
      await dark(page, true);
      await note("dark", CONTRAST); // all else is as it was
      await dark(page, false);
    };
    const addresses = await walk(page, async (address) => {
      await look(address);
      const [wide, room] = await page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
      if (wide > room) found.push(`${address}: the page is ${wide} wide, and has ${room}`);
    });
    await page.evaluate(() => (location.hash = "#/server?tab=namespaces"));
    await page.getByRole("button", { name: "New namespace" }).click();
    await look("a dialog");
    assert.deepEqual(found, []);
    return addresses;
  },
};

await scenario(({ words: [part, ...words], ...rest }) => parts[part]({ words, ...rest }));
