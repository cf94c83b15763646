// What the server tells of itself (server_stats), kept for the last five minutes and handed to whoever is there.
//
// One loop asks. It asks each second while a page draws charts, else each five; not at all while the page is hidden or the client is not
// connected. What the server computes is the same for all who ask.

import { FloError, UNAUTHORIZED } from "./flo.js";

const KEPT_MS = 300_000;
const CALM_MS = 5_000; // between two questions where nothing is drawn
const BLOCK_MS = 10_000;
const RETRY_MS = 1_000; // after a refusal

/**
 * The samples of one server. Events: `sample`, when there is a new one; `refused`, when the server asks for a secret; `trouble`, when it
 * cannot answer now (it may be reading its log): `trouble` is then its sentence.
 */
export class Live extends EventTarget {
  constructor(flo) {
    super();
    this.flo = flo;
    this.samples = [];
    this.drawn = 0; // pages that draw
    this.trouble = "";
    this._running = false;
    document.addEventListener("visibilitychange", () => this.run());
    flo.addEventListener("state", () => this.run());
  }

  /** The newest sample, or null. */
  get last() {
    return this.samples.at(-1) ?? null;
  }

  /** Ask each second from now on; gives a function that ends it. */
  draw() {
    this.drawn++;
    this._wake?.();
    let over = false;
    return () => {
      if (!over) this.drawn--;
      over = true;
    };
  }

  async run() {
    if (this._running) return this._wake?.();
    this._running = true;
    try {
      while (!document.hidden && this.flo.state === "open") {
        const sample = await this.flo.server_stats({ block: this.last ? BLOCK_MS : 1 }); // at first what the server has at hand
        this.trouble = "";
        this._keep(sample);
        if (!this.drawn) await this._rest();
      }
    } catch (error) {
      if (error.status === UNAUTHORIZED) this.dispatchEvent(new Event("refused"));
      else if (error instanceof FloError) this._retry(error.message);
    } finally {
      this._running = false;
    }
    return undefined;
  }

  _retry(message) {
    this.trouble = message;
    this.dispatchEvent(new Event("trouble"));
    setTimeout(() => this.run(), RETRY_MS);
  }

  _rest() {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, CALM_MS);
      this._wake = () => {
        clearTimeout(timer);
        resolve();
      };
    }).finally(() => (this._wake = null));
  }

  _keep(sample) {
    const before = this.last;
    if (before && sample.uptime_seconds < before.uptime_seconds) this.samples = []; // another process: its counts begin anew
    this.samples.push(sample);
    while (sample.time - this.samples[0].time > KEPT_MS) this.samples.shift();
    this.dispatchEvent(new Event("sample"));
  }
}

/** What happened by the second between two samples: `grown(of)`, where `of(sample)` is a count that grows. */
export function grown(before, now, of) {
  return Math.max(of(now) - of(before), 0) / Math.max((now.time - before.time) / 1000, 0.001); // CONFIG RESETSTAT begins counts again
}

/** The quantile of the waits between two samples, microseconds; null if nobody waited. */
export function waited(before, now, quantile) {
  const counts = now.waits.under.map(([usec, under], at) => [usec, under - (before.waits.under[at]?.[1] ?? 0)]);
  const total = now.waits.count - before.waits.count;
  if (total <= 0) return null;
  let floor = 0;
  let below = 0;
  for (const [usec, under] of counts) {
    if (under >= quantile * total) return floor + ((usec - floor) * (quantile * total - below)) / Math.max(under - below, 1);
    [floor, below] = [usec, under];
  }
  return now.waits.max_usec;
}
