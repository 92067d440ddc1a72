// The same as an indented list, for narrow screens and for who reads with the ears: users first, below each its needs.

const outline = { rows: new Map(), order: [], current: null };

function rowsOf(shape) {
  const items = new Map(shape.items.map((item) => [item.id, item]));
  const needs = new Map(shape.items.map(({ id }) => [id, []]));
  const needed = new Set();
  for (const { from, to, implied } of shape.edges) {
    if (implied) continue;
    needs.get(from).push(to);
    needed.add(to);
  }
  const rows = [];
  const told = new Set();
  const add = (id, level, parent) => {
    const again = told.has(id);
    const key = `${parent}/${id}`;
    rows.push({ key, parent, item: items.get(id), level, again: again && needs.get(id).length > 0 });
    told.add(id);
    if (!again) needs.get(id).forEach((need) => add(need, level + 1, key));
  };
  const roots = shape.items.filter(({ id }) => !needed.has(id));
  roots.sort((a, b) => (needs.get(b.id).length > 0) - (needs.get(a.id).length > 0));
  roots.forEach(({ id }) => add(id, 1, ""));
  shape.items.forEach(({ id }) => told.has(id) || add(id, 1, "")); // files in a circle have no first
  return rows;
}

function makeRow() {
  return el(
    "div",
    { role: "treeitem", tabindex: -1, class: "row" },
    el("span", { class: "name" }),
    el("span", { class: "metric" }),
    el("span", { class: "kind" }),
    el("span", { class: "state" }),
  );
}

function updateRow(row, { key, item, level, again }, ui) {
  const state = itemState(item);
  set(row, {
    "aria-level": level,
    "aria-selected": String(item.id === ui.selected),
    "data-key": key,
    "data-id": item.id,
    "data-scope": item.group ? "none" : (item.node.scope ?? "none"),
  });
  row.classList.toggle("again", again);
  place(row, { "--level": String(level - 1) });
  const [name, metric, kind, told] = row.children;
  say(name, item.group ? fileName(item.group.file) : plain(item.node.name));
  say(metric, item.node ? metricText(item.node) : "");
  say(kind, again ? `${secondLine(item)} · its needs are above` : secondLine(item));
  mark(told, state);
}

function renderOutline(shape, ui) {
  outline.order = rowsOf(shape);
  outline.rows = reconcile($("outline"), outline.order, ({ key }) => key, makeRow, (row, item) => updateRow(row, item, ui));
  if (!outline.rows.has(outline.current)) outline.current = outline.order[0]?.key ?? null;
  for (const [key, row] of outline.rows) set(row, { tabindex: key === outline.current ? 0 : -1 });
}

function focusRow(key) {
  const row = outline.rows.get(key);
  if (!row) return;
  set(outline.rows.get(outline.current) ?? row, { tabindex: -1 });
  outline.current = key;
  set(row, { tabindex: 0 });
  row.focus();
}

function listenToOutline() {
  const tree = $("outline");
  const rowOf = (event) => event.target.closest?.(".row");
  tree.addEventListener("click", (event) => {
    const row = rowOf(event);
    if (!row) return;
    focusRow(row.dataset.key);
    choose(row.dataset.id);
  });
  tree.addEventListener("keydown", (event) => {
    const row = rowOf(event);
    if (!row) return;
    const at = outline.order.findIndex(({ key }) => key === row.dataset.key);
    const go = {
      ArrowDown: () => outline.order[at + 1],
      ArrowUp: () => outline.order[at - 1],
      ArrowRight: () => outline.order.find(({ parent }) => parent === row.dataset.key),
      ArrowLeft: () => outline.order.find(({ key }) => key === outline.order[at].parent),
      Home: () => outline.order[0],
      End: () => outline.order[outline.order.length - 1],
    }[event.key];
    if (go) focusRow(go()?.key);
    else if (event.key === "Enter" || event.key === " ") choose(row.dataset.id);
    else return;
    event.preventDefault();
  });
}
