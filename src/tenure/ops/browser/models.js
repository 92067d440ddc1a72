// Models: their version, what waits, how large batches are, now and in the last two minutes.

const MODEL_COLUMNS = [
  ["waiting", (model) => model.waiting, (model) => isFull(model)],
  ["per batch", (model) => model.recent],
  ["served", (model) => model.served],
  ["failed", (model) => model.failed, (model) => model.failed > 0],
  ["refused", (model) => model.refused, (model) => model.refused > 0],
  ["dropped", (model) => model.dropped],
  ["late", (model) => model.late, (model) => model.late > 0],
  ["swaps", (model) => model.swaps],
];

const digitsOf = (version) => version.split("@")[1] ?? "";
const isFull = (model) => model.waiting >= model.maxQueue;

// The items of a batch, on average, of those that were begun from one look to another.
function itemsOfBatch(before, after) {
  const batches = after.batches - before.batches;
  return batches > 0 ? (after.items - before.items) / batches : 0;
}

// The same over the last ten seconds.
function recentItems(worker, id) {
  const points = series(worker, id).filter(({ at, model }) => model && at > told.at - 10_500);
  return points.length < 2 ? 0 : itemsOfBatch(points[0].model, points[points.length - 1].model);
}

function makeModelChart() {
  return drawn(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img" },
    ...["size", "area", "in-use", "waiting", "swap"].map((name) => drawn("path", { class: name })),
  );
}

function updateModelChart(chart, worker, id) {
  const points = series(worker, id).filter(({ model }) => model);
  const looks = points.map(({ at, model }, nth) => ({ at, model, items: nth ? itemsOfBatch(points[nth - 1].model, model) : 0, swapped: nth > 0 && model.version !== points[nth - 1].model.version }));
  const highest = Math.max(1, ...looks.map(({ model, items }) => Math.max(model.maxBatch, model.waiting, items)));
  const line = (height) => lineThrough(looks.map((look) => ({ at: look.at, value: height(look) / highest })), told.at);
  const [most, area, batch, waiting, swaps] = chart.children;
  set(most, { d: line(({ model }) => model.maxBatch) });
  const drawnBatch = line(({ items }) => items);
  set(area, { d: areaBelow(drawnBatch) });
  set(batch, { d: drawnBatch });
  set(waiting, { d: looks.some(({ model }) => model.waiting) ? line(({ model }) => model.waiting) : "" });
  const swapped = looks.filter(({ swapped: is }) => is);
  set(swaps, { d: swapped.map(({ at }) => `M${(WIDE - ((told.at - at) / SPAN) * WIDE).toFixed(1)} 0V${HIGH}`).join("") });
  const largest = Math.max(0, ...looks.map(({ items }) => items));
  const queued = Math.max(0, ...looks.map(({ model }) => model.waiting));
  set(chart, { "aria-label": `In the last two minutes: at most ${figureText(largest)} in a batch, at most ${whole.format(queued)} waiting, ${several(swapped.length, "swap")}` });
}

function makeModel({ id }) {
  return el(
    "article",
    { class: "pool model card" },
    el("header", {}, el("h3", {}, el("button", { type: "button", class: "link", "data-go": id })), el("span"), el("span", { class: "state" }), el("span", { class: "versions" })),
    makeFigures(MODEL_COLUMNS),
    el("ul", { class: "about" }),
    makeModelChart(),
    el("p", { class: "away" }),
    el("details", { class: "by-worker" }, el("summary", {}, "Each worker"), el("ul")),
  );
}

function aboutModel(node) {
  const { model } = node;
  const sizes = `${several(model.batches, "batch", "batches")}: ${figureText(model.items / model.batches)} items on average, at most ${whole.format(model.largest)} of ${whole.format(model.maxBatch)}`;
  const batches = model.batches
    ? [sizes, `${seconds(model.batchSeconds)} each`, `items wait ${seconds(model.waitSeconds / model.items)}`]
    : [`nothing computed yet, up to ${several(model.maxBatch, "item")} in a batch`];
  const whose = SHARED.has(node.scope) ? "one for all workers" : node.each.length > 1 && "the workers' sum";
  return [...batches, `loaded in ${seconds(model.loadSeconds)}`, whose].filter(Boolean);
}

function modelOfWorker(row, { worker, node }) {
  const [name, rest] = row.children;
  say(name, `worker ${worker}`);
  const { version, waiting, served, failed, refused } = node.model;
  say(rest, [plain(digitsOf(version)), `${whole.format(waiting)} waiting`, `${whole.format(served)} served`, `${whole.format(failed)} failed`, `${whole.format(refused)} refused`].filter(Boolean).join(" · "));
}

function updateModel(card, node, ui) {
  const [header, figures, about, chart, away, each] = card.children;
  const { model } = node;
  say(header.querySelector("button"), plain(node.name));
  scopeBadge(header.children[1], node);
  mark(header.children[2], stateOf(node));
  reconcile(header.children[3], model.versions.map(digitsOf).filter(Boolean), (digits) => digits, (digits) => el("code", { class: "badge version", title: "The first digits of its checksum" }, plain(digits)), () => {});
  updateFigures(figures, { ...model, recent: recentItems(ui.worker, node.id) }, MODEL_COLUMNS);
  reconcile(about, aboutModel(node).map((text, key) => ({ key, text })), ({ key }) => key, () => el("li"), (line, { text }) => say(line, text));
  updateModelChart(chart, ui.worker, node.id);
  show(away, model.isAway);
  say(away, `Its process is away: this is how it was ${age(model.age)} ago.`);
  const workers = SHARED.has(node.scope) ? [] : node.each.filter((one) => one.node.model);
  show(each, workers.length > 1);
  reconcile(each.lastElementChild, workers, ({ worker }) => worker, () => el("li", {}, el("b"), el("span")), modelOfWorker);
}

function renderModels(model, ui) {
  const nodes = [...model.nodes.values()].filter((node) => node.model);
  reconcile($("models"), nodes, ({ id }) => id, makeModel, (card, node) => updateModel(card, node, ui));
  show($("tab-models"), nodes.length > 0 || ui.view === "models");
  show($("no-models"), nodes.length === 0);
  show($("models-key"), nodes.length > 0);
  const waiting = nodes.reduce((sum, node) => sum + node.model.waiting, 0);
  const away = nodes.some((node) => node.model.isAway);
  return { told: away ? "away" : nodes.length ? `${whole.format(waiting)} waiting` : "", alarming: away || nodes.some((node) => isFull(node.model)) };
}

function listenToModels() {
  $("models").addEventListener("click", (event) => {
    const { go } = event.target.dataset ?? {};
    if (go !== undefined) choose(go, { view: "graph" });
  });
}
