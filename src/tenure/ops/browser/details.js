// All that is known of one resource.

const FEW = 8;
const details = { whole: new Set() }; // sections of which all is shown

function fact(label, value, kind = "") {
  return value ? [{ label, value: plain(value), kind }] : [];
}

function factsOf(node) {
  const started = node.each.length === 1 && node.startedAt ? ` at ${clock(node.startedAt)}` : "";
  return [
    ...fact("Type", node.type, "code"),
    ...fact("Declared at", `${node.file}${node.line ? `:${node.line}` : ""}`, "code"),
    ...fact("Started", node.startSeconds !== null ? `in ${seconds(node.startSeconds)}${started}` : node.startOffset !== null ? `begun${started}, not done yet` : ""),
    ...fact("Closed", node.closeSeconds !== null ? `in ${seconds(node.closeSeconds)}` : ""),
    ...fact("Version", node.model ? node.model.versions.join(", ") : "", "code"),
    ...fact("Count", node.count !== null ? whole.format(node.count) : "", "number"),
    ...fact("Notes", [node.overridden && "stands in for what is overridden", node.unused && "no route uses it", !node.own && "a part of tenure"].filter(Boolean).join("; ")),
  ];
}

function linkTo(model, { id, parameter }) {
  const node = model.nodes.get(id);
  return { key: `node ${id}`, id, text: node?.name ?? id, aside: parameter && parameter !== node?.name ? parameter : "", state: node && stateOf(node), scope: node?.scope ?? "none" };
}

function checkLine(check) {
  const when = check.time ? `${age((told.at - Date.parse(check.time)) / 1000)} ago` : "";
  const facts = [check.critical && "critical", check.stale && "stale", when, seconds(check.seconds), ...check.tags].filter(Boolean);
  return { key: `check ${check.name}`, text: check.name, aside: facts.join(" · "), state: check.status, more: check.output };
}

function workerLines(node) {
  if (node.each.length < 2) return [];
  return node.each.map(({ worker, node: one }) => {
    const facts = [one.startSeconds !== null && seconds(one.startSeconds), one.waitingFor.length && `waits for ${one.waitingFor.join(", ")}`, one.startedAt && `at ${clock(one.startedAt)}`];
    return { key: `worker ${worker}`, text: `worker ${worker}`, aside: facts.filter(Boolean).join(" · "), state: stateOf(one), more: one.error };
  });
}

function sectionsOf(model, node) {
  const texts = (list, kind) => list.map((text) => ({ key: `${kind} ${text}`, text, code: true }));
  return [
    { title: "Waiting for", lines: node.waitingFor.map((id) => linkTo(model, { id })) },
    { title: "Checks", lines: node.checks.map(checkLine) },
    { title: "Pool", lines: [], pool: node.pool },
    { title: "Model", lines: [], served: node.model },
    { title: "Needs", lines: (model.needs.get(node.id) ?? []).map((need) => linkTo(model, need)) },
    { title: "Needed by", lines: (model.neededBy.get(node.id) ?? []).map((user) => linkTo(model, { id: user.id })) },
    { title: "Used by routes", lines: texts(node.usedByRoutes, "route") },
    { title: "Used by", lines: texts(node.usedBy, "user") },
    { title: "Workers", lines: workerLines(node) },
  ].filter(({ lines, pool, served }) => lines.length || pool || served);
}

function makeLine(line) {
  const main = line.id ? el("button", { type: "button", class: "link", "data-go": line.id }) : el("span", { class: line.code ? "code" : "" });
  const item = el("li", { "data-scope": line.scope ?? null }, main, el("span", { class: "aside" }), el("span", { class: "state" }), el("p", { class: "more" }));
  return item;
}

function updateLine(item, line) {
  const [main, aside, state, more] = item.children;
  say(main, plain(line.text));
  say(aside, plain(line.aside ?? ""));
  show(state, Boolean(line.state));
  if (line.state) mark(state, line.state);
  say(more, plain(line.more ?? ""));
  show(more, Boolean(line.more));
}

function makeSection({ title, pool, served }) {
  const id = `d-${title.toLowerCase().replaceAll(" ", "-")}`;
  const section = el("section", { "aria-labelledby": id }, el("h3", { id }, title, el("span", { class: "count" })), el("ul"), el("button", { type: "button", class: "plain more", "data-whole": title }));
  if (pool) section.append(makeChart(), makeFigures(COLUMNS));
  if (served) section.append(makeModelChart(), makeFigures(MODEL_COLUMNS));
  return section;
}

function updateSection(section, { title, lines, pool, served }, id, worker) {
  const shortenedTo = lines.length > FEW + 2 && !details.whole.has(title) ? FEW : lines.length;
  say(section.querySelector("h3 .count"), pool || served ? "" : lines.length);
  reconcile(section.querySelector("ul"), lines.slice(0, shortenedTo), ({ key }) => key, makeLine, updateLine);
  const more = section.querySelector("button.more");
  show(more, shortenedTo < lines.length);
  say(more, `Show all ${lines.length}`);
  const [chart, figures] = [section.querySelector(".chart"), section.querySelector(".figures")];
  if (pool) {
    updateChart(chart, worker, id);
    updateFigures(figures, pool, COLUMNS);
  } else if (served) {
    updateModelChart(chart, worker, id);
    updateFigures(figures, { ...served, recent: recentItems(worker, id) }, MODEL_COLUMNS);
  }
}

function makeFact({ label }) {
  return el("div", {}, el("dt", {}, label), el("dd"));
}

function renderDetails(model, ui) {
  const node = model.nodes.get(ui.selected);
  show($("details"), Boolean(node));
  if (!node) return;
  if (details.id !== node.id) details.whole.clear();
  const changed = details.id !== node.id;
  details.id = node.id;
  say($("d-name"), plain(node.name));
  const badges = [{ key: "scope" }, { key: "kind" }, { key: "state" }, ...(node.health ? [{ key: "health" }] : [])];
  reconcile($("d-badges"), badges, ({ key }) => key, () => el("span"), (badge, { key }) => {
    if (key === "scope") scopeBadge(badge, node);
    else if (key === "kind") say(set(badge, { class: "badge" }), node.kind);
    else mark(set(badge, { class: "state" }), key === "state" ? stateOf(node) : node.health, key === "state" ? stateOf(node) : `health ${node.health}`);
  });
  say($("d-doc"), plain(node.doc));
  show($("d-doc"), Boolean(node.doc));
  say($("d-error"), plain(node.error));
  show($("d-error"), Boolean(node.error));
  reconcile($("d-facts"), factsOf(node), ({ label }) => label, makeFact, (element, { value, kind }) => set(say(element.lastElementChild, value), { class: kind }));
  reconcile($("d-sections"), sectionsOf(model, node), ({ title }) => title, makeSection, (section, told) => updateSection(section, told, node.id, ui.worker));
  if (changed) $("details").scrollTop = 0;
}

function listenToDetails(rendered) {
  $("details").addEventListener("click", (event) => {
    const { go, whole: section } = event.target.dataset ?? {};
    if (go !== undefined) {
      choose(go, { keep: true });
      $("d-name").focus();
    } else if (section !== undefined) {
      details.whole.add(section);
      rendered();
    }
  });
  $("d-close").addEventListener("click", () => leave());
}
