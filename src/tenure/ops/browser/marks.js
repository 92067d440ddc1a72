// How a state, a health and a scope look: never by colour alone.

const ICONS = {
  ready: "M2.5 6.5 5 9l4.5-5.5",
  starting: "M6 1.5a4.5 4.5 0 1 1-4.5 4.5",
  waiting: "M3 1.5h6M3 10.5h6M3.5 1.5c0 3 5 3 5 4.5s-5 1.5-5 4.5M8.5 1.5c0 3-5 3-5 4.5s5 1.5 5 4.5",
  degraded: "M6 1.5 11 10.5H1ZM6 5v2.2M6 8.8v.2",
  failed: "M2.5 2.5l7 7M9.5 2.5l-7 7",
  closing: "M6 1.5v8M2.5 6 6 9.5 9.5 6",
  closed: "M2 6h8",
  declared: "M6 1.8a4.2 4.2 0 1 0 .1 0Z",
  "per request": "M9.8 4.5A4.2 4.2 0 0 0 2.2 4.2M2.2 7.5a4.2 4.2 0 0 0 7.6.3M9.9 1.8v2.8H7.1M2.1 10.2V7.4h2.8",
  draining: "M6 1.5v8M2.5 6 6 9.5 9.5 6",
  stopping: "M6 1.5v8M2.5 6 6 9.5 9.5 6",
  stopped: "M2 6h8",
  silent: "M2 2l8 8M4 9.2a4.2 4.2 0 0 0 5.2-5.2M2.3 7.4A4.2 4.2 0 0 1 7.4 2.3",
  pass: "M2.5 6.5 5 9l4.5-5.5",
  pending: "M6 1.8a4.2 4.2 0 1 0 .1 0ZM6 3.8V6l1.6 1.2",
  warn: "M6 1.5 11 10.5H1ZM6 5v2.2M6 8.8v.2",
  fail: "M2.5 2.5l7 7M9.5 2.5l-7 7",
};

function icon(name) {
  return drawn("svg", { class: "icon", viewBox: "0 0 12 12", "aria-hidden": "true" }, drawn("path", { d: ICONS[name] ?? ICONS.declared }));
}

// A state in HTML: icon and word, coloured by CSS.
function mark(element, state, text = state) {
  if (element.dataset.state !== state || !element.firstElementChild) {
    element.dataset.state = state;
    element.replaceChildren(icon(state), el("span"));
  }
  say(element.lastElementChild, text);
  return element;
}

function scopeBadge(element, node) {
  set(element, { class: "badge scope", "data-scope": node.scope ?? "none" });
  return say(element, scopeText(node));
}

const scopeText = (node) => node.scope ?? "plain";

// What the second line of a node says.
const kindText = (node) => [node.scope, node.kind === "resource" ? null : node.kind].filter(Boolean).join(" · ");

function metricText(node) {
  if (node.pool) return `${whole.format(node.pool.inUse)}/${whole.format(node.pool.size)}`;
  if (node.model) return `${whole.format(node.model.waiting)}/${whole.format(node.model.maxQueue)}`;
  return node.count === null ? "" : whole.format(node.count);
}

// How full a pool is, or a model's queue, from 0 to 1, and whether somebody suffers from it; nothing of what cannot be full.
function fillOf(node) {
  if (node?.pool) return { part: Math.min(1, node.pool.inUse / Math.max(1, node.pool.size)), full: node.pool.waiting > 0 };
  if (node?.model) return { part: Math.min(1, node.model.waiting / node.model.maxQueue), full: isFull(node.model) };
  return null;
}
