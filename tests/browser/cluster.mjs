// The cluster's part of the page of the server: members, the lead given to another, a member that is gone. Words: the secret, the leader's
// name, the name of a follower, the name of a member that is stopped.
import assert from "node:assert/strict";
import { PHONE, accessibility, scenario, setDark, shot } from "./harness.mjs";

scenario(async ({ open, words: [secret, leader, follower, gone] }) => {
  const page = await open("/dashboard/#/server?tab=cluster");
  await page.getByRole("dialog").getByLabel("Secret").fill(secret);
  await page.getByRole("dialog").getByRole("button", { name: "Enter" }).click();
  const rows = page.getByRole("table", { name: "Members" }).locator("tbody tr");
  await rows.nth(2).waitFor();
  await page.getByText("This member leads: it serves everything.").waitFor();
  assert.match(await rows.filter({ hasText: "leads" }).innerText(), new RegExp(`^${leader}\\b.*shown here`, "s"));
  await page.getByText(new RegExp(`^${gone} has told nothing for `)).waitFor();
  await page.getByText("connected: etcd at").waitFor();
  await shot(page, "cluster");
  assert.deepEqual(await accessibility(page), []);
  await setDark(page, true);
  await shot(page, "cluster-dark");
  await setDark(page, false);
  await page.setViewportSize(PHONE);
  await shot(page, "cluster-phone");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page scrolls sideways");
  await page.setViewportSize({ width: 1280, height: 800 });

  await page.getByRole("button", { name: `Remove ${gone}` }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await page.getByText(`The member ${gone} is forgotten.`).waitFor();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 2);
  await page.getByText("The cluster has 2 members.").waitFor();

  await page.getByRole("button", { name: `Promote ${follower}` }).click();
  await shot(page, "cluster-promote");
  await page.getByRole("dialog").getByRole("button", { name: "Promote" }).click();
  await page.getByText("This member follows: it serves reads").waitFor();
  assert.match(await rows.filter({ hasText: "leads" }).innerText(), new RegExp(`^${follower}\\b`));
  assert.equal(await page.getByRole("button", { name: /^Promote/ }).count(), 0);
  await shot(page, "cluster-follower");
  page.takeTroubles(); // the connection was lost with the lead
});
