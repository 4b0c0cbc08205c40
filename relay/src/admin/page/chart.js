// Bar chart with one bar per minute, as inline SVG.
//
// A single minute with an unusual value must not make all other bars invisible. The bars are then
// scaled to the usual values, and the unusual ones are cut off and marked with a gap.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 40;
const STEP = 4;
const BAR = 3;
const GAP = 3;
/** Quantile of the busy minutes that is taken as the usual value. */
const USUAL_QUANTILE = 0.8;
/** A value is cut off if it is more than this many times the usual value. */
const OUTLIER_FACTOR = 4;

function createSvgElement(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

/** Returns the value of a bar of full height. Larger values are cut off. */
export function findScale(values) {
  const busy = values.filter((value) => value > 0).sort((a, b) => a - b);
  if (busy.length === 0) return 1;
  const limit = busy[Math.floor((busy.length - 1) * USUAL_QUANTILE)] * OUTLIER_FACTOR;
  const peak = busy[busy.length - 1];
  if (peak <= limit) return peak;
  // The rest fills two thirds of the height, so that a bar that is cut off is clearly higher.
  const usual = busy.filter((value) => value <= limit);
  return usual[usual.length - 1] * 1.5;
}

function createBar(value, index, count, scale) {
  const isCut = value > scale;
  const height = value === 0 ? 0 : Math.max(1.5, Math.min(1, value / scale) * HEIGHT);
  const ago = count - 1 - index;
  const title = createSvgElement("title", {});
  const cut = isCut ? ", cut off" : "";
  const when = ago === 0 ? "in this minute" : `${ago} min ago`;
  title.textContent = `${value.toLocaleString()} ${when}${cut}`;
  const box = (y, height) =>
    createSvgElement("rect", { x: index * STEP, y, width: BAR, height });
  const bars = isCut
    ? [box(0, GAP), box(2 * GAP, HEIGHT - 2 * GAP)]
    : [box(HEIGHT - height, height)];
  return createSvgElement("g", isCut ? { class: "cut" } : {}, title, ...bars);
}

/** Draws `values`, oldest first. Screen readers announce `label`. */
export function createBars(values, label) {
  const scale = findScale(values);
  const width = values.length * STEP;
  const box = {
    viewBox: `0 0 ${width} ${HEIGHT + 1}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  };
  const line = { x1: 0, x2: width, y1: HEIGHT + 0.5, y2: HEIGHT + 0.5 };
  const bars = values.map((value, index) => createBar(value, index, values.length, scale));
  return createSvgElement("svg", box, createSvgElement("line", line), ...bars);
}
