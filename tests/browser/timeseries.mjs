// The page of time series. Words: which part, and what it needs: `write` a first point and many lines, `query` with completion and a chart,
// `measurements` with their settings, `reader` for what the read-only secret sees.
import assert from "node:assert/strict";
import { PHONE, accessibility, scenario, setDark, shot } from "./harness.mjs";

const PAGE = "/dashboard/#/timeseries";
const button = (page, name) => page.getByRole("button", { name, exact: true });
const tab = (page, name) => page.getByRole("navigation", { name: "Parts of the page" }).getByRole("link", { name });
const see = (page, text) => page.getByText(text).first().waitFor();
const option = (page, text) => page.locator(".options li", { hasText: text });
const param = (page, name) => page.evaluate((each) => new URLSearchParams(location.hash.split("?")[1]).get(each), name);

/** The command of the toast that says this; the toast is put away. */
async function said(page, text) {
  const toast = page.locator(".toast", { hasText: text });
  const command = await toast.locator("code").textContent();
  await toast.getByRole("button", { name: "Dismiss" }).click();
  return command;
}

async function looksRight(page, name) {
  assert.deepEqual(await accessibility(page), [], name);
  await shot(page, `timeseries-${name}`);
  await setDark(page, true); // which changes colours only
  assert.deepEqual(await accessibility(page, { runOnly: ["color-contrast"] }), [], `${name}, dark`);
  await shot(page, `timeseries-${name}-dark`);
  await setDark(page, false);
}

async function firstPoint(page) {
  await see(page, "There are no measurements in this namespace.");
  assert.match(await page.locator("pre").first().textContent(), /^flo ts write --tags host=web-1 cpu usage=12.5$/);
  await see(page, "skip_database_creation = true");
  await looksRight(page, "empty");
  await page.getByRole("link", { name: "Make a line by hand" }).click();
  await page.getByLabel("Measurement", { exact: true }).fill("room, north");
  await page.getByLabel("Name of tag 1").fill("a=b");
  await page.getByLabel("Value of tag 1").fill("Zürich 🌡");
  await page.getByLabel("Name of field 1").fill("celsius");
  await page.getByLabel("Value of field 1").fill("warm");
  await see(page, "room\\,\\ north,a\\=b=Zürich\\ 🌡 celsius=warm");
  await button(page, "Write this point").click();
  await page.locator(".toast.bad", { hasText: "line 1, column 42" }).getByRole("button", { name: "Dismiss" }).click();
  await page.getByLabel("Value of field 1").fill("21.5");
  await button(page, "Another field").click();
  await page.getByLabel("Name of field 2").fill("humidity");
  await see(page, "The field humidity needs a number.");
  assert.ok(await button(page, "Write this point").isDisabled());
  await page.getByLabel("Value of field 2").fill("40i");
  await button(page, "Write this point").click();
  return said(page, "2 points written to room, north.");
}

async function manyLines(page, lines) {
  const box = page.getByLabel("Lines", { exact: true });
  const bad = lines.split("\n");
  bad[2] = bad[2].replace("usage=", "Zürich usage=");
  await box.fill(bad.join("\n"));
  await button(page, "Write all lines").click();
  await page.getByRole("alert").getByText(/^line 3, column \d+: .* nothing was written$/).waitFor();
  assert.match(await page.getByRole("alert").locator("pre").textContent(), /^3: cpu,host=web-2,zone=eu Zürich usage=/);
  assert.equal(await page.getByRole("alert").locator("mark").textContent(), " "); // where the sign = is missing, behind a letter of two bytes
  await looksRight(page, "lines");
  await box.fill(lines);
  await button(page, "Write all lines").click();
  return said(page, "480 points written.");
}

async function completion(page) {
  await tab(page, "Query").click();
  await see(page, "To begin with");
  const box = page.getByLabel("FloQL");
  await box.pressSequentially("cp");
  await option(page, "48 series").or(option(page, "8 series, 2 fields")).waitFor();
  assert.equal(await box.getAttribute("aria-activedescendant"), "floql-options-0");
  assert.deepEqual(await accessibility(page), [], "completion");
  await page.keyboard.press("Tab");
  await box.pressSequentially("{");
  await option(page, "host").waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter"); // the tag zone
  await box.pressSequentially("eu}[1h] | fi");
  await option(page, "field(a name)").getByText("Reads only this field.").waitFor();
  await page.keyboard.press("ArrowDown"); // fill
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await option(page, "idle").waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Tab");
  assert.equal(await box.inputValue(), "cpu{zone=eu}[1h] | field(usage)");
  await page.keyboard.press("End");
  await box.pressSequentially(" | av");
  await option(page, "avg(a window such as 5m, or nothing)").waitFor();
  await page.keyboard.press("Escape");
  await page.locator(".options").waitFor({ state: "hidden" });
  await box.pressSequentially("f(1m)");
  await page.keyboard.press("Control+Enter");
  const refusal = page.getByRole("alert").filter({ hasText: "Found `avf`" });
  await refusal.waitFor();
  assert.match(await refusal.textContent(), /\n {34}\^$/);
  await box.fill("cpu{zone=eu}[1h] | field(usage) | avg(1m)");
  await page.keyboard.press("Control+Enter");
  await refusal.waitFor({ state: "hidden" });
}

async function answer(page) {
  const legend = page.getByRole("table", { name: "Series" });
  await legend.getByRole("button", { name: "host=web-0", exact: true }).waitFor();
  await see(page, /points? of 2 series, all cpu usage zone=eu\. 120 points scanned/);
  await looksRight(page, "chart");
  const lines = page.locator(".plot > svg path[stroke-dasharray]");
  assert.equal(await lines.count(), 2);
  await button(page, "host=web-0").click();
  assert.equal(await lines.count(), 1);
  await button(page, "Only host=web-0").click();
  assert.equal(await button(page, "host=web-2").getAttribute("aria-pressed"), "false");
  await button(page, "Only host=web-0").click();
  assert.equal(await lines.count(), 2);

  // The pointer tells all values, a drag looks closer, a double click goes back
  const box = await page.locator(".plot > svg").boundingBox();
  const y = box.y + 100;
  await page.mouse.move(box.x + box.width * 0.6, y);
  await page.locator(".tip").getByText("host=web-2").waitFor();
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, y);
  await page.mouse.up();
  await button(page, "Zoom out").waitFor();
  const [from, to] = (await param(page, "zoom")).split("..").map(Number);
  assert.ok(to - from > 600_000 && to - from < 900_000, `${to - from} ms`);
  const points = legend.locator("tbody tr").first().locator("td").nth(5);
  await points.filter({ hasText: /^1\d$/ }).waitFor(); // of 60
  await page.reload(); // a link shows the same
  await button(page, "Zoom out").waitFor();
  await page.locator(".plot > svg").dblclick();
  await button(page, "Zoom out").waitFor({ state: "hidden" });
  await points.filter({ hasText: /^[56]\d$/ }).waitFor();
  assert.equal(await param(page, "zoom"), null);

  // The same by the keyboard
  await page.locator(".plot").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Shift+ArrowRight");
  await page.keyboard.press("Shift+ArrowRight");
  await page.keyboard.press("Enter");
  await button(page, "Zoom out").click();

  await page.getByRole("combobox", { name: "Range" }).selectOption("Last 6 hours");
  await page.waitForFunction(() => location.hash.includes("6h"));
  assert.equal(await param(page, "q"), "cpu{zone=eu}[6h] | field(usage) | avg(1m)");
  await page.getByRole("combobox", { name: "Live" }).selectOption("Each 5 s");
  await page.waitForFunction(() => location.hash.includes("live=5"));
  await page.getByRole("combobox", { name: "Live" }).selectOption("Off");
  await page.getByRole("link", { name: "Table" }).click();
  await page.getByRole("columnheader", { name: "host=web-2" }).waitFor();
  await page.getByText("Asked before in this tab").click();
  await page.getByRole("link", { name: "cpu{zone=eu}[1h] | field(usage) | avg(1m)", exact: true }).waitFor();
  await page.getByText("The same by command line").click();
  await see(page, "flo ts query 'cpu{zone=eu}[6h] | field(usage) | avg(1m)'");
}

/** What the page understands of a query's text: where its range stands, and what may be written at its end. */
async function text(page) {
  const understood = await page.evaluate(async () => {
    const { expected, quoted, rangeOf, withRange } = await import("./timeseries_floql.js");
    const stages = (await import("./stages.js")).default;
    const ranges = ["cpu", 'cpu{a="}[\\""} | avg()', "cpu{a=~[a-z],b!=c}[1h]|avg()", "~/a\\/b/{x=y} [5m..] | b", "cpu {a=b} | c", "| x", "cpu{a"].map((query) => [withRange(query, "5m"), rangeOf(query)]);
    const places = ["", "cp", '"a b', "cpu ", "cpu{", "cpu{ho", "cpu{a=b, ", "cpu{host=we", "cpu{host=~we", "cpu[1", "cpu[1h] |", "cpu | av", "cpu | field(us", "cpu | percentile(9", "cpu | percentile(99, ", "cpu | group_by(a, r", "cpu | fill(", "cpu | math((value + 1) * 2) | ", "~/a|b/ | s", "cpu | alias("].map((query) => {
      const place = expected(query, stages);
      return place && `${place.kind} ${place.from} ${place.word}`;
    });
    return { ranges, places, names: ["a.b", "1a", 'a"b\\'].map(quoted) };
  });
  assert.deepEqual(understood.ranges, [["cpu[5m]", "1h"], ['cpu{a="}[\\""}[5m] | avg()', "1h"], ["cpu{a=~[a-z],b!=c}[5m]|avg()", "1h"], ["~/a\\/b/{x=y} [5m] | b", "5m.."], ["cpu {a=b}[5m] | c", "1h"], [null, null], [null, null]]);
  assert.deepEqual(understood.places, ["measurement 0 ", "measurement 0 cp", "measurement 0 a b", null, "tag 4 ", "tag 4 ho", "tag 9 ", "value 9 we", null, "range 4 1", "stage 9 ", "stage 6 av", "field 12 us", null, "duration 21 ", "tag 18 r", "fill 11 ", "stage 30 ", "stage 9 s", null]);
  assert.deepEqual(understood.names, ["a.b", '"1a"', '"a\\"b\\\\"']);
}

async function copies(page) {
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.getByLabel("FloQL").fill('"room, north"[1h] | field(celsius)');
  await button(page, "Run").click();
  await see(page, /^1 point of 1 series\. 1 point scanned/);
  const copied = async (name) => {
    await page.evaluate(() => navigator.clipboard.writeText(""));
    await button(page, name).click();
    await page.waitForFunction(() => navigator.clipboard.readText()); // until there is something
    return page.evaluate(() => navigator.clipboard.readText());
  };
  assert.match(await copied("Copy as CSV"), /^time,name,a=b,field,value\r\n\d{4}-\d\d-\d\dT[\d:.]+Z,"room, north",Zürich 🌡,celsius,21.5\r\n$/);
  assert.equal(JSON.parse(await copied("Copy as JSON")).series[0].points[0][1], 21.5);
}

async function measurement(page) {
  await page.getByRole("row", { name: /^cpu 8 2 host 4 zone 2 ever$/ }).waitFor();
  await looksRight(page, "list");
  await page.getByLabel("Begins with").fill("room");
  await page.getByRole("row", { name: /^cpu/ }).waitFor({ state: "hidden" });
  await page.getByLabel("Begins with").fill("");
  await page.getByRole("link", { name: "Most series first" }).click();
  await see(page, "3 measurements");
  assert.deepEqual((await page.locator("td.name a").allTextContents())[0], "wide");
  await page.getByRole("row", { name: /^wide 1,200 1 user 1,200: makes the series many/ }).waitFor();
  await page.getByRole("link", { name: "wide", exact: true }).click();
  await see(page, "It has 1,200 series");
  assert.equal(await page.locator(".plot:visible").count(), 0); // nobody has asked for it
  await button(page, "Draw the mean of all").click();
  await see(page, /scanned in/);
  await page.goBack();
  await page.getByRole("link", { name: "cpu", exact: true }).click();
  await page.getByRole("combobox", { name: "Field" }).selectOption("usage");
  await see(page, "all cpu usage");
  await looksRight(page, "measurement");
  const save = async (label, text) => {
    await button(page, "Settings…").click();
    await page.getByLabel(label).fill(text);
    await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  };
  await save("Downsampling rules", "1m:mode:30d");
  await page.getByRole("dialog").getByRole("alert").getByText("mode").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await save("Downsampling rules", "1m:avg:30d, 1h:max:0");
  const commands = [await said(page, "The settings of cpu are replaced.")];
  await page.getByRole("link", { name: "cpu:1h:max" }).waitFor();
  await save("Keep for", "30"); // the rules stay
  commands.push(await said(page, "Points of cpu are kept for 30 d."));
  await see(page, "30 d");
  await page.getByRole("link", { name: "cpu:1h:max" }).waitFor();
  await button(page, "Delete series…").click();
  await page.getByRole("dialog").getByLabel("Tag").selectOption("zone");
  await page.getByRole("dialog").getByLabel("Value").fill("us");
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  commands.push(await said(page, "4 series of cpu with zone=us deleted."));
  await page.setViewportSize(PHONE);
  assert.deepEqual(await accessibility(page), [], "phone");
  await shot(page, "timeseries-phone", { fullPage: true });
  const [wide, room] = await page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
  assert.ok(wide <= room, `the page is ${wide} wide, and has ${room}`);
  await page.getByRole("link", { name: "Open in the query box" }).click();
  await see(page, "all cpu usage zone=eu");
  assert.equal(await param(page, "q"), "cpu[1h] | field(usage) | avg(1m)");
  await page.goBack();
  await button(page, "Delete…").click();
  await page.getByRole("dialog").getByText("Its 4 series will be deleted with all their points.").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  commands.push(await said(page, "4 series of cpu deleted."));
  await page.getByRole("row", { name: /^wide/ }).waitFor();
  return commands;
}

async function reader(page, secret) {
  await page.getByRole("dialog").getByLabel("Secret").fill(secret);
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: "cpu", exact: true }).click();
  await see(page, "scanned in");
  const found = [];
  const note = async () => found.push(...(await page.locator("main button:visible").allTextContents()));
  await note();
  await tab(page, "Line protocol").click();
  await see(page, "cpu,host=web-1 usage=12.5");
  await note();
  return found;
}

await scenario(async ({ open, words: [part, ...words] }) => {
  const page = await open(PAGE);
  if (part === "write") return [await firstPoint(page), await manyLines(page, words[0])];
  if (part === "query") {
    await text(page);
    await completion(page);
    await answer(page);
    return copies(page);
  }
  return part === "measurements" ? measurement(page) : reader(page, words[0]);
});
