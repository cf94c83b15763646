// What scenarios of the whole dashboard share: when a page is drawn, and the way through all pages.

const BLOCK = 6; // the type of the option `block`

/** Whether a request may wait: it has the option `block`. */
function waits(message) {
  let at = message.length - message.readUInt16LE(30);
  while (at < message.length) {
    if (message[at] === BLOCK) return true;
    at += 3 + message.readUInt16LE(at + 1);
  }
  return false;
}

/** Follow what a page says to its server: `page.sent` counts the requests, `page.unanswered` and `page.waiting` have the ids of those. */
export function follow(page) {
  page.sent = 0;
  page.unanswered = new Set();
  page.waiting = new Set();
  page.loading = new Set(); // files
  page.on("request", (request) => page.loading.add(request));
  for (const end of ["requestfinished", "requestfailed"]) page.on(end, (request) => page.loading.delete(request));
  page.on("websocket", (socket) => {
    page.unanswered.clear();
    page.waiting.clear();
    socket.on("framesent", ({ payload }) => {
      page.sent++;
      (waits(payload) ? page.waiting : page.unanswered).add(payload.readBigUInt64LE(8));
    });
    socket.on("framereceived", ({ payload }) => {
      page.unanswered.delete(payload.readBigUInt64LE(8));
      page.waiting.delete(payload.readBigUInt64LE(8));
    });
  });
}

/** A page of the dashboard that is followed from its beginning. */
export async function dashboard(open, base, address = "", options = {}) {
  const page = await open("/health", options); // a page without scripts
  follow(page);
  await page.goto(`${base}/dashboard/${address}`);
  return page;
}

/** Wait until the page is there and no request is on its way; with `waiting`, also none that waits for something. */
export async function settled(page, { waiting = false } = {}) {
  await page.locator("main h1").first().waitFor();
  const busy = () => page.loading.size || page.unanswered.size || (waiting && page.waiting.size);
  for (let calm = 0; calm < 3; calm = busy() ? 0 : calm + 1) await page.evaluate(() => new Promise(requestAnimationFrame));
}

/** What an address shows: its page, and which parameters it has; of tabs also which. */
function kindOf(address) {
  const [path, query = ""] = address.split("?");
  return [path, ...Array.from(new URLSearchParams(query), ([name, value]) => (name === "tab" ? `tab=${value}` : name)).sort()].join(" ");
}

/** Go to each page, and by its links to each of its kinds of views, one of each; call `look(address)` where it is drawn. Gives the addresses. */
export async function walk(page, look) {
  const links = (selector) => page.locator(selector).evaluateAll((all) => all.map((link) => link.getAttribute("href")));
  await settled(page);
  const left = await links("#nav a");
  const seen = new Map();
  while (left.length) {
    const address = left.shift();
    if (seen.has(kindOf(address))) continue;
    seen.set(kindOf(address), address);
    await page.evaluate((hash) => (location.hash = hash), address);
    await page.waitForFunction((hash) => document.querySelector("#nav a[aria-current]")?.getAttribute("href").split("?")[0] === hash.split("?")[0], address);
    await settled(page);
    await look(address);
    left.push(...(await links("main a[href^='#/']")).filter((each) => each.includes("?")));
  }
  return [...seen.values()];
}
