// The page of keys, as a person uses it. `somebody` is another client, over HTTP.
import assert from "node:assert/strict";
import { argv } from "node:process";
import { accessibility, PHONE, scenario, setDark, shot } from "./harness.mjs";

const [READING] = argv.slice(4); // the secret of a reader; else who plays may do everything
const SPACE = READING ? "default" : "keys";

function somebodyAt(base) {
  const ask = async (method, path, body, type = "application/octet-stream") => {
    const answer = await fetch(`${base}/api/v1/${path}`, { method, body, headers: body === undefined ? {} : { "Content-Type": type } });
    assert(answer.ok, `${method} ${path}: ${answer.status}`);
    return Buffer.from(await answer.arrayBuffer()); // an answer that is not read keeps its connection
  };
  const key = (name) => `kv/${SPACE}/keys/${encodeURIComponent(name)}`;
  return {
    makeSpace: () => ask("PUT", `namespaces/${SPACE}`),
    put: (name, value, more = "") => ask("PUT", key(name) + more, value),
    putDocument: (name, value) => ask("PUT", `${key(name)}/json`, value, "application/json"),
    touch: (name, ttl) => ask("POST", `${key(name)}/touch?ttl=${ttl}`),
    incr: (name, delta) => ask("POST", `${key(name)}/incr?delta=${delta}`),
    info: async (name) => JSON.parse(await ask("GET", `${key(name)}/info`)),
    value: async (name) => (await ask("GET", key(name))).toString(),
    bytes: async (name) => new Uint8Array(await ask("GET", key(name))),
    putMany: (items) => ask("POST", `kv/${SPACE}/keys`, JSON.stringify({ items }), "application/json"),
  };
}

/** What a person does on the page, by the words that stand there. */
function personAt(page) {
  const one = (role, name) => page.getByRole(role, { name, exact: true });
  const pane = page.getByRole("region", { name: "The chosen key" });
  return {
    pane,
    press: (name) => one("button", name).click(),
    follow: (name) => one("link", name).click(),
    inDialog: (name) => page.getByRole("dialog").getByRole("button", { name, exact: true }).click(),
    sees: (text, where = page.locator("main")) => where.getByText(text).first().waitFor(),
    told: (text) => page.locator("#toasts").getByText(text).last().waitFor(),
    undo: () => page.locator("#toasts .toast").last().getByRole("button", { name: "Undo" }).click(),
    choose: (hash) => page.evaluate((to) => (location.hash = to), `#/keys?ns=${SPACE}&${hash}`),
    search: async (text) => {
      await one("searchbox", "Prefix or pattern").fill(text);
      await page.keyboard.press("Enter");
    },
    value: () => pane.locator(".value").innerText(),
  };
}

async function edit({ page, me, somebody }) {
  await me.sees("There are no keys in this namespace yet.");
  await me.sees(`flo kv set -n ${SPACE} user:1:name Ada`);
  await me.press("New key");
  await page.getByLabel("Name").last().fill("greeting");
  await page.getByLabel("Value").fill("hello");
  await me.inDialog("Create");
  await me.told("flo kv set -n keys --cas 0 greeting hello");
  await me.follow("greeting");
  await me.sees("hello", me.pane.locator(".value"));

  // Somebody else is faster: both are shown
  const write = async (text) => {
    await me.press("Edit");
    await page.getByLabel("Text", { exact: true }).fill(text);
  };
  await write("mine");
  await somebody.put("greeting", "theirs");
  await me.press("Save");
  await me.sees("Somebody else changed this key");
  assert.match(await me.pane.locator(".value").innerText(), /- theirs\s+\+ mine/);
  await shot(page, "keys-conflict");
  const troubles = await accessibility(page);
  await me.press("Overwrite theirs");
  await me.told("was saved as version");
  assert.equal(await somebody.value("greeting"), "mine");
  await write("mine again");
  await somebody.put("greeting", "theirs again");
  await me.press("Save");
  await me.press("Take theirs");
  await me.sees("theirs again", me.pane.locator(".value"));
  assert.equal(await somebody.value("greeting"), "theirs again");

  // What is being edited stays while another key is looked at, and the page says that it was changed meanwhile
  await write("a draft");
  await me.choose("key=other");
  await me.sees("There is no key of this name.");
  await me.choose("key=greeting");
  assert.equal(await page.getByLabel("Text", { exact: true }).inputValue(), "a draft");
  await me.press("Cancel");
  return troubles;
}

async function versions({ page, me, somebody }) {
  await me.follow("Versions");
  const rows = me.pane.getByRole("table", { name: "Versions" }).locator("tbody tr");
  await rows.nth(3).waitFor();
  assert.deepEqual(await rows.locator("td:nth-child(3)").allInnerTexts(), ["theirs again", "mine", "theirs", "hello"]);
  assert.match(await me.pane.locator(".value").innerText(), /- mine\s+\+ theirs again/);
  const first = await rows.nth(3).locator("td").first().innerText();
  await page.getByLabel("Older version").selectOption(first);
  await me.sees("- hello", me.pane.locator(".value"));
  assert.equal(new URLSearchParams(new URL(page.url()).hash.split("?")[1]).get("from"), first);
  await rows.nth(3).getByRole("button").click();
  await me.told("is the present value again");
  assert.equal(await somebody.value("greeting"), "hello");
  await rows.nth(4).waitFor();
  await shot(page, "keys-versions");
  return accessibility(page);
}

async function deleteAndUndo({ page, me, somebody }) {
  await somebody.putDocument("profile", '{"id": 12345678901234567890, "tags": ["a", {"b": null}]}');
  await somebody.touch("profile", 5000);
  await me.press("Search"); // again
  await page.getByRole("link", { name: "profile" }).waitFor();
  const remove = async (name) => {
    await me.choose(`key=${name}`);
    await me.sees(name, me.pane.getByRole("heading"));
    await me.press("Delete…");
    await me.inDialog("Delete");
    await me.told(`${name} was deleted`);
    await me.sees("There is no key of this name.");
    assert.equal(await page.getByRole("link", { name, exact: true }).count(), 0); // nor in the list
    await me.undo();
    await me.told(`${name} is back`);
  };
  await remove("profile");
  const info = await somebody.info("profile");
  assert.equal(info.kind, "json");
  assert(info.deadline > Date.now() + 4_900_000 && info.deadline < Date.now() + 5_100_000, info.deadline);
  await me.sees("12345678901234567890", me.pane.locator(".value")); // as it is written: no number of JavaScript has these digits
  await me.sees("in 1.4 h", me.pane.locator("dd"));

  const large = new Uint8Array(2 << 20).map((_, at) => (at * 7 + (at >> 8)) % 256);
  await somebody.put("large", large);
  await remove("large");
  assert.deepEqual(await somebody.bytes("large"), large);
  await me.sees("The first 64 KiB of 2.0 MiB.");

  // Nothing newer is overwritten
  await me.press("Delete…");
  await me.inDialog("Delete");
  await me.sees("There is no key of this name.");
  await somebody.put("large", "newer");
  await me.undo();
  await me.told("It was left as it is.");
  assert.equal(await somebody.value("large"), "newer");

  await somebody.incr("visits", 41);
  await me.choose("key=visits");
  await me.press("Add one");
  await me.sees("42", me.pane.locator(".value"));
  await me.press("Add one");
  await me.sees("43", me.pane.locator(".value"));
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Add one"); // still there after it was drawn anew
  await me.press("Set the number…");
  await page.getByRole("dialog").getByLabel("Number").fill("7");
  await me.inDialog("Set");
  await me.sees("7", me.pane.locator(".value"));
  assert.equal((await somebody.info("visits")).kind, "counter");
  await somebody.incr("visits", 1);
  await me.sees(/Somebody else wrote it at .*: version \d+ became \d+/);
  assert.equal(await me.value(), "8");
}

async function search({ page, me, somebody }) {
  const items = Array.from({ length: 2500 }, (_, at) => ["name", "mail"].map((field) => ({ key: `user:${at}:${field}`, value: "x", ttl: 0 }))).flat();
  await somebody.putMany(items);
  await somebody.put("\u0000\u202e", "\u0000");
  const status = page.getByRole("search").locator("xpath=..").getByRole("status");
  const says = (text) => status.filter({ hasText: text }).waitFor();
  await me.search("user:1:");
  await says("2 found, 2 of 5,005 looked at, there are no others");
  await me.search("user:*:name");
  await says(/^500 found, 1,000 of 5,00\d looked at$/);
  await page.getByRole("link", { name: "user:1000:name" }).focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await me.sees("user:1001:name", me.pane.getByRole("heading"));
  await me.press("Delete all found…");
  await me.sees("2,500 keys of the namespace keys will be deleted: keys that match user:*:name.", page.getByRole("dialog"));
  await me.inDialog("Delete 2,500");
  await me.told("2,500 keys deleted.");
  await says("0 found, all looked at");
  await me.sees("There are no keys that match user:*:name.");

  await me.choose("q=");
  await me.follow("\\x00\\u202e");
  await me.sees("\\x00", me.pane.locator(".value"));
  await me.follow("Hex");
  await me.sees("00000000  00", me.pane.locator(".value"));
}

/** What its modules do with lists and texts of all kinds, against the plainest way. */
function oracles() {
  return (async () => {
    const { lineDiff } = await import("/dashboard/diff.js");
    const { indented } = await import("/dashboard/keys_json.js");
    const { unescaped } = await import("/dashboard/keys_names.js");
    const { preview } = await import("/dashboard/ui.js");
    let seed = 1;
    const below = (limit) => (seed = (seed * 48271) % 2147483647) % limit;
    for (let round = 0; round < 3000; round++) {
      const [old, now] = [0, 0].map(() => Array.from({ length: below(9) }, () => "abc"[below(3)]));
      const common = Array.from({ length: old.length + 1 }, () => Array(now.length + 1).fill(0)); // the longest common subsequence
      old.forEach((one, x) => now.forEach((other, y) => (common[x + 1][y + 1] = one === other ? common[x][y] + 1 : Math.max(common[x][y + 1], common[x + 1][y]))));
      const rows = lineDiff(old, now);
      const side = (gone) => rows.filter(([sign]) => sign !== gone).map(([, line]) => line).join();
      const kept = rows.filter(([sign]) => sign === " ").length;
      if (side("+") !== old.join() || side("-") !== now.join() || kept !== common[old.length][now.length]) return { old, now, rows };
    }
    const far = lineDiff(Array.from({ length: 9000 }, (_, at) => `a${at}`), Array.from({ length: 9000 }, (_, at) => `b${at}`));
    const text = '{"a":[1,{"b c":"x,\\"]}"},[]],"a":1e999,"n":12345678901234567890}';
    return { far, indented: indented(text), none: indented("{"), cut: preview(new TextEncoder().encode("aéé"), true, 4).textContent, names: [...unescaped("a\\xff\\n\\\\\u00e9\\q")] };
  })();
}

/** The buttons that a reader has, for a key and for its versions. */
async function read({ page, me }) {
  await me.sees("read only", me.pane.locator(".value"));
  const buttons = await page.locator("main").getByRole("button").allInnerTexts();
  await me.follow("Versions");
  await me.pane.getByRole("cell", { name: "first" }).waitFor();
  return [...buttons, "|", ...(await page.locator("main").getByRole("button").allInnerTexts())];
}

await scenario(async ({ base, open }) => {
  const somebody = somebodyAt(base);
  if (!READING) await somebody.makeSpace();
  const page = await open("/health");
  if (READING) await page.evaluate((secret) => sessionStorage.setItem("flo-secret", secret), READING);
  await page.goto(`${base}/dashboard/#/keys?ns=${SPACE}${READING ? "&key=k" : ""}`);
  const me = personAt(page);
  const all = { page, me, somebody };
  if (READING) return read(all);
  const troubles = await edit(all);
  troubles.push(...(await versions(all)));
  await deleteAndUndo(all);
  await search(all);
  await me.choose("key=profile");
  await me.sees("12345678901234567890", me.pane.locator(".value"));
  await setDark(page, true);
  troubles.push(...(await accessibility(page)));
  await page.setViewportSize(PHONE);
  await me.sees("Back to the list");
  const widths = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  await shot(page, "keys-phone");
  return { troubles, widths, oracles: await page.evaluate(oracles) };
});
