// The status page: asks the operator's API every few seconds and shows what it says. Everything is written as text, never as
// HTML. The token comes from the form or from the link's fragment, which no server sees, and stays in this tab.

import { bars } from "/chart.js";

const REFRESH_MS = 5_000;
const ANSWER_MS = 10_000;
const ROWS = 50;
const CERTIFICATE_WARNING_MS = 14 * 86_400_000;
const KEPT = "sealpost-admin-token";

const CHARTS = [
  ["accepted", "Envelopes accepted"],
  ["delivered", "Envelopes delivered"],
  ["failed_calls", "Failed webhook calls"],
  ["refused", "Envelopes refused"],
];

const STATES = {
  ready: ["ready", ""],
  leased: ["going out", "good"],
  backing_off: ["backing off", "waiting"],
  asked_to_wait: ["asked to wait", "waiting"],
  pull: ["waits for its node", ""],
  unverified: ["webhook unverified", "waiting"],
  off: ["webhook off", "bad"],
  suspended: ["suspended", "bad"],
};

const byId = (id) => document.getElementById(id);
let token = takeToken();
let timer = 0;
let lastAnswer = null;

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEPT, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEPT);
}

class NotLetIn extends Error {}

async function ask(path) {
  const options = { headers: { authorization: `Bearer ${token}` }, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) };
  const response = await fetch(path, options);
  if (response.status === 401) throw new NotLetIn();
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? body.title);
  return body;
}

// --- words ---

const number = (value) => value.toLocaleString();
const plural = (value, noun, many = `${noun}s`) => `${number(value)} ${value === 1 ? noun : many}`;

function length(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3_600)} h`;
}

/** The time, with its day when that is not today. */
function moment(ms) {
  const at = new Date(ms);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}

function size(bytes) {
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

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function say(id, text, className) {
  const target = byId(id);
  target.textContent = text;
  if (className !== undefined) target.className = className;
}

function chart([key, title], stats) {
  const values = stats.minutes.map((minute) => minute[key]);
  const total = number(stats.last_hour[key]);
  const peak = Math.max(...values);
  const head = element("header", "", element("h3", "", title), element("strong", "", total));
  const foot = element(
    "footer",
    "quiet",
    element("span", "", "1 h ago"),
    element("span", "", peak === 0 ? "none" : `peak ${number(peak)} / min`),
    element("span", "", "now"),
  );
  return element("div", `card chart ${key}`, head, bars(values, `${title} in the last hour: ${total}`), foot);
}

function cell([label, content, className]) {
  const made = element("td", className ?? "", content);
  made.dataset.label = label;
  return made;
}

function table(rows) {
  const head = rows[0].map(([label, , className]) => element("th", className === "number" ? "number" : "", label));
  const body = rows.map((cells) => element("tr", "", ...cells.map(cell)));
  return element("table", "", element("thead", "", element("tr", "", ...head)), element("tbody", "", ...body));
}

function accountName(id) {
  const name = element("code", "", id.slice(0, 8));
  name.title = id;
  return name;
}

function stateName(queue) {
  const [words, light] = STATES[queue.state] ?? [queue.state, ""];
  return light ? element("span", `pill ${light}`, words) : words;
}

const age = (queue, now) => (queue.oldest_at === undefined ? "–" : length(now - queue.oldest_at));
const nextTry = (queue, now) => (queue.next_attempt_at === undefined ? "–" : `in ${length(queue.next_attempt_at - now)}`);

function failingRow(queue, now) {
  return [
    ["Account", accountName(queue.account_id), "whole"],
    ["Endpoint", queue.webhook_host ?? "–", "whole"],
    ["State", stateName(queue), "whole"],
    ["Last reason", queue.reason ?? "–", "words"],
    ["Failures", number(queue.failures), "number"],
    ["Waiting", number(queue.waiting), "number"],
    ["Oldest", age(queue, now), "number"],
    ["Next try", nextTry(queue, now), "number"],
  ];
}

function queueRow(queue, now) {
  return [
    ["Account", accountName(queue.account_id), "whole"],
    ["Endpoint", queue.webhook_host ?? "–", "whole"],
    ["State", stateName(queue), "whole"],
    ["Waiting", number(queue.waiting), "number"],
    ["Oldest", age(queue, now), "number"],
    ["Next try", nextTry(queue, now), "number"],
  ];
}

function list(id, { queues, next }, row, now, empty) {
  if (queues.length === 0) return byId(id).replaceChildren(element("p", "quiet", empty));
  const parts = [table(queues.map((queue) => row(queue, now)))];
  if (next !== undefined) parts.push(element("p", "quiet", `The oldest ${ROWS}. All of them: sealpost-relay queue list`));
  return byId(id).replaceChildren(...parts);
}

// --- what the relay says ---

function showStats(stats) {
  const { relay_time: now, storage } = stats;
  say("origin", stats.origin);
  say("health", stats.readiness, `pill ${stats.readiness === "ready" ? "good" : "bad"}`);
  say("queued", number(stats.queued));
  say("queues", stats.queues === 0 ? "Nothing waits." : `for ${plural(stats.queues, "account")}`);
  say("oldest", stats.oldest_at === undefined ? "–" : length(now - stats.oldest_at));
  say("oldest-since", stats.oldest_at === undefined ? "" : `since ${moment(stats.oldest_at)}`);
  say("failing", number(stats.failing), `figure ${stats.failing === 0 ? "" : "bad"}`);
  say("failing-note", stats.failing === 0 ? "All are well." : "with something waiting");
  say("accounts", number(stats.accounts));
  const suspended = stats.suspended === 0 ? "" : `, ${number(stats.suspended)} suspended`;
  say("mailboxes", `${plural(stats.mailboxes, "mailbox", "mailboxes")}${suspended}`);
  say("connections", number(stats.connections));
  const left = stats.certificate_not_after === undefined ? Infinity : stats.certificate_not_after - now;
  const words = left > 0 ? `certificate for ${length(left)}` : `certificate expired ${length(-left)} ago`;
  say("certificate", left === Infinity ? "" : words, left < CERTIFICATE_WARNING_MS ? "quiet bad" : "quiet");
  say("free", storage.free_bytes === undefined ? "–" : size(storage.free_bytes));
  say("used", `${size(storage.database_bytes)} database, ${size(storage.blob_bytes)} files`);
  byId("charts").replaceChildren(...CHARTS.map((which) => chart(which, stats)));
  say("running", `Version ${stats.version}, running for ${length(now - stats.started_at)}`);
}

function show([stats, failing, queues]) {
  showStats(stats);
  list("failing-list", failing, failingRow, stats.relay_time, "No endpoint fails.");
  list("queue-list", queues, queueRow, stats.relay_time, "Nothing waits: everything that came was handed over.");
  lastAnswer = new Date();
  say("updated", `Counted at ${lastAnswer.toLocaleTimeString()}`);
  byId("notice").hidden = true;
  byId("status").classList.remove("stale");
  byId("status").hidden = false;
  byId("sign-in").hidden = true;
}

function showSilence(error) {
  const since = lastAnswer === null ? "" : ` These figures are from ${lastAnswer.toLocaleTimeString()}.`;
  const cause = error instanceof TypeError ? "no connection" : error.name === "TimeoutError" ? "too slow" : error.message;
  say("notice", `The relay does not answer (${cause}). Trying again every ${REFRESH_MS / 1000} s.${since}`);
  byId("notice").hidden = false;
  byId("status").classList.add("stale");
  say("health", "no answer", "pill bad");
}

function showSignIn(error) {
  token = null;
  sessionStorage.removeItem(KEPT);
  say("sign-in-error", error);
  byId("sign-in-error").hidden = error === "";
  byId("status").hidden = true;
  byId("notice").hidden = true;
  byId("sign-in").hidden = false;
  say("health", "signed out", "pill");
  byId("token").focus();
}

async function refresh() {
  clearTimeout(timer);
  if (token === null) return;
  try {
    const list = `/admin/v1/queues?limit=${ROWS}`;
    show(await Promise.all([ask("/admin/v1/stats"), ask(`${list}&failing=true`), ask(list)]));
  } catch (error) {
    if (error instanceof NotLetIn) return showSignIn("This is not the token of this relay.");
    showSilence(error);
  }
  if (!document.hidden) timer = setTimeout(refresh, REFRESH_MS);
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  sessionStorage.setItem(KEPT, token);
  byId("token").value = "";
  refresh();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});

if (token === null) showSignIn("");
else refresh();
