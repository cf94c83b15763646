// A page with one of each fault that the harness should see. The strict CSP is that of /health.
import assert from "node:assert/strict";
import { PHONE, accessibility, scenario, setDark, shot } from "./harness.mjs";

const BODY = "<main><h1>Faults 🦩 مرحبا</h1><img></main>";
const KINDS = ["console: Failed to load resource", "foreign request", "failed request", "console: said", "page error"];

await scenario(async ({ open, words }) => {
  const strict = await open("/health");
  const addScript = () => document.head.append(Object.assign(document.createElement("script"), { textContent: "window.ran = 1" }));
  await strict.evaluate(addScript);
  assert.equal(await strict.evaluate(() => window.ran), undefined);
  if (words[0] === "untaken") return null;
  const csp = strict.takeTroubles();
  const strictAccessibility = await accessibility(strict);

  const page = await open("/health", { bypassCSP: true, viewport: PHONE });
  await page.evaluate(async (body) => {
    document.title = document.documentElement.lang = "en";
    document.body.innerHTML = body;
    await fetch("/no/such/page");
    await fetch("http://example.com/").catch(() => {});
    console.error("said");
    setTimeout(() => { throw new Error("thrown"); });
    await new Promise((resolve) => addEventListener("error", resolve));
  }, BODY);
  const troubles = [];
  while (!KINDS.every((kind) => troubles.some((trouble) => trouble.startsWith(kind)))) {
    await page.evaluate(() => new Promise(requestAnimationFrame));
    troubles.push(...page.takeTroubles());
  }
  const look = () => page.evaluate(() => [innerWidth, innerHeight, matchMedia("(prefers-color-scheme: dark)").matches]);
  const looks = [await look()];
  await setDark(page, true);
  looks.push(await look());
  return { csp, strictAccessibility, troubles, looks, accessibility: await accessibility(page), shot: await shot(page, "faults") };
});
