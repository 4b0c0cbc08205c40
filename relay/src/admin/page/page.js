// Status page: polls the admin API every few seconds and displays the result.

import { connectDialog, createAccountName, createStateName } from "/account.js";
import { formatAge, formatNextAttempt, refreshAccount } from "/account.js";
import { UnauthorizedError, describeError, forgetToken, hasToken, setToken } from "/api.js";
import { get, post } from "/api.js";
import { createBars, findScale } from "/chart.js";
import { byId, createElement, createTable, setText } from "/elements.js";
import {
  formatDateTime,
  formatDuration,
  formatNumber,
  formatPlural,
  formatSize,
  formatTimeWithSeconds,
  formatTimeZone,
} from "/format.js";

const REFRESH_MS = 5_000;
const ROWS = 50;
const CERTIFICATE_WARNING_MS = 14 * 86_400_000;

const CHARTS = [
  ["accepted", "Envelopes accepted"],
  ["delivered", "Envelopes delivered"],
  ["failed_calls", "Failed webhook calls"],
  ["refused", "Envelopes refused"],
];

let timer = 0;
let lastUpdate = null;

function describePeak(values) {
  const peak = Math.max(...values);
  if (peak === 0) return "none";
  const cut = peak > findScale(values) ? ", cut off" : "";
  return `peak ${formatNumber(peak)} / min${cut}`;
}

function createChart([key, title], stats) {
  const values = stats.minutes.map((minute) => minute[key]);
  const total = formatNumber(stats.last_hour[key]);
  const head = createElement(
    "header",
    "",
    createElement("h3", "", title),
    createElement("strong", "", total),
  );
  const foot = createElement(
    "footer",
    "quiet",
    createElement("span", "", "1 h ago"),
    createElement("span", "", describePeak(values)),
    createElement("span", "", "now"),
  );
  const bars = createBars(values, `${title} in the last hour: ${total}`);
  return createElement("div", `card chart ${key}`, head, bars, foot);
}

// --- lists ---

function createReason(queue) {
  const node = createElement("div", "", createStateName(queue));
  const failures = queue.failures === 0 ? [] : [formatPlural(queue.failures, "failure")];
  const more = [...failures, queue.reason ?? ""].filter((text) => text !== "").join(": ");
  if (more !== "") node.append(createElement("div", "quiet", more));
  return node;
}

function queueRow(queue, now) {
  return [
    ["Account", createAccountName(queue), "wrap"],
    ["Endpoint", queue.webhook_host ?? "–", "wrap"],
    ["State", createReason(queue), "wrap"],
    ["Waiting", formatNumber(queue.waiting), "number"],
    ["Oldest", formatAge(queue, now), "number"],
    ["Next attempt", formatNextAttempt(queue, now), "number"],
  ];
}

function accountRow(account, now) {
  return [
    ["Account", createAccountName(account), "wrap"],
    ["State", createStateName(account), "nowrap"],
    ["Waiting", formatNumber(account.waiting), "number"],
    ["Mailboxes", formatNumber(account.mailboxes), "number"],
    ["Files", formatSize(account.blob_bytes), "number"],
    ["Registered", formatDuration(now - account.created_at), "number"],
  ];
}

function showList(id, rows, empty, more) {
  const parts =
    rows.length === 0 ? [createElement("p", "quiet", empty)] : [createTable(rows)];
  if (more !== "") parts.push(createElement("p", "quiet", more));
  byId(id).replaceChildren(...parts);
}

function showQueues(id, { queues, next }, now, empty) {
  const more =
    next === undefined ? "" : `The oldest ${ROWS} queues. To list all: sealpost-relay queue list`;
  showList(id, queues.map((queue) => queueRow(queue, now)), empty, more);
}

function showAccounts({ accounts, next, relay_time: now }) {
  const more = next === undefined ? "" : `The first ${ROWS} accounts. Enter more of the id above.`;
  const empty = accountPrefix() === "" ? "No accounts." : "No account id starts with this.";
  showList("account-list", accounts.map((account) => accountRow(account, now)), empty, more);
}

// --- sections ---

function showStats(stats) {
  const { relay_time: now, storage } = stats;
  setText("origin", stats.origin);
  setText("health", stats.readiness, `pill ${stats.readiness === "ready" ? "good" : "bad"}`);
  setText("queued", formatNumber(stats.queued));
  const queues = `for ${formatPlural(stats.queues, "account")}`;
  setText("queues", stats.queues === 0 ? "All queues are empty." : queues);
  const { oldest_at: oldest } = stats;
  setText("oldest", oldest === undefined ? "–" : formatDuration(now - oldest));
  setText("oldest-since", oldest === undefined ? "" : `since ${formatDateTime(oldest)}`);
  setText("failing", formatNumber(stats.failing), `figure ${stats.failing === 0 ? "" : "bad"}`);
  const healthy = "All endpoints are healthy.";
  setText("failing-note", stats.failing === 0 ? healthy : "with queued items");
  setText("accounts", formatNumber(stats.accounts));
  const suspended = stats.suspended === 0 ? "" : `, ${formatNumber(stats.suspended)} suspended`;
  setText("mailboxes", `${formatPlural(stats.mailboxes, "mailbox", "mailboxes")}${suspended}`);
  setText("connections", formatNumber(stats.connections));
  showCertificate(stats.certificate_not_after, now);
  setText("free", storage.free_bytes === undefined ? "–" : formatSize(storage.free_bytes));
  const { database_bytes: database, blob_bytes: files } = storage;
  setText("used", `${formatSize(database)} database, ${formatSize(files)} files`);
  byId("charts").replaceChildren(...CHARTS.map((which) => createChart(which, stats)));
  const running = `running for ${formatDuration(now - stats.started_at)}`;
  setText("running", `Version ${stats.version}, ${running}`);
}

function showCertificate(notAfter, now) {
  if (notAfter === undefined) return setText("certificate", "", "quiet");
  const left = notAfter - now;
  const duration = formatDuration(Math.abs(left));
  const text = left > 0 ? `certificate expires in ${duration}` : `certificate expired ${duration} ago`;
  const isUrgent = left < CERTIFICATE_WARNING_MS;
  return setText("certificate", text, isUrgent ? "quiet bad" : "quiet");
}

function show([stats, failing, queues, accounts]) {
  showStats(stats);
  showQueues("failing-list", failing, stats.relay_time, "No endpoint is failing.");
  showQueues("queue-list", queues, stats.relay_time, "All queues are empty.");
  showAccounts(accounts);
  byId("retry-all").disabled = stats.queues === 0;
  lastUpdate = new Date();
  const zone = formatTimeZone(lastUpdate);
  setText("updated", `Updated at ${formatTimeWithSeconds(lastUpdate)} (${zone})`);
  byId("notice").hidden = true;
  byId("status").classList.remove("stale");
  byId("status").hidden = false;
  byId("sign-in").hidden = true;
}

function showUnreachable(error) {
  const since =
    lastUpdate === null ? "" : ` The figures below are from ${formatTimeWithSeconds(lastUpdate)}.`;
  const retry = `Retrying every ${REFRESH_MS / 1000} s.`;
  setText("notice", `The relay does not respond (${describeError(error)}). ${retry}${since}`);
  byId("notice").hidden = false;
  byId("status").classList.add("stale");
  setText("health", "unreachable", "pill bad");
}

function showSignIn(error) {
  forgetToken();
  setText("sign-in-error", error);
  byId("sign-in-error").hidden = error === "";
  byId("status").hidden = true;
  byId("notice").hidden = true;
  byId("sign-in").hidden = false;
  setText("health", "signed out", "pill");
  byId("token").focus();
}

function showFailure(error) {
  if (error instanceof UnauthorizedError) showSignIn("The token is not valid for this relay.");
  else showUnreachable(error);
}

const accountPrefix = () => byId("account-prefix").value.trim();

/** Lists accounts by prefix. Text that no id can start with finds none. */
async function getAccounts() {
  const prefix = accountPrefix();
  if (!/^[\w-]{0,22}$/.test(prefix)) return { accounts: [], relay_time: Date.now() };
  return get(`accounts?limit=${ROWS}&prefix=${prefix}`);
}

async function refresh() {
  clearTimeout(timer);
  if (!hasToken()) return;
  const list = `queues?limit=${ROWS}`;
  try {
    show(await Promise.all([get("stats"), get(`${list}&failing=true`), get(list), getAccounts()]));
    await refreshAccount();
  } catch (error) {
    showFailure(error);
  }
  // Several refreshes can overlap; only the last one schedules the next.
  clearTimeout(timer);
  if (hasToken() && !document.hidden) timer = setTimeout(refresh, REFRESH_MS);
}

async function retryAll() {
  try {
    const { queues } = await post("queues/retry");
    setText("retry-outcome", `Retrying ${formatPlural(queues, "queue")} now.`);
  } catch (error) {
    showFailure(error);
  }
  refresh();
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value.trim());
  byId("token").value = "";
  refresh();
});
byId("account-prefix").addEventListener("input", () => {
  getAccounts().then(showAccounts, showFailure);
});
byId("retry-all").addEventListener("click", retryAll);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
connectDialog(refresh, showFailure);

if (hasToken()) refresh();
else showSignIn("");
