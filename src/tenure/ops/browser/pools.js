// Pools and counters: now, and in the last two minutes.

const COLUMNS = [
  ["in use", (pool) => pool.inUse],
  ["idle", (pool) => Math.max(0, pool.open - pool.inUse)],
  ["waiting", (pool) => pool.waiting, (pool) => pool.waiting > 0],
  ["size", (pool) => pool.size],
  ["refused", (pool) => pool.refused, (pool) => pool.refused > 0],
  ["killed", (pool) => pool.killed, (pool) => pool.killed > 0],
  ["leaked", (pool) => pool.leaked, (pool) => pool.leaked > 0],
]; // name, value, whether that is to be seen to

const figureText = (value) => (Number.isInteger(value) ? whole.format(value) : value.toFixed(1));

function makeFigures(columns) {
  return el("dl", { class: "figures" }, ...columns.map(([name]) => el("div", { "data-figure": name }, el("dt", {}, name), el("dd"))));
}

function updateFigures(figures, told, columns) {
  [...figures.children].forEach((figure, at) => {
    const [, of, alarms] = columns[at];
    const value = of(told);
    say(figure.lastElementChild, figureText(value));
    figure.classList.toggle("alarming", Boolean(alarms?.(told)));
    figure.classList.toggle("none", value === 0);
  });
}

function makePool({ id }) {
  return el(
    "article",
    { class: "pool card" },
    el("header", {}, el("h3", {}, el("button", { type: "button", class: "link", "data-go": id })), el("span"), el("span", { class: "state" })),
    makeFigures(COLUMNS),
    makeChart(),
    el("details", { class: "by-worker" }, el("summary", {}, "Each worker"), el("ul")),
  );
}

function workerFigures(row, { worker, node }) {
  const [name, rest] = row.children;
  say(name, `worker ${worker}`);
  const [used, idle, waiting, size] = COLUMNS.map(([, of]) => whole.format(of(node.pool)));
  say(rest, `${used} in use, ${idle} idle, ${waiting} waiting, of ${size}`);
}

function updatePool(card, node, ui) {
  const [header, figures, chart, each] = card.children;
  say(header.querySelector("button"), plain(node.name));
  scopeBadge(header.children[1], node);
  mark(header.children[2], stateOf(node));
  updateFigures(figures, node.pool, COLUMNS);
  updateChart(chart, ui.worker, node.id);
  const workers = node.each.filter((one) => one.node.pool);
  show(each, workers.length > 1);
  reconcile(each.lastElementChild, workers, ({ worker }) => worker, () => el("li", {}, el("b"), el("span")), workerFigures);
}

function updateCounter(card, node, ui) {
  const [value, speed, name, facts] = card.children;
  say(value, whole.format(node.count));
  say(name, plain(node.name));
  const rising = rate(ui.worker, node.id);
  const shared = SHARED.has(node.scope) ? `${node.scope}: one for all workers` : `${node.scope}: ${node.each.length > 1 ? "the workers' sum" : "this worker's own"}`;
  say(facts, shared);
  say(speed, rising ? `+${rising >= 9.95 ? whole.format(Math.round(rising)) : rising.toFixed(1)} a second` : "");
  set(card, { "data-scope": node.scope ?? "none" });
}

function renderPools(model, ui) {
  const nodes = [...model.nodes.values()];
  const pools = nodes.filter((node) => node.pool);
  const counters = nodes.filter((node) => node.count !== null);
  reconcile($("pools"), pools, ({ id }) => id, makePool, (card, node) => updatePool(card, node, ui));
  reconcile($("counters"), counters, ({ id }) => id, () => el("div", { class: "counter card" }, el("b"), el("i"), el("span"), el("small")), (card, node) => updateCounter(card, node, ui));
  show($("no-pools"), pools.length === 0);
  show($("pools-key"), pools.length > 0);
  show($("counters-title"), counters.length > 0);
  const waiting = pools.reduce((sum, { pool }) => sum + pool.waiting, 0);
  const used = pools.reduce((sum, { pool }) => sum + pool.inUse, 0);
  return { told: pools.length ? (waiting ? `${waiting} waiting` : `${used} in use`) : "", alarming: waiting > 0 };
}

function listenToPools() {
  $("pools").addEventListener("click", (event) => {
    const { go } = event.target.dataset ?? {};
    if (go !== undefined) choose(go, { view: "graph" });
  });
}
