// The page of actions: the list, one action, runs and one of them with a worker at it, workers, schedules; with the word `reader`, as the read-only
// secret sees it.
import assert from "node:assert/strict";
import { PHONE, accessibility, scenario, setDark, shot } from "./harness.mjs";

const PAGE = "/dashboard/#/actions";
const button = (page, name) => page.getByRole("button", { name, exact: true });
const link = (page, name) => page.getByRole("link", { name, exact: true });
const heading = (page, name) => page.getByRole("heading", { name }).waitFor();
const row = (page, name) => page.getByRole("row", { name });
const dialog = (page) => page.getByRole("dialog");
const go = (page, hash) => page.evaluate((wanted) => (location.hash = wanted), hash);

/** The command of the toast that says this; the toast is put away, by Undo if `undo`. */
async function said(page, text, undo = false) {
  const toast = page.locator(".toast", { hasText: text });
  const command = await toast.locator("code").textContent();
  await toast.getByRole("button", { name: undo ? "Undo" : "Dismiss" }).click();
  return command;
}

/** In both themes; every other view is looked at by the walk through all pages (frame.mjs). */
async function looksRight(page, name) {
  assert.deepEqual(await accessibility(page), [], name);
  await shot(page, `actions-${name}`);
  await setDark(page, true); // which changes colours only
  assert.deepEqual(await accessibility(page, { runOnly: ["color-contrast"] }), [], `${name}, dark`);
  await setDark(page, false);
}

/** Requests of a worker, [[operation, given], …], over a connection of its own; gives the id of the last run that it took. */
function work(page, ...requests) {
  return page.evaluate(async (all) => {
    const { Flo, textOf } = await import("/dashboard/flo.js");
    const flo = new Flo();
    let run = "";
    for (const [name, given] of all) {
      const answer = await flo.run(name, name === "worker_await" ? given : { key: run, worker_id: "w1", ...given });
      if (name === "worker_await") run = textOf(answer.run_id);
    }
    flo.close();
    return run;
  }, requests);
}

async function list(page) {
  await page.locator("td.name").first().waitFor();
  assert.deepEqual(await page.locator("td.name").allTextContents(), ["nightly", "send-email", "بريد 📮", "\\xff\\xfe"]);
  await row(page, /^nightly paused 1 pending /).waitFor();
  await row(page, /^send-email 520 failed 0 0 1 completed 520 failed /).waitFor();
  await looksRight(page, "list");
  await page.getByRole("link", { name: "\\xff\\xfe" }).click();
  await heading(page, "\\xff\\xfe");
  assert.ok(page.url().endsWith("action64=__4"), page.url());
  await link(page, "Runs").last().click();
  await row(page, /pending/).getByRole("link").first().click();
  await page.getByRole("region", { name: "Input" }).getByText("00000000  00 ff ").waitFor();
  await button(page, "Invoke again").click();
  await dialog(page).getByText("It is sent as it is unless you write another.").waitFor();
  await button(page, "Invoke").click();
  const again = (await said(page, "The run is")).replace(/raw \d+/, "raw RUN");
  await link(page, "Actions").last().click();

  await button(page, "Invoke send-email").click();
  const input = dialog(page).getByLabel("Input");
  assert.equal(await input.inputValue(), '{"to": "ada"}'); // of the newest run
  assert.ok(await dialog(page).getByLabel("Refuse what is no JSON").isChecked());
  assert.deepEqual(await accessibility(page), [], "the dialog");
  await input.fill("{");
  await button(page, "Invoke").click();
  await dialog(page).getByRole("alert").waitFor();
  await input.fill('{"to": "bob"}');
  await dialog(page).getByLabel("Priority").fill("3");
  await dialog(page).getByLabel(/^Labels/).fill('{"region": "eu"}');
  await button(page, "Invoke").click();
  const invoked = await said(page, "The run is");

  await button(page, "Resume nightly").click();
  const resumed = await said(page, "Runs of nightly start again", true); // which is undone
  await button(page, "Resume nightly").waitFor();
  await button(page, "Register an action").click();
  await dialog(page).getByLabel("Name").fill("-made");
  await dialog(page).getByLabel("Lease, in seconds").fill("2.5");
  await dialog(page).getByLabel("Starts at most").fill("10");
  await button(page, "Register").click();
  const registered = await said(page, "-made is registered, version 1");
  await link(page, "-made").click();
  await page.getByText("10 starts in 1 s at most").waitFor();
  await shot(page, "actions-one");
  await button(page, "Delete").click();
  await button(page, "Delete the action").click();
  return [again, invoked, resumed, registered, await said(page, "The action -made is deleted")];
}

async function one(page) {
  const taken = await work(page, ["worker_await", { key: "w1" }], ["worker_fail", { value: "no route", retry: true, delay: 0 }], ["worker_await", { key: "w1" }], ["worker_touch", { progress: "40 of 100" }]);
  await go(page, '#/actions?tab=runs&state=running&labels={"region":"eu"}');
  await row(page, new RegExp(`^${taken} send-email running 2 .* 40 of 100 region: eu`)).getByRole("link", { name: taken }).click();
  await row(page, /^1 .* failed w1 no route/).waitFor();
  await row(page, /^2 .*still at it.* running w1/).waitFor();
  await page.getByText("40 of 100").waitFor();
  await page.getByRole("region", { name: "Input" }).getByText('"to": "bob"').waitFor();
  await looksRight(page, "run");
  await page.evaluate(async (run) => {
    const { Flo } = await import("/dashboard/flo.js");
    const flo = new Flo();
    await flo.run("worker_complete", { key: run, worker_id: "w1", value: '{"ok": true}' });
    flo.close();
  }, taken);
  await page.getByRole("region", { name: "Output" }).getByText('"ok": true').waitFor();
  await button(page, "Retry").click();
  const retried = await said(page, "is pending again");
  await button(page, "Cancel the run").click();
  await dialog(page).getByRole("button", { name: "Cancel the run" }).click();
  const cancelled = await said(page, "is cancelled");
  await heading(page, `Runs / ${taken} cancelled`);
  assert.ok(page.url().includes("state=running"), "the way back keeps the filter");
  return [retried, cancelled].map((command) => command.replace(taken, "RUN"));
}

async function runs(page) {
  await go(page, "#/actions?tab=runs&state=failed");
  await page.getByText("To retry all that match, choose an action.").waitFor();
  await shot(page, "actions-runs");
  await link(page, "Next page").click();
  await link(page, "First page").waitFor();
  await page.getByRole("textbox", { name: "Action" }).fill("send-email");
  await page.getByRole("textbox", { name: "Labels" }).fill("{");
  await page.keyboard.press("Enter");
  await heading(page, "The server does not list these");
  await page.getByRole("textbox", { name: "Labels" }).fill("");
  await page.keyboard.press("Enter");
  await button(page, "Retry all that match").click();
  await button(page, "Retry 520 runs").click();
  const all = await said(page, "520 runs of send-email are pending again.");
  await page.getByText("No run of send-email is failed.").waitFor();
  return [all];
}

async function workers(page) {
  await link(page, "Workers").click();
  await row(page, /^w1 idle 0 of 2 none/).waitFor();
  await shot(page, "actions-workers");
  await button(page, "Drain w1").click();
  const drained = await said(page, "w1 gets no more runs", true);
  await row(page, /^w1 idle/).waitFor();
  await button(page, "Deregister w1").click();
  await button(page, "Deregister").click();
  const gone = await said(page, "The worker w1 is deregistered.");
  await page.getByText("No worker. A worker registers").waitFor();
  return [drained, gone];
}

async function schedules(page) {
  await link(page, "Schedules").click();
  await page.getByText("A schedule invokes an action by itself").waitFor();
  await button(page, "Put a schedule").click();
  await dialog(page).getByLabel("Name", { exact: true }).fill("report");
  await dialog(page).getByLabel("Action", { exact: true }).fill("send-email");
  const cron = dialog(page).getByLabel(/^Minute, hour/);
  await cron.fill("0 25 * * *");
  await button(page, "Put").click();
  await dialog(page).getByRole("alert").getByText("25").waitFor(); // the server's sentence
  await cron.fill("0 3 * * *");
  await dialog(page).getByLabel("Input of each run").fill("all");
  assert.deepEqual(await accessibility(page), [], "the dialog of a schedule");
  await button(page, "Put").click();
  const put = await said(page, "report runs first in");
  const nightly = /^report send-email 0 3 \* \* \* .* 03:00:00 UTC, in .* none yet 0 0 one run all /;
  await row(page, nightly).waitFor();
  await looksRight(page, "schedules");
  await button(page, "Change report").click();
  await dialog(page).getByLabel("When").selectOption("at an interval");
  await dialog(page).getByLabel(/^Seconds between/).fill("90");
  await dialog(page).getByLabel(/^Times that are missed/).selectOption("make none");
  await button(page, "Replace").click();
  await row(page, /^report send-email every 1.5 min .* no run all/).waitFor();
  const replaced = await said(page, "report runs first in", true);
  await row(page, nightly).waitFor();
  await button(page, "Delete report").click();
  await button(page, "Delete the schedule").click();
  await page.getByText("A schedule invokes an action by itself").waitFor();
  const deleted = await said(page, "The schedule report is deleted.", true);
  await row(page, nightly).waitFor();
  return [put, replaced, deleted];
}

async function writer({ open }) {
  const page = await open(PAGE);
  const commands = [...(await list(page)), ...(await one(page)), ...(await runs(page)), ...(await workers(page)), ...(await schedules(page))];
  await page.setViewportSize(PHONE);
  for (const hash of ["#/actions", "#/actions?action=send-email", "#/actions?tab=runs", "#/actions?tab=schedules"]) {
    await go(page, hash);
    await page.getByText("send-email").first().waitFor();
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${hash} is wider than a phone`);
  }
  return commands;
}

async function reader({ open, words }) {
  const page = await open(PAGE);
  await page.getByRole("textbox", { name: "Secret" }).fill(words[1]);
  await button(page, "Enter").click();
  const buttons = [];
  for (const [hash, text] of [["#/actions", "paused"], ["#/actions?action=nightly", "Paused."], ["#/actions?tab=runs&state=failed&action=send-email", "no route"], [`#/actions?tab=runs&run=${words[2]}`, "no route"], ["#/actions?tab=workers", "idle"], ["#/actions?tab=schedules", "beat"]]) {
    await go(page, hash);
    await page.getByRole("main").getByText(text).first().waitFor();
    buttons.push(...(await page.getByRole("main").getByRole("button").allTextContents()));
  }
  return buttons;
}

await scenario((given) => (given.words[0] === "reader" ? reader(given) : writer(given)));
