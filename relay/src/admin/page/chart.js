// Bar chart with one bar per minute, as inline SVG.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 40;
const STEP = 4;
const BAR = 3;

function createSvgElement(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

function createBar(value, index, count, peak) {
  const height = value === 0 ? 0 : Math.max(1.5, (value / peak) * HEIGHT);
  const ago = count - 1 - index;
  const title = createSvgElement("title", {});
  title.textContent = `${value.toLocaleString()} ${ago === 0 ? "in this minute" : `${ago} min ago`}`;
  return createSvgElement("rect", { x: index * STEP, y: HEIGHT - height, width: BAR, height }, title);
}

/** Draws `values`, oldest first. Screen readers announce `label`. */
export function createBars(values, label) {
  const peak = Math.max(1, ...values);
  const width = values.length * STEP;
  const box = { viewBox: `0 0 ${width} ${HEIGHT + 1}`, preserveAspectRatio: "none", role: "img", "aria-label": label };
  const baseline = createSvgElement("line", { x1: 0, x2: width, y1: HEIGHT + 0.5, y2: HEIGHT + 0.5 });
  const bars = values.map((value, index) => createBar(value, index, values.length, peak));
  return createSvgElement("svg", box, baseline, ...bars);
}
