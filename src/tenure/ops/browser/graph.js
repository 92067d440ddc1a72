// The graph as SVG. Nodes are known by their ids: an answer changes their text, and only another shape moves them.

const graph = { signature: "", layout: null, elements: new Map(), edges: [], items: new Map(), current: null };
const measuring = document.createElement("canvas").getContext("2d");
const STATE_ROOM = { true: "per request", false: "degraded" };

const widths = new Map();

function measured(text, font) {
  const key = `${font} ${text}`;
  if (!widths.has(key)) {
    measuring.font = `${font} system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif`;
    widths.set(key, measuring.measureText(text).width);
  }
  return widths.get(key);
}

const NAME_FONT = "600 13px";
const SMALL_FONT = "500 11px";

const fileName = (file) => file.split("/").filter(Boolean).slice(-2).join("/");
const nameOf = (item) => shortened(item.group ? fileName(item.group.file) : item.node.name, 28);
const secondLine = (item) => (item.group ? several(item.group.members.length, "resource") : kindText(item.node) || "plain");

function itemState(item) {
  return item.group ? worst(item.group.members.map((node) => node.state).filter((state) => state !== "declared"), NODE_STATES) ?? "declared" : stateOf(item.node);
}

function widthOf(item) {
  const metric = item.node && metricText(item.node) ? 52 : 0;
  const first = measured(nameOf(item), NAME_FONT) + metric;
  const room = STATE_ROOM[Boolean(item.node) && PER_REQUEST.has(item.node.scope)];
  const second = measured(secondLine(item), SMALL_FONT) + 14 + 16 + measured(room, SMALL_FONT);
  return Math.ceil(Math.max(first, second, 92) + 32);
}

function makeNode({ id, group }) {
  const node = drawn(
    "g",
    { class: group ? "node group" : "node", role: "button", tabindex: -1, "data-id": id },
    drawn("rect", { class: "halo", x: -4, y: -4, rx: 12, height: NODE_HIGH + 8 }),
    drawn("rect", { class: "under", x: 4, y: 4, rx: 9, height: NODE_HIGH }),
    drawn("rect", { class: "box", rx: 9, height: NODE_HIGH }),
    drawn("g", { class: "stripes" }),
    drawn("text", { class: "name", x: 21, y: 20 }),
    drawn("text", { class: "metric", y: 20, "text-anchor": "end" }),
    drawn("text", { class: "kind", x: 21, y: 37 }),
    drawn("g", { class: "mark" }, drawn("path", { class: "sign" }), drawn("text", { class: "word", x: 15, y: 10 })),
    drawn("rect", { class: "rail", x: 21, y: 42.5, height: 2.5, rx: 1.25 }),
    drawn("rect", { class: "meter", x: 21, y: 42.5, height: 2.5, rx: 1.25 }),
  );
  node.parts = Object.fromEntries([...node.querySelectorAll("[class]")].map((part) => [part.getAttribute("class"), part]));
  return node;
}

// The colour of the scope; of a file, those of all of its scopes.
function stripe(stripes, item) {
  const scopes = [...new Set((item.group?.members ?? [item.node]).map((node) => node.scope ?? "none"))];
  const high = (NODE_HIGH - 22 - 2 * (scopes.length - 1)) / scopes.length;
  reconcile(stripes, scopes, (scope) => scope, () => drawn("rect", { class: "stripe", x: 9, width: 4, rx: 2 }), (rect, scope) => {
    set(rect, { "data-scope": scope, y: 11 + scopes.indexOf(scope) * (high + 2), height: high });
  });
}

function labelOf(item, shape) {
  if (item.group) return `${nameOf(item)}, ${several(item.group.members.length, "resource")}, ${itemState(item)}, opens`;
  const names = (here, there) => shape.edges.filter((edge) => edge[here] === item.id).map((edge) => nameOf(graph.items.get(edge[there]))).join(", ");
  const [needs, users] = [names("from", "to"), names("to", "from")];
  const health = item.node.health ? `, health ${item.node.health}` : "";
  return [
    `${plain(item.node.name)}, ${kindText(item.node) || "plain dependency"}, ${itemState(item)}${health}`,
    needs && `needs ${needs}`,
    users && `needed by ${users}`,
  ].filter(Boolean).join("; ");
}

function updateNode(element, item, shape, ui) {
  const { parts } = element;
  const wide = graph.layout.nodes.get(item.id).wide;
  const state = itemState(item);
  const scope = item.group ? "none" : (item.node.scope ?? "none");
  set(element, {
    "data-state": state,
    "data-scope": scope,
    "data-health": item.node?.health ?? null,
    "data-kind": item.node?.kind ?? "group",
    "aria-label": labelOf(item, shape),
    "aria-pressed": item.group ? null : String(item.id === ui.selected),
  });
  set(parts.halo, { width: wide + 8 });
  stripe(parts.stripes, item);
  set(parts.under, { width: wide - 8 });
  set(parts.box, { width: wide });
  say(parts.name, nameOf(item));
  say(parts.kind, secondLine(item));
  set(parts.sign, { d: ICONS[state] ?? ICONS.declared });
  const word = item.node?.health === "warn" && state === "ready" ? "warn" : state;
  say(parts.word, word);
  set(parts.mark, { transform: `translate(${wide - 27 - measured(word, SMALL_FONT)} 27)` });
  set(parts.metric, { x: wide - 12 });
  say(parts.metric, item.node ? metricText(item.node) : "");
  const fill = fillOf(item.node);
  set(parts.rail, { width: fill ? wide - 33 : 0 });
  set(parts.meter, { width: fill ? (wide - 33) * fill.part : 0, "data-full": fill?.full });
}

function drawEdges(shape) {
  const fresh = shape.edges.map((edge) => {
    const path = drawn("path", {
      class: `edge${edge.implied ? " implied" : ""}${edge.via.length ? " via" : ""}`,
      d: graph.layout.ways.get(edge),
      "marker-end": "url(#head)",
    });
    return { ...edge, path };
  });
  graph.edges = fresh;
  $("edges").replaceChildren(...fresh.map(({ path }) => path));
}

// Downwards where it is then seen larger; of very many, one layout is enough to wait for.
function bestLayout(shape, sizes) {
  const [right, down] = [false, true].map((way) => (way && shape.items.length > MANY ? null : layoutOf(shape.items, shape.edges, sizes, viewport.aspect(), way)));
  return down && viewport.scaleOf(down) > 1.15 * viewport.scaleOf(right) ? down : right;
}

function renderGraph(shape, ui) {
  const sizes = new Map(shape.items.map((item) => [item.id, widthOf(item)]));
  const signature = JSON.stringify([[...sizes], shape.edges.map(({ from, to, implied }) => [from, to, implied])]);
  const moved = signature !== graph.signature;
  if (moved) {
    graph.signature = signature;
    graph.layout = bestLayout(shape, sizes);
    drawEdges(shape);
  }
  graph.items = new Map(shape.items.map((item) => [item.id, item]));
  const inOrder = moved ? [...shape.items].sort((a, b) => byPlace(a.id, b.id)) : graph.order;
  graph.order = moved ? inOrder : inOrder.map(({ id }) => graph.items.get(id));
  graph.elements = reconcile($("nodes"), graph.order, ({ id }) => id, makeNode, (element, item) => {
    if (moved) {
      const { x, y } = graph.layout.nodes.get(item.id);
      place(element, { transform: `translate(${x}px, ${y}px)` });
    }
    updateNode(element, item, shape, ui);
  });
  if (!graph.elements.has(graph.current)) graph.current = graph.order[0]?.id ?? null;
  for (const [id, element] of graph.elements) set(element, { tabindex: id === graph.current ? 0 : -1 });
  light(ui.selected && graph.elements.has(ui.selected) ? ui.selected : null, graph.pointed);
  return moved;
}

// Where a node stands along the run of the layers, and across it.
function placeOf(id) {
  const { x, y, wide } = graph.layout.nodes.get(id);
  return graph.layout.down ? [y, x + wide / 2] : [x, y];
}

function byPlace(a, b) {
  const [[along, across], [otherAlong, otherAcross]] = [placeOf(a), placeOf(b)];
  return along - otherAlong || across - otherAcross;
}

// Light the edges of one node, and dim what they do not reach while somebody points at it.
function light(selected, pointed) {
  const centre = pointed ?? selected;
  const near = new Set([centre]);
  for (const { from, to, path } of graph.edges) {
    const lit = centre !== null && (from === centre || to === centre);
    if (lit) near.add(from).add(to);
    path.classList.toggle("lit", lit);
    set(path, { "marker-end": lit ? "url(#head-lit)" : "url(#head)" });
  }
  $("world").classList.toggle("pointing", Boolean(pointed));
  for (const [id, element] of graph.elements) {
    element.classList.toggle("near", near.has(id));
    element.classList.toggle("selected", id === selected);
  }
}

// Along the edges: to the nearest of what a node needs, or of what needs it; and across them, within its layer.
function neighbour(id, key) {
  const [forth, back, next] = graph.layout.down ? ["ArrowDown", "ArrowUp", "ArrowRight"] : ["ArrowRight", "ArrowLeft", "ArrowDown"];
  const [along, across] = placeOf(id);
  let candidates;
  if (key === forth) candidates = graph.edges.filter(({ from }) => from === id).map(({ to }) => to);
  else if (key === back) candidates = graph.edges.filter(({ to }) => to === id).map(({ from }) => from);
  else {
    candidates = [...graph.elements.keys()].filter((other) => (key === next ? placeOf(other)[1] > across : placeOf(other)[1] < across));
    const beside = candidates.filter((other) => Math.abs(placeOf(other)[0] - along) < NODE_HIGH / 2);
    if (beside.length) candidates = beside;
  }
  const distance = (other) => Math.abs(placeOf(other)[1] - across) + Math.abs(placeOf(other)[0] - along) / 8;
  return candidates.sort((a, b) => distance(a) - distance(b))[0] ?? null;
}

function focusNode(id) {
  const element = graph.elements.get(id);
  if (!element) return;
  set(graph.elements.get(graph.current) ?? element, { tabindex: -1 });
  graph.current = id;
  set(element, { tabindex: 0 });
  element.focus({ preventScroll: true });
  viewport.reveal(graph.layout.nodes.get(id));
}

function tell(tip, item) {
  const { node, group } = item;
  const lines = group
    ? [[group.file, "where"], [group.members.map((member) => member.name).join(", "), "doc"]]
    : [[node.name, "title"], [node.type, "type"], [`${node.file}${node.line ? `:${node.line}` : ""}`, "where"], [node.doc, "doc"],
       [node.waitingFor.length ? `waits for ${node.waitingFor.join(", ")}` : "", "waits"], [node.error, "error"]];
  tip.replaceChildren(...lines.filter(([text]) => text).map(([text, kind]) => el("p", { class: kind }, plain(text))));
}

function point(id) {
  graph.pointed = id;
  const tip = $("tip");
  light(ui.selected && graph.elements.has(ui.selected) ? ui.selected : null, id);
  show(tip, id !== null && graph.items.has(id));
  if (tip.hidden) return;
  tell(tip, graph.items.get(id));
  const box = graph.elements.get(id).getBoundingClientRect();
  const { width, height } = tip.getBoundingClientRect();
  const below = box.bottom + 10 + height < innerHeight;
  place(tip, {
    left: `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`,
    top: `${below ? box.bottom + 8 : Math.max(8, box.top - height - 8)}px`,
  });
}

function listenToGraph() {
  const nodes = $("nodes");
  const idOf = (event) => event.target.closest?.(".node")?.dataset.id ?? null;
  nodes.addEventListener("pointerover", (event) => event.pointerType === "mouse" && !viewport.panning && point(idOf(event)));
  nodes.addEventListener("pointerout", (event) => event.pointerType === "mouse" && !event.relatedTarget?.closest?.(".node") && point(null));
  nodes.addEventListener("focusin", (event) => {
    graph.current = idOf(event);
    if (event.target.matches(":focus-visible")) point(graph.current);
  });
  nodes.addEventListener("focusout", () => point(null));
  nodes.addEventListener("click", (event) => !viewport.panned && choose(idOf(event)));
  nodes.addEventListener("keydown", (event) => {
    const id = idOf(event);
    if (id === null) return;
    if (event.key === "Enter" || event.key === " ") choose(id);
    else if (event.key.startsWith("Arrow")) focusNode(neighbour(id, event.key) ?? id);
    else if (event.key === "Home") focusNode(graph.order[0].id);
    else if (event.key === "End") focusNode(graph.order[graph.order.length - 1].id);
    else return;
    event.preventDefault();
  });
}
