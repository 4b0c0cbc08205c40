// Accounts: their names in lists, and the dialog that shows one account, retries its queue,
// suspends it and resumes it.

import { UnauthorizedError, describeError, get, post } from "/api.js";
import { byId, createDetails, createElement, createTable, setText } from "/elements.js";
import {
  formatDateTime,
  formatDuration,
  formatNumber,
  formatPlural,
  formatSize,
} from "/format.js";

const ID_PREFIX_CHARS = 8;
const ITEMS = 10;

const STATES = {
  ready: ["ready", ""],
  leased: ["sending", "good"],
  backing_off: ["backing off", "waiting"],
  asked_to_wait: ["waiting (Retry-After)", "waiting"],
  pull: ["pull", ""],
  unverified: ["webhook unverified", "waiting"],
  off: ["webhook off", "bad"],
  suspended: ["suspended", "bad"],
};

const ITEM_STATES = { in_order: "in order", set_aside: "set aside", held: "held" };

const dialog = byId("account");
let shown = null;
let onChange = () => {};
let onError = () => {};

/** Creates the name of an account, which opens its dialog. */
export function createAccountName({ account_id: id, label, token_name: token }) {
  const prefix = createElement("code", "", id.slice(0, ID_PREFIX_CHARS));
  const button = createElement("button", "name", label ?? prefix);
  button.type = "button";
  button.title = id;
  button.addEventListener("click", () => open(id));
  const more = label === undefined ? [] : [prefix];
  if (token !== undefined) more.push(`${more.length > 0 ? " · " : ""}token ${token}`);
  const name = createElement("div", "", button);
  if (more.length > 0) name.append(createElement("div", "quiet", ...more));
  return name;
}

export function createStateName({ state }) {
  const [text, color] = STATES[state] ?? [state, ""];
  return color ? createElement("span", `pill ${color}`, text) : text;
}

export const formatAge = (lane, now) =>
  lane.oldest_at === undefined ? "–" : formatDuration(now - lane.oldest_at);

export const formatNextAttempt = (lane, now) =>
  lane.next_attempt_at === undefined ? "–" : `in ${formatDuration(lane.next_attempt_at - now)}`;

function itemRow(item, now) {
  const size = item.size_bytes === undefined ? "–" : formatSize(item.size_bytes);
  const until = item.set_aside_until;
  const next = until === undefined ? "" : `, next in ${formatDuration(until - now)}`;
  return [
    ["Item", item.kind, "nowrap"],
    ["State", `${item.state}, ${ITEM_STATES[item.queue_state] ?? item.queue_state}${next}`, "wrap"],
    ["Last reason", item.reason ?? "–", "wrap"],
    ["Attempts", formatNumber(item.attempts), "number"],
    ["Size", size, "number"],
    ["Age", formatDuration(now - item.waiting_since), "number"],
  ];
}

function showAccount(account, { relay_time: now, items, next }) {
  shown = account;
  setText("account-title", account.label ?? "Account");
  const failures =
    account.failures === 0 ? "" : ` (${formatPlural(account.failures, "failed call")} in a row)`;
  const details = [
    ["Id", createElement("code", "", account.account_id)],
    ["Token", account.token_name ?? "–"],
    ["Registered", formatDateTime(account.created_at)],
    ["State", createElement("span", "", createStateName(account), failures)],
    ["Last reason", account.reason ?? "–"],
    ["Endpoint", account.webhook_host ?? "–"],
    ["Next attempt", formatNextAttempt(account, now)],
    ["Mailboxes", formatNumber(account.mailboxes)],
    ["Files", formatSize(account.blob_bytes)],
    ["Waiting", `${formatNumber(account.waiting)}, oldest ${formatAge(account, now)}`],
  ];
  byId("account-details").replaceChildren(createDetails(details));
  const queue = items.length === 0 ? [] : [createTable(items.map((item) => itemRow(item, now)))];
  if (next !== undefined) {
    const command = `sealpost-relay queue show ${account.account_id}`;
    queue.push(createElement("p", "quiet", `The first ${ITEMS} items. To list all: ${command}`));
  }
  byId("account-items").replaceChildren(...queue);
  byId("account-retry").disabled = account.waiting === 0 || account.suspended;
  byId("account-suspend").hidden = account.suspended;
  byId("account-resume").hidden = !account.suspended;
}

function showOutcome(text, isError) {
  setText("account-outcome", text, isError ? "error" : "quiet");
}

function showFailure(error) {
  if (error instanceof UnauthorizedError) {
    dialog.close();
    return onError(error);
  }
  return showOutcome(`Failed: ${describeError(error)}`, true);
}

async function load(id) {
  const [account, queue] = await Promise.all([
    get(`accounts/${id}`),
    get(`queues/${id}?limit=${ITEMS}`),
  ]);
  // Another account may have been opened while this one was loaded.
  if (dialog.open && dialog.dataset.account === id) showAccount(account, queue);
}

async function open(id) {
  dialog.dataset.account = id;
  shown = null;
  setText("account-title", "Account");
  showOutcome("", false);
  byId("account-confirm").hidden = true;
  byId("account-details").replaceChildren(createDetails([["Id", createElement("code", "", id)]]));
  byId("account-items").replaceChildren();
  for (const action of ["retry", "suspend", "resume"]) byId(`account-${action}`).disabled = true;
  if (!dialog.open) dialog.showModal();
  await load(id).then(enableSuspension, showFailure);
}

function enableSuspension() {
  for (const action of ["suspend", "resume"]) byId(`account-${action}`).disabled = false;
}

/** Runs an action on the account that is shown. The text that it returns is displayed. */
async function act(action) {
  if (shown === null) return;
  const id = shown.account_id;
  byId("account-confirm").hidden = true;
  try {
    showOutcome(await action(id), false);
    await load(id);
  } catch (error) {
    showFailure(error);
  }
  onChange();
}

async function retry(id) {
  const { queues, set_aside: setAside } = await post(`queues/${id}/retry`);
  const more = setAside === 0 ? "" : `, including ${formatPlural(setAside, "set-aside envelope")}`;
  return `Retrying ${formatPlural(queues, "queue")} now${more}.`;
}

async function suspend(id) {
  await post(`accounts/${id}/suspend`);
  return "Suspended. The queue is kept.";
}

async function resume(id) {
  await post(`accounts/${id}/resume`);
  return "Resumed.";
}

/** Reloads the account that is shown, if one is. */
export async function refreshAccount() {
  if (dialog.open && shown !== null) await load(shown.account_id);
}

/** Connects the dialog. `changed` runs after each action, `failed` if the token is not valid. */
export function connectDialog(changed, failed) {
  onChange = changed;
  onError = failed;
  const onClick = (id, handler) => byId(id).addEventListener("click", handler);
  onClick("account-close", () => dialog.close());
  onClick("account-retry", () => act(retry));
  onClick("account-resume", () => act(resume));
  onClick("account-suspend", () => {
    byId("account-confirm").hidden = false;
    byId("account-confirm-cancel").focus();
  });
  onClick("account-confirm-cancel", () => {
    byId("account-confirm").hidden = true;
    byId("account-suspend").focus();
  });
  onClick("account-confirm-suspend", () => act(suspend));
}
