// The page: what is chosen, the header, the tabs, the keys; and every part drawn anew when an answer comes.

const VIEWS = ["graph", "startup", "pools", "health", "models"];
const THEMES = ["system", "light", "dark"];
const NARROW = matchMedia("(max-width: 700px)");

const ui = {
  worker: ALL,
  view: "graph",
  selected: null,
  depth: 2,
  text: "",
  scope: "",
  state: "",
  route: "",
  plumbing: false,
  byFile: null, // nothing: by file where there are many
  opened: new Set(), // files whose resources are shown one by one
  list: NARROW.matches,
};
let model = null;
let shape = null;

// Kept in the address, so that a link leads back to what somebody looks at.
function readAddress() {
  const kept = new URLSearchParams(location.hash.slice(1));
  if (VIEWS.includes(kept.get("view"))) ui.view = kept.get("view");
  ui.worker = kept.get("worker") ?? ALL;
  ui.selected = kept.get("focus");
}

function writeAddress() {
  const kept = new URLSearchParams();
  if (ui.view !== "graph") kept.set("view", ui.view);
  if (ui.worker !== ALL) kept.set("worker", ui.worker);
  if (ui.selected !== null) kept.set("focus", ui.selected);
  const hash = kept.toString();
  if (location.hash.slice(1) !== hash) history.replaceState(null, "", `${location.pathname}${location.search}${hash && `#${hash}`}`);
}

function reshape() {
  shape = shapeOf(model, ui.list ? { ...ui, selected: null } : ui);
}

function renderHeader() {
  const [first] = told.answer.workers;
  const silent = told.answer.silent.length;
  say($("app"), plain(first?.app || "app"));
  const state = worst(told.answer.workers.map((snapshot) => snapshot.state), APP_STATES) ?? "silent";
  mark($("app-state"), state);
  const facts = [first?.deployment, first?.host, several(told.answer.workers.length, "worker") + (silent ? `, ${silent} silent` : "")];
  say($("place"), facts.filter(Boolean).map(plain).join(" · "));
  document.title = `${plain(first?.app || "app")} · ${state}`;
}

function renderTrouble() {
  show($("trouble"), Boolean(told.trouble));
  const shown = told.answer ? ` What is shown is from ${clock(told.at)}.` : "";
  if (told.trouble) say($("trouble"), `${told.trouble}, since ${clock(told.since)}.${shown}`);
  say($("pulse"), told.trouble ? "No answer" : "Live");
  set($("pulse"), { "data-live": String(!told.trouble) });
}

function workerTabs() {
  const { workers, silent } = told.answer;
  const tabs = workers.map((snapshot) => ({
    key: workerKey(snapshot),
    name: `Worker ${workerKey(snapshot)}`,
    state: snapshot.state,
    facts: [`pid ${snapshot.pid}`, snapshot.startedAt && `since ${clock(snapshot.startedAt)}`].filter(Boolean).join(" · "),
  }));
  tabs.push(...silent.map((number) => ({ key: String(number), name: `Worker ${number}`, state: "silent", facts: "did not answer within a second" })));
  tabs.sort((a, b) => a.key.localeCompare(b.key, "en", { numeric: true }));
  if (tabs.length === 1 && ui.worker === ALL) return [{ ...tabs[0], key: ALL }];
  const state = worst(workers.map((snapshot) => snapshot.state), APP_STATES) ?? "silent";
  const all = { key: ALL, name: "All workers", state, facts: "the worst state wins, pools add up" };
  if (ui.worker !== ALL && !tabs.some(({ key }) => key === ui.worker)) tabs.push({ key: ui.worker, name: `Worker ${ui.worker}`, state: "stopped", facts: "is gone" });
  return [all, ...tabs];
}

function renderWorkers() {
  reconcile(
    $("workers"),
    workerTabs(),
    ({ key }) => key,
    ({ key }) => el("button", { type: "button", role: "tab", class: "worker", "data-worker": key }, el("b"), el("span", { class: "state" }), el("small")),
    (tab, { key, name, state, facts }) => {
      const chosen = key === ui.worker;
      set(tab, { "aria-selected": String(chosen), tabindex: chosen ? 0 : -1, "aria-controls": "views" });
      say(tab.children[0], name);
      mark(tab.children[1], state);
      say(tab.children[2], facts);
    },
  );
}

function renderTab(view, text, state = null) {
  const tab = $(`tab-${view}`);
  say(tab.firstElementChild, text ?? "");
  set(tab.firstElementChild, { "data-state": state });
}

function renderStage() {
  const nodes = shape.items.length;
  show($("canvas"), !ui.list && nodes > 0);
  show($("outline"), ui.list && nodes > 0);
  show($("nothing"), nodes === 0);
  if (!nodes) {
    const silent = told.answer.silent.map(String).includes(ui.worker);
    const gone = !model.snapshots.length && (silent ? "This worker does not answer: it is stopped, or busy for longer than a second." : "This worker is gone.");
    say($("nothing"), gone || (shape.filtered ? "Nothing matches the filter." : "This app needs nothing that tenure starts."));
  }
  set($("as-graph"), { "aria-pressed": String(!ui.list) });
  set($("as-list"), { "aria-pressed": String(ui.list) });
  show($("focus-bar"), shape.focused);
  if (shape.focused) say($("focus-name"), plain(model.nodes.get(ui.selected).name));
  $("depth").value = ui.depth;
  say($("depth-told"), ui.depth >= 7 ? "all" : ui.depth);
  set($("depth"), { "aria-valuetext": ui.depth >= 7 ? "all" : several(ui.depth, "step") });
}

function renderLegend() {
  const scopes = SCOPES.filter((scope) => shape.items.some(({ node }) => node?.scope === scope));
  const told = [...scopes.map((scope) => ({ key: scope, text: scope })), { key: "edge", text: "needs" }];
  if (shape.edges.some(({ via }) => via.length)) told.push({ key: "via", text: "by way of what is folded" });
  if (shape.edges.some(({ implied }) => implied)) told.push({ key: "implied", text: "said by a longer path too" });
  reconcile($("legend"), told, ({ key }) => key, ({ key }) => el("span", { "data-key": key, "data-scope": key }, el("i"), el("span")), (entry, { text }) => say(entry.lastElementChild, text));
}

// All of it, from the last answer. `fit` is for what somebody asked for: an answer alone moves nothing.
function render({ fit = false } = {}) {
  renderTrouble();
  if (!told.answer) return;
  model = modelOf(told.answer, ui.worker);
  if (!model.nodes.has(ui.selected) && model.snapshots.length) ui.selected = null;
  reshape();
  renderHeader();
  renderWorkers();
  renderFilters(model, shape, ui);
  renderDetails(model, ui);
  renderStage();
  renderLegend();
  for (const view of VIEWS) {
    show($(`view-${view}`), view === ui.view);
    set($(`tab-${view}`), { "aria-selected": String(view === ui.view), tabindex: view === ui.view ? 0 : -1 });
  }
  const pools = renderPools(model, ui);
  const health = renderHealth(model);
  const models = renderModels(model, ui);
  renderTab("graph", shape.count === shape.total ? shape.total : `${shape.count} of ${shape.total}`);
  renderTab("startup", renderStartup(model));
  renderTab("pools", pools.told, pools.alarming ? "warn" : null);
  renderTab("health", health, health === "fail" || health === "warn" ? health : null);
  renderTab("models", models.told, models.alarming ? "warn" : null);
  if (ui.list) renderOutline(shape, ui);
  else if (ui.view === "graph" && shape.items.length) {
    const moved = renderGraph(shape, ui);
    if (fit || (moved && !viewport.touched)) viewport.fit(fit);
  }
  writeAddress();
}

const rendered = () => render();
const reshaped = () => render({ fit: true });

// Focus a resource: it alone with what is near it, and all that is known of it beside.
function choose(id, { view = null } = {}) {
  if (id?.startsWith("file ") && shape.grouped) {
    const { group } = shape.items.find((item) => item.id === id);
    const inside = $("view-graph").contains(document.activeElement);
    ui.opened.add(group.file);
    reshaped();
    const [first] = group.members;
    if (inside && ui.list) focusRow(outline.order.find(({ item }) => item.id === first.id)?.key);
    else if (inside) focusNode(first.id);
    return;
  }
  ui.selected = id;
  if (view) ui.view = view;
  point(null);
  reshaped();
  if (view && !ui.list) focusNode(id);
}

function leave() {
  const id = ui.selected;
  const inside = $("view-graph").contains(document.activeElement);
  ui.selected = null;
  point(null);
  reshaped();
  if (!inside) return;
  if (ui.list) focusRow(outline.order.find(({ item }) => item.id === id)?.key);
  else focusNode(id);
}

function escape() {
  if (ui.selected !== null) leave();
  else if (shape?.filtered) {
    clearFilters();
    reshaped();
  } else if (ui.opened.size) {
    ui.opened.clear();
    reshaped();
  }
}

function applyTheme(theme) {
  set(document.documentElement, { "data-theme": theme });
  const text = { system: "As the system is", light: "Light", dark: "Dark" }[theme];
  set($("theme"), { "aria-label": `Theme: ${text}`, title: `Theme: ${text} (t)` });
  $("theme").replaceChildren(drawn("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, drawn("path", { d: {
    system: "M2 3h12v8H2ZM6 14h4",
    light: "M8 5a3 3 0 1 0 .1 0ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
    dark: "M13 9.5A5.5 5.5 0 1 1 6.5 3 4.5 4.5 0 0 0 13 9.5Z",
  }[theme] })));
}

function storedTheme() {
  try {
    const theme = localStorage.getItem("tenure.theme");
    return THEMES.includes(theme) ? theme : "system";
  } catch {
    return "system"; // storage is refused here
  }
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  applyTheme(theme);
  try {
    localStorage.setItem("tenure.theme", theme);
  } catch {
    // it holds for as long as the page is open
  }
}

// Arrow keys within a row of tabs, as they are everywhere.
function listenToTabs(list, chosen) {
  const choice = (tab) => {
    chosen(tab);
    reshaped();
    tab.focus();
  };
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) choice(tab);
  });
  list.addEventListener("keydown", (event) => {
    const tabs = [...list.querySelectorAll("[role=tab]:not([hidden])")];
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    choice(tabs[(to + tabs.length) % tabs.length]);
  });
}

function showView(view) {
  if ($(`tab-${view}`).hidden) return;
  ui.view = view;
  reshaped();
}

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    if (event.key === "Escape") return escape();
    if (event.target.matches("input:not([type=checkbox]), select, textarea")) return;
    const act = {
      "/": () => {
        showView("graph");
        $("find").focus();
        $("find").select();
      },
      "?": () => $("keys").showModal(),
      "+": () => viewport.zoom(1.3),
      "=": () => viewport.zoom(1.3),
      "-": () => viewport.zoom(1 / 1.3),
      0: () => graph.layout && viewport.fit(),
      t: nextTheme,
      ...Object.fromEntries(VIEWS.map((view, at) => [at + 1, () => showView(view)])),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function listen() {
  listenToTabs($("workers"), (tab) => (ui.worker = tab.dataset.worker));
  listenToTabs(document.querySelector(".views"), (tab) => (ui.view = tab.dataset.view));
  listenToGraph();
  listenToViewport(reshaped);
  listenToOutline();
  listenToFilters(reshaped);
  listenToDetails(rendered);
  listenToStartup(rendered);
  listenToPools();
  listenToHealth();
  listenToModels();
  listenToExports(() => {
    reshape();
    if (shape.items.length) renderGraph(shape, ui);
    return shape;
  });
  listenToKeys();
  $("depth").addEventListener("input", () => {
    ui.depth = Number($("depth").value);
    reshaped();
  });
  $("leave").addEventListener("click", leave);
  $("as-graph").addEventListener("click", () => drawAs(false));
  $("as-list").addEventListener("click", () => drawAs(true));
  NARROW.addEventListener("change", () => drawAs(NARROW.matches));
  $("theme").addEventListener("click", nextTheme);
  $("help").addEventListener("click", () => $("keys").showModal());
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("views").focus();
  });
}

function drawAs(list) {
  ui.list = list;
  if (told.answer) reshaped();
}

let first = true;
applyTheme(storedTheme());
readAddress();
listen();
pollWhileVisible(() => {
  render();
  if (first && told.answer) {
    first = false;
    performance.mark("tenure:drawn");
  }
});
