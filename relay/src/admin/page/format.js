// Formatting of numbers, sizes and times. Times are local, with 24 hours.

export const formatNumber = (value) => value.toLocaleString();

export const formatPlural = (value, noun, many = `${noun}s`) =>
  `${formatNumber(value)} ${value === 1 ? noun : many}`;

export function formatDuration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) {
    return `${Math.floor(seconds / 3_600)} h ${Math.floor((seconds % 3_600) / 60)} min`;
  }
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3_600)} h`;
}

const pad = (number) => String(number).padStart(2, "0");

/** Formats the time of day as `HH:MM`, the same in every language of the browser. */
export const formatTime = (at) => `${pad(at.getHours())}:${pad(at.getMinutes())}`;

export const formatTimeWithSeconds = (at) => `${formatTime(at)}:${pad(at.getSeconds())}`;

/** Formats a time, with the date unless it is today. */
export function formatDateTime(ms) {
  const at = new Date(ms);
  if (at.toDateString() === new Date().toDateString()) return formatTime(at);
  const date = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return `${date} ${formatTime(at)}`;
}

/** Formats the offset of the local time, for example `UTC+01:00`. */
export function formatTimeZone(at) {
  const minutes = -at.getTimezoneOffset();
  const offset = `${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
  return `UTC${minutes < 0 ? "-" : "+"}${offset}`;
}

export function formatSize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
