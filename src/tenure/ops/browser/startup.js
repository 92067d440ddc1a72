// The start as a waterfall: what began when, how long it took, and which of it the app waited for.

const startup = { short: false };

// Of several workers, the one whose start took longest: the others had less to wait for.
function slowestWorker(model) {
  const took = (snapshot) => snapshot.readySeconds ?? Number.POSITIVE_INFINITY;
  return model.snapshots.reduce((found, one) => (took(one) > took(found) ? one : found), model.snapshots[0]);
}

function barsOf(snapshot, needs) {
  const now = (Date.parse(snapshot.time) - Date.parse(snapshot.startedAt ?? snapshot.time)) / 1000;
  const bars = new Map();
  for (const node of snapshot.nodes) {
    if (node.startOffset === null) continue;
    const running = node.startSeconds === null && node.state === "starting";
    const end = node.startOffset + (node.startSeconds ?? (running ? Math.max(0, now - node.startOffset) : 0));
    bars.set(node.id, { node, start: node.startOffset, end, running, freed: 0 });
  }
  for (const bar of bars.values()) {
    const ends = (needs.get(bar.node.id) ?? []).map(({ id }) => bars.get(id)?.end ?? 0);
    bar.freed = Math.min(bar.start, Math.max(0, ...ends));
  }
  return bars;
}

// Backwards from what was ready last, each time to the need that ended last.
function criticalPath(bars, needs) {
  const last = (found) => found.reduce((latest, bar) => (bar.end > (latest?.end ?? -1) ? bar : latest), null);
  const path = [];
  let bar = last([...bars.values()]);
  while (bar && !path.includes(bar)) {
    path.unshift(bar);
    bar = last((needs.get(bar.node.id) ?? []).map(({ id }) => bars.get(id)).filter(Boolean));
  }
  return path;
}

function ticksFor(most) {
  const step = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find((size) => most / size <= 6) ?? most / 5;
  const found = [];
  for (let at = 0; at <= most * 1.0001; at += step) found.push(at);
  return found;
}

function makeBar({ node }) {
  return el(
    "li",
    { class: "bar" },
    el("button", { type: "button", class: "link", "data-go": node.id }),
    el("span", { class: "track" }, el("span", { class: "lead-in" }), el("span", { class: "span" })),
    el("span", { class: "took" }),
  );
}

function updateBar(row, bar, most, critical, slowest) {
  const { node, start, end, freed, running, waiting } = bar;
  const [name, track, took] = row.children;
  const percent = (value) => `${((value / most) * 100).toFixed(3)}%`;
  set(row, { "data-scope": node.scope ?? "none", "data-state": waiting ? "waiting" : node.state });
  row.classList.toggle("critical", critical);
  row.classList.toggle("running", Boolean(running));
  say(name, plain(node.name));
  const [leadIn, span] = track.children;
  place(leadIn, { left: percent(freed), width: waiting ? "0" : percent(start - freed) });
  place(span, { left: percent(start), width: waiting ? "0" : percent(end - start) });
  const notes = waiting
    ? [`waits for ${node.waitingFor.map(plain).join(", ") || "its turn"}`]
    : [node.state === "failed" ? `failed after ${seconds(node.startSeconds ?? end - start)}` : running ? `starting, ${seconds(end - start)} so far` : seconds(end - start)];
  if (slowest) notes.push("slowest");
  if (critical && !waiting) notes.push("critical");
  say(took, notes.join(" · "));
}

function leadText(model, snapshot, path, slowest) {
  if (!snapshot) return "No worker tells of its start.";
  const worker = model.snapshots.length > 1 ? `Worker ${workerKey(snapshot)}, the last of ${model.snapshots.length}, ` : "The app ";
  const ready = snapshot.readySeconds === null
    ? `${worker}is ${snapshot.state === "failed" ? "not ready: its start failed." : "not ready yet."}`
    : `${worker}was ready after ${seconds(snapshot.readySeconds)}.`;
  if (!slowest) return `${ready} Nothing has begun.`;
  const share = path.reduce((sum, bar) => sum + bar.end - bar.start, 0);
  return `${ready} The slowest was ${plain(slowest.node.name)}, ${seconds(slowest.end - slowest.start)}; the critical path has ${several(path.length, "step")} and took ${seconds(share)}.`;
}

function renderStartup(model) {
  const snapshot = slowestWorker(model);
  const bars = snapshot ? barsOf(snapshot, model.needs) : new Map();
  const path = criticalPath(bars, model.needs);
  const took = ({ start, end }) => end - start;
  const slowest = [...bars.values()].reduce((found, bar) => (took(bar) > took(found ?? bar) || !found ? bar : found), null);
  const most = Math.max(0.001, snapshot?.readySeconds ?? 0, ...[...bars.values()].map(({ end }) => end)) * 1.02;
  say($("startup-told"), leadText(model, snapshot, path, slowest));
  reconcile($("critical"), path, ({ node }) => node.id, () => el("li"), (item, bar) => say(item, `${plain(bar.node.name)} ${seconds(took(bar))}`));
  const waiting = (snapshot?.nodes ?? []).filter((node) => node.startOffset === null && node.waitingFor.length).map((node) => ({ node, start: 0, end: 0, freed: 0, waiting: true }));
  const rows = [...[...bars.values()].sort((a, b) => a.start - b.start || a.end - b.end), ...waiting];
  const matters = (bar) => bar.waiting || bar.running || path.includes(bar) || took(bar) >= most / 100 || bar.node.error;
  const longest = rows.filter(matters);
  const hidden = rows.length > 16 && rows.length - longest.length > 3 && !startup.short ? rows.length - longest.length : 0;
  show($("short"), rows.length > 16 && rows.length - longest.length > 3);
  say($("short"), hidden ? `Show ${hidden} more that took less than ${seconds(most / 100)} each` : "Hide what took next to no time");
  reconcile($("axis"), ticksFor(most), (at) => at.toFixed(4), () => el("span"), (tick, at) => {
    say(tick, at >= 1 && at < 60 ? `${Number(at.toFixed(1))} s` : at ? seconds(at) : "0");
    place(tick, { left: `${(at / most) * 100}%` });
  });
  reconcile($("bars"), hidden ? longest : rows, ({ node }) => node.id, makeBar, (row, bar) => updateBar(row, bar, most, path.includes(bar), bar === slowest));
  return snapshot?.readySeconds === null ? "…" : seconds(snapshot?.readySeconds);
}

function listenToStartup(rendered) {
  $("short").addEventListener("click", () => {
    startup.short = !startup.short;
    rendered();
  });
  $("bars").addEventListener("click", (event) => {
    const { go } = event.target.dataset ?? {};
    if (go !== undefined) choose(go, { view: "graph" });
  });
}
