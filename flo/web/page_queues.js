// Queues: the list of a namespace's queues, or one queue, if the address names one.

import { openList } from "./queues_list.js";
import { openQueue } from "./queues_one.js";
import { bytesIn, shown } from "./ui.js";

export function open(view) {
  const name = bytesIn(view.params, "queue");
  const part = name === null ? openList(view) : openQueue(view, name);
  const chosen = () => {
    const bytes = bytesIn(view.params, "queue");
    return bytes && shown(bytes);
  };
  const mine = chosen();
  return { update: () => chosen() === mine && (part.update(), true) };
}
