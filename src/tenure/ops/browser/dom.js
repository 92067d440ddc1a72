// Elements, made and changed. Every name comes from a user's program: it goes in as text or as an attribute's value,
// never as HTML. What has not changed is not written, so that focus, selection and scroll stay where they are.

const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

function say(element, text) {
  const told = String(text);
  if (element.textContent !== told) element.textContent = told;
  return element;
}

function el(tag, attributes = {}, ...children) {
  const element = set(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

function drawn(tag, attributes = {}, ...children) {
  const element = set(document.createElementNS(SVG, tag), attributes);
  element.append(...children);
  return element;
}

function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

// CSSOM, for the page's policy refuses style attributes.
function place(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (element.style.getPropertyValue(name) !== value) element.style.setProperty(name, value);
  }
}

const reconciled = new WeakMap();

// Make the children of `parent` those of `items`, known by their keys: what was there stays, and is only updated.
function reconcile(parent, items, keyOf, make, update = () => {}) {
  const before = reconciled.get(parent) ?? new Map();
  const active = parent.contains(document.activeElement) ? document.activeElement : null;
  const after = new Map();
  for (const item of items) after.set(keyOf(item), null);
  for (const [key, element] of before) if (!after.has(key)) element.remove();
  let next = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    const element = before.get(key) ?? make(item);
    after.set(key, element);
    update(element, item);
    if (element === next) next = next.nextSibling;
    else parent.insertBefore(element, next);
  }
  reconciled.set(parent, after);
  if (active !== null && active !== document.activeElement && active.isConnected) active.focus({ preventScroll: true }); // it was moved
  return after;
}

const whole = new Intl.NumberFormat("en");

function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 0.001) return "< 1 ms";
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.995) return `${value.toFixed(2)} s`;
  if (value < 60) return `${value.toFixed(1)} s`;
  return age(value);
}

function age(value) {
  const rounded = Math.max(0, Math.round(value));
  if (rounded < 60) return `${rounded} s`;
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min`;
  if (rounded < 86400) return `${Math.floor(rounded / 3600)} h ${Math.floor((rounded % 3600) / 60)} min`;
  return `${Math.floor(rounded / 86400)} d ${Math.floor((rounded % 86400) / 3600)} h`;
}

function clock(time) {
  return time ? new Date(time).toLocaleTimeString("en", { hour12: false }) : "";
}

function several(count, one, many = `${one}s`) {
  return `${whole.format(count)} ${count === 1 ? one : many}`;
}

// In XML these are no characters at all, and in a label they show as nothing.
function plain(text) {
  return String(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\ufffe\uffff]/g, "�");
}

function shortened(text, most) {
  const characters = [...plain(text)];
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : characters.join("");
}
