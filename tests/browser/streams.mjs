// The dashboard's page of streams: a live tail that another client feeds, its filter, a group's dead letters, and a server that starts again.
import assert from "node:assert/strict";
import { PHONE, accessibility, scenario, setDark, shot } from "./harness.mjs";

await scenario(async ({ base, open }) => {
  const api = (path, options = {}) => fetch(`${base}/api/v1/${path}`, { method: "POST", ...options });
  const append = (payload) => api("streams/default/orders/records", { body: payload });
  const page = await open("/dashboard/#/streams");
  const see = (text) => page.getByText(text).first().waitFor();
  const button = (name) => page.getByRole("button", { name, exact: true });
  const rows = page.getByRole("region", { name: "Records", exact: true }).locator("tbody tr:not([hidden])");
  const dialog = page.getByRole("dialog");

  // Empty, then with a stream of 250 records
  await see("There are no streams in this namespace.");
  assert.match(await page.locator("pre").first().textContent(), /^redis-cli -p \d+ XADD events/);
  const order = (at) => append(JSON.stringify({ order: at, town: "Zürich مرحبا 🦩" }));
  for (let at = 0; at < 5; at++) await order(at);
  await Promise.all(Array.from({ length: 244 }, (_, at) => order(5 + at)));
  await order(249);
  await page.reload();
  await page.getByRole("link", { name: "orders" }).click();

  // The tail begins with the newest, moves, and is filtered
  await see(/Live, newest first/);
  await rows.filter({ hasText: '"order":249' }).waitFor();
  assert.match(await rows.first().textContent(), /"order":249,"town":"Zürich مرحبا 🦩"/);
  assert.equal(await rows.count(), 100);
  await append("live <b>one</b>");
  await rows.filter({ hasText: "live <b>one</b>" }).waitFor();
  assert.match(await rows.first().textContent(), /live <b>one/);
  await page.getByLabel("Filter").fill("LIVE");
  await see("1 of 101 shown");
  assert.equal(await rows.count(), 1);
  assert.match(page.url(), /q=LIVE/);
  await page.getByLabel("Filter").fill("");
  await button("Stop following").click();
  await append("in the pause");
  await button("Follow").click();
  await rows.filter({ hasText: "in the pause" }).waitFor();
  await button("Show 100 older").click();
  await see("202 of 202 shown");

  // One record in full, by its link
  await page.getByLabel("Filter").fill('"order":249');
  await rows.getByRole("link").click();
  await page.getByLabel("One record").getByText('"order": 249,').waitFor();
  assert.match(page.url(), /record=\d+-\d+/);
  const faults = await accessibility(page);
  await setDark(page, true);
  faults.push(...(await accessibility(page)));
  await shot(page, "streams-records");
  await setDark(page, false);
  await page.getByRole("link", { name: "Close" }).click();
  await page.getByLabel("Filter").fill("");

  // A group with five dead letters and a pending record
  await api("streams/default/orders/groups/billing?max_deliver=1", { method: "PUT" });
  const read = async (limit) => (await (await api(`streams/default/orders/groups/billing/read?consumer=worker&limit=${limit}`)).json()).records.map(({ id }) => id);
  const ids = await read(5);
  await api("streams/default/orders/groups/billing/nack", { body: JSON.stringify({ ids }), headers: { "Content-Type": "application/json" } });
  await read(1);
  await page.getByRole("link", { name: "Groups", exact: true }).click();
  await page.getByRole("link", { name: "billing" }).click();
  const dead = page.getByRole("region", { name: "Dead letters" }).locator("tbody tr");
  await dead.nth(4).getByText('"order":4').waitFor();
  faults.push(...(await accessibility(page)));
  await page.getByLabel(`Choose ${ids[0]}`).check();
  await page.getByLabel(`Choose ${ids[1]}`).check();
  await button("Requeue 2 chosen").click();
  await see("2 dead letters put back.");
  await see(`flo stream group nack orders billing ${ids[0]} ${ids[1]}`);
  await dead.nth(3).waitFor({ state: "detached" });
  assert.equal(await dead.count(), 3);
  assert.deepEqual(await read(10).then((again) => again.slice(0, 2)), ids.slice(0, 2));
  await button("Delete all 3…").click();
  await dialog.getByRole("button", { name: "Delete 3 dead letters" }).click();
  await see("3 dead letters deleted.");
  await see("None. A record that is delivered too often");
  await button(`Release ${ids[0]}`).click();
  await see("It had its last delivery: it is a dead letter now.");
  await dead.filter({ hasText: '"order":0' }).waitFor();

  // Trim says first how many would go
  await button("Trim…").click();
  await page.getByLabel("Newest records that stay").fill("200");
  await dialog.getByRole("button", { name: "Count what would go" }).click();
  await dialog.getByRole("button", { name: "Remove 52 records" }).click();
  await see("52 records removed.");
  await see("flo stream trim --max-len 200 orders");

  // The server starts again: the tail goes on behind what it has
  await page.getByRole("link", { name: "Records", exact: true }).click();
  await rows.filter({ hasText: "in the pause" }).waitFor();
  const known = await rows.count();
  await api("kv/default/keys/restart", { method: "PUT", body: "now" });
  await page.locator("#notice").getByText("The connection to the server is lost.").waitFor();
  const again = async (payload) => (await append(payload).catch(() => null))?.ok;
  while (!(await again("after the restart"))) await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 50)));
  await rows.filter({ hasText: "after the restart" }).waitFor();
  assert.equal(await rows.count(), known + 1);
  const shown = await rows.locator("a").allTextContents();
  assert.equal(new Set(shown).size, shown.length);
  const lost = page.takeTroubles();
  assert.ok(lost.every((trouble) => trouble.includes("WebSocket")), lost.join("\n"));

  // Append, at the width of a phone, and delete
  await page.setViewportSize(PHONE);
  await button("Append…").click();
  await page.getByLabel("Payload").fill("by hand");
  await dialog.getByRole("button", { name: "Append" }).click();
  await rows.filter({ hasText: "by hand" }).waitFor();
  await shot(page, "streams-phone");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page scrolls sideways");
  await button("Delete…").click();
  await see("202 records");
  await dialog.getByRole("button", { name: "Delete the stream" }).click();
  await see("There are no streams in this namespace.");
  return { faults };
});
