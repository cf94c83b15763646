// Chromium as a client of /ws, from a page of the server's own origin and from one that is not.
import { scenario } from "./harness.mjs";

/** In the page: send requests, a ping each, and a text at the end; gives the answers and the close. */
async function talk(url, values) {
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  const closed = new Promise((resolve) => (socket.onclose = ({ code, reason }) => resolve([code, reason])));
  const opened = await Promise.race([new Promise((resolve) => (socket.onopen = () => resolve(true))), closed.then(() => false)]);
  const answers = [];
  socket.onmessage = ({ data }) => {
    const view = new DataView(data);
    const length = view.getUint32(16, true);
    answers.push([view.getUint16(4, true), Number(view.getBigUint64(8, true)), length, data.byteLength - length, new Uint8Array(data).at(-1)]);
    if (answers.length === values.length) socket.send("text");
  };
  if (opened) {
    values.forEach(([size, fill], id) => {
      const request = new Uint8Array(32 + size).fill(fill, 32);
      request.set([0x46, 0x4c, 0x4f, 1]);
      const view = new DataView(request.buffer);
      view.setBigUint64(8, BigInt(id), true);
      view.setUint32(16, size, true);
      socket.send(request);
    });
  }
  return { opened, answers, closed: await closed };
}

await scenario(async ({ base, open }) => {
  const talkFrom = async (page) => page.evaluate(`(${talk})("${base.replace("http", "ws")}/ws", [[5, 104], [1000000, 7], [0, 0]])`);
  // No page of the server's may connect, but for the dashboard: the CSP of these two is set aside
  const own = await open("/health", { bypassCSP: true });
  const foreign = await open(`${base.replace("127.0.0.1", "localhost")}/health`, { bypassCSP: true });
  const seen = { own: await talkFrom(own), foreign: await talkFrom(foreign) };
  seen.troubles = foreign.takeTroubles();
  return seen;
});
