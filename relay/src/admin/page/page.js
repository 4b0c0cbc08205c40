// Status page: polls the admin API every few seconds and displays the result. All content is inserted as text, never as
// HTML. The token comes from the form or from the fragment of the URL, which browsers do not send, and is stored in this
// tab only.

import { createBars } from "/chart.js";

const REFRESH_MS = 5_000;
const RESPONSE_TIMEOUT_MS = 10_000;
const ROWS = 50;
const CERTIFICATE_WARNING_MS = 14 * 86_400_000;
const TOKEN_KEY = "sealpost-admin-token";

const CHARTS = [
  ["accepted", "Envelopes accepted"],
  ["delivered", "Envelopes delivered"],
  ["failed_calls", "Failed webhook calls"],
  ["refused", "Envelopes refused"],
];

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

const byId = (id) => document.getElementById(id);
let token = readToken();
let timer = 0;
let lastUpdate = null;

function readToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN_KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(TOKEN_KEY);
}

class UnauthorizedError extends Error {}

async function fetchJson(path) {
  const signal = AbortSignal.timeout(RESPONSE_TIMEOUT_MS);
  const options = { headers: { authorization: `Bearer ${token}` }, cache: "no-store", signal };
  const response = await fetch(path, options);
  if (response.status === 401) throw new UnauthorizedError();
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? body.title);
  return body;
}

// --- formatting ---

const formatNumber = (value) => value.toLocaleString();
const formatPlural = (value, noun, many = `${noun}s`) => `${formatNumber(value)} ${value === 1 ? noun : many}`;

function formatDuration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3_600)} h`;
}

/** Formats a time, with the date unless it is today. */
function formatDateTime(ms) {
  const at = new Date(ms);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}

function formatSize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

// --- elements ---

function createElement(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function setText(id, text, className) {
  const target = byId(id);
  target.textContent = text;
  if (className !== undefined) target.className = className;
}

function createChart([key, title], stats) {
  const values = stats.minutes.map((minute) => minute[key]);
  const total = formatNumber(stats.last_hour[key]);
  const peak = Math.max(...values);
  const head = createElement("header", "", createElement("h3", "", title), createElement("strong", "", total));
  const foot = createElement(
    "footer",
    "quiet",
    createElement("span", "", "1 h ago"),
    createElement("span", "", peak === 0 ? "none" : `peak ${formatNumber(peak)} / min`),
    createElement("span", "", "now"),
  );
  const bars = createBars(values, `${title} in the last hour: ${total}`);
  return createElement("div", `card chart ${key}`, head, bars, foot);
}

function createCell([label, content, className]) {
  const node = createElement("td", className ?? "", content);
  node.dataset.label = label;
  return node;
}

function createTable(rows) {
  const headings = rows[0].map(([label, , className]) =>
    createElement("th", className === "number" ? "number" : "", label),
  );
  const body = rows.map((cells) => createElement("tr", "", ...cells.map(createCell)));
  const head = createElement("thead", "", createElement("tr", "", ...headings));
  return createElement("table", "", head, createElement("tbody", "", ...body));
}

function createAccountName(id) {
  const name = createElement("code", "", id.slice(0, 8));
  name.title = id;
  return name;
}

function createStateName(queue) {
  const [text, color] = STATES[queue.state] ?? [queue.state, ""];
  return color ? createElement("span", `pill ${color}`, text) : text;
}

const formatAge = (queue, now) => (queue.oldest_at === undefined ? "–" : formatDuration(now - queue.oldest_at));
const formatNextAttempt = (queue, now) =>
  queue.next_attempt_at === undefined ? "–" : `in ${formatDuration(queue.next_attempt_at - now)}`;

function failingRow(queue, now) {
  return [
    ["Account", createAccountName(queue.account_id), "nowrap"],
    ["Endpoint", queue.webhook_host ?? "–", "nowrap"],
    ["State", createStateName(queue), "nowrap"],
    ["Last reason", queue.reason ?? "–", "wrap"],
    ["Failures", formatNumber(queue.failures), "number"],
    ["Waiting", formatNumber(queue.waiting), "number"],
    ["Oldest", formatAge(queue, now), "number"],
    ["Next attempt", formatNextAttempt(queue, now), "number"],
  ];
}

function queueRow(queue, now) {
  return [
    ["Account", createAccountName(queue.account_id), "nowrap"],
    ["Endpoint", queue.webhook_host ?? "–", "nowrap"],
    ["State", createStateName(queue), "nowrap"],
    ["Waiting", formatNumber(queue.waiting), "number"],
    ["Oldest", formatAge(queue, now), "number"],
    ["Next attempt", formatNextAttempt(queue, now), "number"],
  ];
}

function showQueues(id, { queues, next }, row, now, empty) {
  if (queues.length === 0) return byId(id).replaceChildren(createElement("p", "quiet", empty));
  const parts = [createTable(queues.map((queue) => row(queue, now)))];
  if (next !== undefined) {
    parts.push(createElement("p", "quiet", `The oldest ${ROWS} queues. To list all: sealpost-relay queue list`));
  }
  return byId(id).replaceChildren(...parts);
}

// --- sections ---

function showStats(stats) {
  const { relay_time: now, storage } = stats;
  setText("origin", stats.origin);
  setText("health", stats.readiness, `pill ${stats.readiness === "ready" ? "good" : "bad"}`);
  setText("queued", formatNumber(stats.queued));
  setText("queues", stats.queues === 0 ? "All queues are empty." : `for ${formatPlural(stats.queues, "account")}`);
  setText("oldest", stats.oldest_at === undefined ? "–" : formatDuration(now - stats.oldest_at));
  setText("oldest-since", stats.oldest_at === undefined ? "" : `since ${formatDateTime(stats.oldest_at)}`);
  setText("failing", formatNumber(stats.failing), `figure ${stats.failing === 0 ? "" : "bad"}`);
  setText("failing-note", stats.failing === 0 ? "All endpoints are healthy." : "with queued items");
  setText("accounts", formatNumber(stats.accounts));
  const suspended = stats.suspended === 0 ? "" : `, ${formatNumber(stats.suspended)} suspended`;
  setText("mailboxes", `${formatPlural(stats.mailboxes, "mailbox", "mailboxes")}${suspended}`);
  setText("connections", formatNumber(stats.connections));
  const left = stats.certificate_not_after === undefined ? Infinity : stats.certificate_not_after - now;
  const expiry =
    left > 0 ? `certificate expires in ${formatDuration(left)}` : `certificate expired ${formatDuration(-left)} ago`;
  setText("certificate", left === Infinity ? "" : expiry, left < CERTIFICATE_WARNING_MS ? "quiet bad" : "quiet");
  setText("free", storage.free_bytes === undefined ? "–" : formatSize(storage.free_bytes));
  setText("used", `${formatSize(storage.database_bytes)} database, ${formatSize(storage.blob_bytes)} files`);
  byId("charts").replaceChildren(...CHARTS.map((which) => createChart(which, stats)));
  setText("running", `Version ${stats.version}, running for ${formatDuration(now - stats.started_at)}`);
}

function show([stats, failing, queues]) {
  showStats(stats);
  showQueues("failing-list", failing, failingRow, stats.relay_time, "No endpoint is failing.");
  showQueues("queue-list", queues, queueRow, stats.relay_time, "All queues are empty.");
  lastUpdate = new Date();
  setText("updated", `Updated at ${lastUpdate.toLocaleTimeString()}`);
  byId("notice").hidden = true;
  byId("status").classList.remove("stale");
  byId("status").hidden = false;
  byId("sign-in").hidden = true;
}

function showUnreachable(error) {
  const since = lastUpdate === null ? "" : ` The figures below are from ${lastUpdate.toLocaleTimeString()}.`;
  const cause = error instanceof TypeError ? "no connection" : error.name === "TimeoutError" ? "timeout" : error.message;
  setText("notice", `The relay does not respond (${cause}). Retrying every ${REFRESH_MS / 1000} s.${since}`);
  byId("notice").hidden = false;
  byId("status").classList.add("stale");
  setText("health", "unreachable", "pill bad");
}

function showSignIn(error) {
  token = null;
  sessionStorage.removeItem(TOKEN_KEY);
  setText("sign-in-error", error);
  byId("sign-in-error").hidden = error === "";
  byId("status").hidden = true;
  byId("notice").hidden = true;
  byId("sign-in").hidden = false;
  setText("health", "signed out", "pill");
  byId("token").focus();
}

async function refresh() {
  clearTimeout(timer);
  if (token === null) return;
  try {
    const list = `/admin/v1/queues?limit=${ROWS}`;
    show(await Promise.all([fetchJson("/admin/v1/stats"), fetchJson(`${list}&failing=true`), fetchJson(list)]));
  } catch (error) {
    if (error instanceof UnauthorizedError) return showSignIn("The token is not valid for this relay.");
    showUnreachable(error);
  }
  if (!document.hidden) timer = setTimeout(refresh, REFRESH_MS);
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  sessionStorage.setItem(TOKEN_KEY, token);
  byId("token").value = "";
  refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});

if (token === null) showSignIn("");
else refresh();
