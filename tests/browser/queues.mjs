// The page of queues: the list, one queue with its messages, dead letters in bulk; with the word `reader`, as the read-only secret sees it.
import assert from "node:assert/strict";
import { PHONE, accessibility, scenario, setDark, shot } from "./harness.mjs";

const PAGE = "/dashboard/#/queues";
const button = (page, name) => page.getByRole("button", { name, exact: true });
const tab = (page, name) => page.getByRole("link", { name });
const heading = (page, name) => page.getByRole("heading", { name }).waitFor();
const names = (page) => page.locator("td.name a").allTextContents();
const count = (page, text) => page.getByText(text, { exact: true }).waitFor();

/** The command of the toast that says this; the toast is put away. */
async function said(page, text) {
  const toast = page.locator(".toast", { hasText: text });
  const command = await toast.locator("code").textContent();
  await toast.getByRole("button", { name: "Dismiss" }).click();
  return command;
}

async function looksRight(page, name) {
  assert.deepEqual(await accessibility(page), [], name);
  await shot(page, `queues-${name}`);
  await setDark(page, true); // which changes colours only
  assert.deepEqual(await accessibility(page, { runOnly: ["color-contrast"] }), [], `${name}, dark`);
  await setDark(page, false);
}

async function list(page) {
  await page.locator("td.name").first().waitFor();
  assert.deepEqual(await names(page), ["billing", "mail", "reports", "بريد 📮", "\\xff\\xfe"]);
  await page.getByRole("row", { name: /^reports paused/ }).waitFor();
  await page.getByRole("row", { name: /^billing 2,003 dead letters/ }).waitFor();
  await looksRight(page, "list");

  await page.locator("td.name a", { hasText: "\\xff\\xfe" }).click();
  await heading(page, "\\xff\\xfe");
  assert.ok(page.url().endsWith("queue64=__4"), page.url());
  await tab(page, "Dead letters (1)").click();
  await tab(page, /^6$/).click();
  await page.getByRole("region", { name: "Payload" }).getByText("00000000  00 ff ").waitFor();
  await looksRight(page, "dead");
  await page.goBack();
  await page.goBack();
  await page.goBack();
  await page.locator("td.name a", { hasText: "بريد" }).click();
  await heading(page, "بريد 📮");
  await tab(page, "Messages (1)").click();
  await page.getByRole("cell", { name: "مرحبا" }).waitFor();
  await tab(page, "All queues").click();

  await tab(page, "Need attention").click();
  await tab(page, "Dead letters (2)").click();
  await page.getByRole("row", { name: "reports" }).waitFor({ state: "hidden" });
  assert.deepEqual(await names(page), ["billing", "\\xff\\xfe"]);

  await tab(page, "By name").click();
  await page.getByLabel("Begins with").fill("\\xff");
  await page.getByRole("row", { name: "billing" }).waitFor({ state: "hidden" });
  assert.deepEqual(await names(page), ["\\xff\\xfe"]);
  await page.getByLabel("Begins with").fill("mail");
  await page.keyboard.press("Enter");
  await heading(page, "mail");
}

async function messages(page) {
  await page.getByText(/3 ready, no worker waits/).waitFor();
  await tab(page, "Messages (3)").click();
  await tab(page, /^2$/).click();
  await page.getByRole("region", { name: "Payload" }).getByText('"id": 12345678901234567890').waitFor(); // no digit was rounded
  await tab(page, /^1$/).click();
  await heading(page, "Message 1");
  await looksRight(page, "message");
  await button(page, "Duplicate").click(); // its line ends in \r\n, which a form would make \n
  await page.getByLabel("Priority").fill("7");
  await page.getByRole("dialog").getByRole("button", { name: "Enqueue" }).click();
  const duplicated = await said(page, "is in mail");

  await button(page, "Enqueue").click();
  await page.getByRole("textbox", { name: "Payload" }).fill("by hand");
  await page.getByLabel("Delay").fill("0.001");
  await page.getByRole("dialog").getByRole("button", { name: "Enqueue" }).click();
  const enqueued = await said(page, "is in mail");
  await tab(page, "Messages (5)").waitFor();

  await button(page, "Pause").click();
  await page.getByText("Paused. It takes messages and hands none out").waitFor();
  await button(page, "Undo").click();
  await button(page, "Pause").waitFor();
  return [duplicated, enqueued];
}

async function deadLetters(page) {
  await count(page, "100 of 2,003 dead letters");
  await page.getByLabel("Select", { exact: false }).nth(1).check();
  await page.getByLabel("Select", { exact: false }).nth(2).check();
  await button(page, "Requeue selected (2)").click();
  const some = await said(page, "2 dead letters are back in billing.");
  await count(page, "100 of 2,001 dead letters");

  await tab(page, "Next page").click();
  await tab(page, "First page").waitFor();
  await page.locator("td.num a").first().click();
  await button(page, "Delete").last().click();
  await button(page, "Delete 1 dead letter").click();
  const one = await said(page, "1 dead letter is deleted from billing.");
  await count(page, "100 of 2,000 dead letters");

  await button(page, "Requeue all 2,000").click();
  const all = await said(page, "2,000 dead letters are back in billing.");
  await heading(page, "No dead letters");
  return [some, one, all];
}

async function writer({ open }) {
  const page = await open(PAGE);
  await list(page);
  const commands = await messages(page);
  await page.goto(page.url().replace(/#.*/, "#/queues?queue=billing&tab=dead"));
  commands.push(...(await deadLetters(page)));
  await page.setViewportSize(PHONE);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is wider than a phone");

  await page.goto(page.url().replace(/#.*/, "#/queues?queue=reports"));
  await button(page, "Delete").click();
  await page.getByText("goes with 1 message, 0 dead letters").waitFor();
  await button(page, "Delete the queue").click();
  await heading(page, /^Queues$/);
  await page.getByRole("row", { name: "mail" }).waitFor();
  assert.ok(!(await names(page)).includes("reports"));
  return commands;
}

async function reader({ open, words }) {
  const page = await open(`${PAGE}?queue=mail&tab=dead`);
  await page.getByRole("textbox", { name: "Secret" }).fill(words[1]);
  await button(page, "Enter").click();
  await page.getByRole("cell", { name: "died" }).waitFor();
  const buttons = await page.getByRole("main").getByRole("button").allTextContents();
  return { buttons, boxes: await page.getByRole("checkbox").count() };
}

await scenario((given) => (given.words[0] === "reader" ? reader(given) : writer(given)));
