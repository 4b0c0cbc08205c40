// Client of the admin API. The token comes from the form or from the fragment of the URL, which
// browsers do not send, and is stored in this tab only.

const RESPONSE_TIMEOUT_MS = 10_000;
const TOKEN_KEY = "sealpost-admin-token";

/** The token is missing or not the one of this relay. */
export class UnauthorizedError extends Error {}

let token = readToken();

function readToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN_KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(TOKEN_KEY);
}

export const hasToken = () => token !== null;

export function setToken(text) {
  token = text;
  sessionStorage.setItem(TOKEN_KEY, text);
}

export function forgetToken() {
  token = null;
  sessionStorage.removeItem(TOKEN_KEY);
}

/** Sends a request to a path below `/admin/v1/` and returns the JSON of the response. */
async function send(method, path) {
  const response = await fetch(`/admin/v1/${path}`, {
    method,
    headers: { authorization: `Bearer ${token}` },
    cache: "no-store",
    signal: AbortSignal.timeout(RESPONSE_TIMEOUT_MS),
  });
  if (response.status === 401) throw new UnauthorizedError();
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? body.title);
  return body;
}

export const get = (path) => send("GET", path);
export const post = (path) => send("POST", path);

/** Describes why a request failed. */
export function describeError(error) {
  if (error instanceof TypeError) return "no connection";
  return error.name === "TimeoutError" ? "timeout" : error.message;
}
