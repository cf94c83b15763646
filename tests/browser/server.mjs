// The page of the server: its tabs, as a person clicks through them. Words: the data directory.
import assert from "node:assert/strict";
import { scenario } from "./harness.mjs";

const rowsOf = (page, caption) => page.getByRole("table", { name: caption }).locator("tbody tr");
const texts = (page, caption, column) => page.getByRole("table", { name: caption }).locator(`tbody td:nth-child(${column})`).allInnerTexts();
const tab = (page, name) => page.getByRole("navigation", { name: "Parts of this page" }).getByRole("link", { name }).click();

async function clients(page) {
  const until = async (count) => page.waitForFunction((wanted) => document.querySelectorAll("tbody tr").length === wanted, count);
  await until(100);
  await page.getByText(/^100 connections\. There are 12\d;/).waitFor();
  const first = await texts(page, "Clients", 1);
  assert.deepEqual(first, first.map(Number).sort((one, other) => one - other).map(String));
  await page.getByRole("button", { name: /^Id( |$)/ }).click();
  assert.deepEqual(await texts(page, "Clients", 1), first.toReversed());
  assert.equal(await page.getByRole("columnheader", { name: /^Id( |$)/ }).getAttribute("aria-sort"), "descending");
  assert.ok(await page.getByRole("button", { name: /^Id( |$)/ }).evaluate((button) => button === document.activeElement));
  await page.getByRole("link", { name: "Next page" }).click();
  await page.waitForFunction(() => /^2\d connections/.test(document.querySelector("main [role=status]").textContent)); // HTTP's come and go
  await page.goBack();
  await until(100);

  await page.getByRole("searchbox").fill("<b>worker");
  await until(1);
  assert.match(await rowsOf(page, "Clients").innerText(), /resp\s+<b>worker-7\s.*brpop\s+1\s+0\s+0/s);
  await page.reload(); // the address has the filter
  await until(1);
  assert.equal(await page.getByRole("searchbox").inputValue(), "<b>worker");
}

async function slow(page) {
  await tab(page, "Slow");
  await page.getByText("Requests that take 5.0 s or longer").waitFor();
  const hostile = rowsOf(page, "Slow requests").filter({ hasText: "evil" });
  const summary = hostile.locator("summary");
  assert.match(await summary.innerText(), /^SET evil\\xff\\x00 <img src=x onerror=alert\(1\)>/);
  await summary.click();
  assert.match(await hostile.locator("pre").innerText(), /\.\.\. \(\d+ more bytes\)/);
}

async function log(page, base) {
  const make = (name) => fetch(`${base}/api/v1/namespaces/${name}`, { method: "PUT" });
  await page.clock.install(); // so that nothing is asked for but when this says so
  await tab(page, "Log");
  const lines = rowsOf(page, "Log");
  await lines.filter({ hasText: "created the namespace full" }).waitFor();
  await make("seen");
  await page.clock.runFor(2100);
  await lines.first().filter({ hasText: "created the namespace seen" }).waitFor();
  assert.match(await lines.first().innerText(), /\d\d:\d\d:\d\d\.\d{3}\s+info\s+created the namespace seen\s+peer 127/);

  await page.getByRole("button", { name: "Stop following" }).click();
  await make("paused");
  const sent = page.sent;
  await page.clock.runFor(1900); // the question is due, but none of the others
  await page.clock.runFor(200);
  assert.equal(page.sent, sent);
  assert.equal(await lines.filter({ hasText: "namespace paused" }).count(), 0);
  await page.getByRole("button", { name: "Follow" }).click();
  await lines.first().filter({ hasText: "namespace paused" }).waitFor();

  await page.getByLabel("Level").selectOption("warning and above");
  await lines.filter({ hasText: "created" }).first().waitFor({ state: "detached" });
  assert.ok((await texts(page, "Log", 2)).every((level) => level === "warning" || level === "error"));
  await page.getByRole("searchbox").fill("nothing has this");
  await page.getByText("No line passes the filter.").waitFor();
  await page.clock.resume();
}

async function storage(page, directory) {
  await tab(page, "Storage");
  await page.getByText("Every write is on disk before it is answered.").waitFor();
  for (const line of [`flo check ${directory}`, `flo compact ${directory}`, `flo backup ${directory} ${directory}-backup`]) await page.getByText(line, { exact: true }).waitFor();
  await page.getByText(/^Records$/).waitFor();
  await page.getByText(/^\d[\d,]*; all on disk$/).waitFor();
  await page.locator("svg[aria-label*='Log on disk: '][aria-label*='MiB'], svg[aria-label*='Log on disk: '][aria-label*='KiB']").waitFor();
}

async function settings(page) {
  await tab(page, "Settings");
  await rowsOf(page, "Settings").filter({ hasText: "limits.waiters" }).waitFor();
  const names = (await texts(page, "Settings", 1)).map((text) => text.split(/\s+/));
  const changed = names.filter((words) => words.includes("changed")).map(([name]) => name);
  assert.deepEqual(changed, ["server.port", "server.data_dir", "resp.slowlog_slower_than"]);
  assert.deepEqual(names.slice(0, 3).map(([name]) => name), changed);
  const lines = await page.locator("details pre").allTextContents();
  await page.getByRole("searchbox").fill("history age");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  assert.match(await rowsOf(page, "Settings").innerText(), /kv\.history_age\s+24 h\s+24 h/);
  await page.getByText("How to change it").click();
  await page.getByText('history_age = "1d"').waitFor();
  return lines;
}

async function namespaces(page) {
  await tab(page, "Namespaces");
  const full = rowsOf(page, "Namespaces").filter({ hasText: "full" });
  await full.getByText(/^[\d.]+ KiB$/).waitFor(); // its counts are there
  assert.match(await full.innerText(), /full\s+2\s+0\s+0/);
  await page.getByRole("button", { name: "New namespace" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("made:here");
  await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
  const made = rowsOf(page, "Namespaces").filter({ hasText: "made:here" });
  await made.waitFor();
  await page.locator("#namespace option", { hasText: "made:here" }).waitFor({ state: "attached" });

  const remove = async (name) => {
    await page.getByRole("button", { name: `Delete ${name}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  };
  await remove("full");
  await page.getByRole("alert").filter({ hasText: /full/ }).waitFor(); // in the server's words
  assert.equal(await full.count(), 1);
  await remove("made:here");
  await page.locator(".toast").filter({ hasText: "flo ns delete made:here" }).waitFor();
  await made.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await made.waitFor();
  await page.locator("#namespace option", { hasText: "made:here" }).waitFor({ state: "attached" });
  assert.equal(await page.getByRole("button", { name: "Delete default" }).count(), 0);
}

await scenario(async ({ base, words, open }) => {
  const page = await open("/health");
  page.sent = 0;
  page.on("websocket", (socket) => socket.on("framesent", () => page.sent++));
  await page.goto(`${base}/dashboard/#/server`);
  await page.getByText(words[0], { exact: true }).waitFor();
  await clients(page);
  await slow(page);
  await log(page, base);
  await storage(page, words[0]);
  const lines = await settings(page);
  await namespaces(page);
  return lines;
});
