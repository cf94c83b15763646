// The cluster: who leads, how far each member is behind, how etcd is; the lead is given to another member here.

import { attempt, bytesText, confirm, copyable, count, done, duration, emptyState, facts, fill, h, plural, shellWord } from "./ui.js";
import { redraw } from "./server_parts.js";

const LOOK_MS = 2_000; // members tell as often how far they are
const AWAY_MS = 10_000; // a member that has not told for so long is away
const LATE_MS = 2_000; // as cluster.stale_reads is, unless it was set: reads of a follower end then
const ROLES = {
  leader: "This member leads: it serves everything.",
  follower: "This member follows: it serves reads, and passes writes on to the leader.",
  candidate: "This member has heard of no leader, and is about to claim the lead.",
  starting: "This member reads the replicated log.",
  behind: "This member was away for too long. It copies another member's log, and serves nothing meanwhile.",
  deposed: "Another member leads; this one starts again.",
};

export function open(view) {
  const health = h("ul.health");
  const list = h("div.card");
  const numbers = h("div.card");
  const commands = h("div.card.stack");
  fill(view.root, health, list, h("div.grid", numbers, commands));
  let status = null;

  async function load() {
    const found = await view.flo.cluster_status();
    if (view.ended) return;
    status = found;
    if (!status.members) return void fill(view.root, alone());
    fill(health, saidOf(status).map(([level, text]) => h("li", { class: level }, text)));
    redraw(list, "Members", columns(), status.members);
    fill(numbers, h("h2", "This member"), factsOf(status));
    if (!commands.childElementCount) fill(commands, commandsOf());
  }

  const leads = () => status.mode === "leader";

  const columns = () => [
    { title: "Member", class: "name", cell: (member) => [member.node, " ", member.node === status.leader_node && h("span.pill", "leads"), " ", member.node === status.node && h("span.pill", "shown here")] },
    { title: "Address", cell: (member) => h("span.mono", member.address) },
    { title: "Applied", class: "num", cell: (member) => count(member.applied) },
    { title: "On its disk", class: "num", cell: (member) => count(member.synced) },
    { title: "Behind", class: "num", cell: (member) => (member.lag ? plural(member.lag, "record") : h("span.soft", "0")) },
    { title: "Last told", class: "num", cell: (member) => (member.behind_ms > AWAY_MS ? h("strong.bad", `${duration(member.behind_ms)} ago`) : `${(member.behind_ms / 1000).toFixed(1)} s ago`) },
    { title: "Action", cell: (member) => actionsOf(member) },
  ];

  function actionsOf(member) {
    if (!view.canWrite || !leads() || member.node === status.node) return null;
    const gone = member.behind_ms > AWAY_MS;
    const [text, act] = gone ? ["Remove", remove] : ["Promote", promote];
    return h("button.quiet", { class: gone ? "quiet danger" : "quiet", type: "button", "aria-label": `${text} ${member.node}`, onclick: () => attempt(() => act(member)) }, text);
  }

  async function promote(member) {
    const sure = await confirm(`Give the lead to ${member.node}?`, `Writes wait for about a tenth of a second. This member, ${status.node}, then starts again and follows; its connections are lost, and clients connect again.`, "Promote");
    if (!sure) return;
    await view.flo.cluster_promote({ key: member.node });
    done(`The lead goes to ${member.node}.`, { command: `flo cluster promote ${shellWord(member.node)}` });
  }

  async function remove(member) {
    const sure = await confirm(`Forget the member ${member.node}?`, "The log is no longer kept for it, and a majority is counted without it. Do this for a machine that does not come back. One that is started again is a member again.", "Remove");
    if (!sure) return;
    await view.flo.cluster_remove({ key: member.node });
    done(`The member ${member.node} is forgotten.`, { command: `flo cluster remove ${shellWord(member.node)}` });
    await load();
  }

  function commandsOf() {
    return [
      h("h2", "To look after it"),
      h("h3", "Who leads, and how far each member is"),
      copyable("flo cluster status"),
      h("h3", "Give the lead to another member, before the leader's machine is taken down"),
      copyable("flo cluster promote NODE"),
      h("h3", "Forget a member that does not come back"),
      copyable("flo cluster remove NODE"),
      h("h3", "Make a stopped member's log anew, on its machine: its next start copies another member's"),
      copyable("flo cluster reseed DIR"),
    ];
  }

  view.every(LOOK_MS, load);
}

function alone() {
  return emptyState("This server is alone. With two more machines and etcd, another server goes on within seconds when one fails: docs/cluster.md says how. A member shows this:", "flo cluster status");
}

/** How the cluster is, the worst first: [level, sentence]. */
function saidOf(status) {
  const { engine, members } = status;
  const away = members.filter((member) => member.behind_ms > AWAY_MS);
  return [
    !engine.ok && ["bad", `This member is not connected to etcd${engine.trouble ? `: ${engine.trouble}` : "."}`],
    !status.leader && ["bad", "No leader is known: nothing is written until one is. A majority of etcd must answer."],
    status.leader && status.silence_ms > LATE_MS && ["bad", `Nothing was heard of the leader for ${duration(status.silence_ms)}: this member serves no reads.`],
    ...away.map((member) => ["warn", `${member.node} has told nothing for ${duration(member.behind_ms)}: it is stopped, or cut off.`]),
    members.length < 3 && ["warn", `The cluster has ${plural(members.length, "member")}. With three, one may fail and two are left.`],
    [status.leader ? "good" : "warn", ROLES[status.mode]],
  ].filter(Boolean);
}

function factsOf(status) {
  const { engine } = status;
  const leader = status.leader && status.mode !== "leader" ? h("a", { href: `${location.protocol}//${status.leader}/dashboard/#/server?tab=cluster` }, `${status.leader_node} at ${status.leader}`) : status.leader_node;
  return facts(
    ["Name", status.node],
    ["Role", status.mode],
    ["Leader", leader || h("strong.bad", "none is known")],
    ["Term", `${count(status.term)}; ${plural(status.elections, "election")} since this member's start`],
    ["Heard of the leader", `${(status.silence_ms / 1000).toFixed(1)} s ago`],
    ["Records", count(status.index)],
    ["etcd", engine.ok ? `connected: ${engine.member}` : h("strong.bad", "not connected")],
    ["Acknowledged", engine.ack_p99_ms ? `half of the batches within ${engine.ack_p50_ms.toFixed(1)} ms, 99 of 100 within ${engine.ack_p99_ms.toFixed(1)} ms` : "nothing yet by this member"],
    ["Log in etcd", `${bytesText(engine.tail_bytes)}, as far as this member knows`],
  );
}
