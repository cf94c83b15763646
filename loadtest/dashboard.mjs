// Opens five pages of the dashboard at the address given, prints when each could be used, and keeps them open until its input ends.
import { createRequire } from "node:module";
import { argv, stdin } from "node:process";

const require = createRequire(new URL("../tests/node/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const HASHES = ["#/", "#/keys", "#/queues", "#/queues?queue=queue:00007", "#/streams?stream=events"];

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const pages = [];
for (const hash of HASHES) {
  const page = await (await browser.newContext()).newPage();
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  let bytes = 0;
  session.on("Network.loadingFinished", (event) => (bytes += event.encodedDataLength));
  session.on("Network.webSocketFrameReceived", (event) => (bytes += (event.response.payloadData.length * 3) / 4));
  await page.goto(`${argv[2]}/dashboard/${hash}`, { waitUntil: "commit" });
  await page.locator("main h1").first().waitFor();
  await page.waitForTimeout(1000);
  const ms = await page.evaluate(() => performance.getEntriesByName("opened")[0].startTime); // since the page began to load
  pages.push({ hash, ms, bytes });
}
console.log(JSON.stringify({ pages }));
stdin.resume();
stdin.on("end", () => browser.close());
