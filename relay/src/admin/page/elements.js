// Elements of the page. All content is inserted as text, never as HTML.

export const byId = (id) => document.getElementById(id);

export function createElement(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

export function setText(id, text, className) {
  const target = byId(id);
  target.textContent = text;
  if (className !== undefined) target.className = className;
}

function createCell([label, content, className]) {
  const node = createElement("td", className ?? "", content);
  node.dataset.label = label;
  return node;
}

/** Creates a table. Each row is a list of `[heading, content, class]`. */
export function createTable(rows) {
  const headings = rows[0].map(([label, , className]) =>
    createElement("th", className === "number" ? "number" : "", label),
  );
  const body = rows.map((cells) => createElement("tr", "", ...cells.map(createCell)));
  const head = createElement("thead", "", createElement("tr", "", ...headings));
  return createElement("table", "", head, createElement("tbody", "", ...body));
}

/** Creates a list of titles and texts. */
export function createDetails(pairs) {
  const parts = pairs.flatMap(([title, content]) => [
    createElement("dt", "", title),
    createElement("dd", "", content),
  ]);
  return createElement("dl", "", ...parts);
}
