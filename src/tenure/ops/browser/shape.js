// What of the model is drawn: folded, filtered, focused, by file; and the edges between what is left.

const MANY = 60;

const isPlumbing = (node) => node.kind === "dependency" || !node.own;

function matches(node, wanted) {
  const searched = [node.id, node.name, node.type, node.doc, `${node.file}:${node.line}`, node.kind, node.scope ?? ""].join("\n").toLowerCase();
  return (
    wanted.text.toLowerCase().split(/\s+/).every((word) => searched.includes(word)) &&
    (!wanted.scope || (node.scope ?? "none") === wanted.scope) &&
    (!wanted.state || stateOf(node) === wanted.state || node.health === wanted.state) &&
    (!wanted.route || node.usedByRoutes.includes(wanted.route))
  );
}

// Who needs whom among `shown` alone: over what is left out, an edge says by way of what.
function contracted(model, shown) {
  const edges = [];
  for (const from of shown) {
    const found = new Map();
    const seen = new Set([from]);
    const open = (model.needs.get(from) ?? []).map(({ id, parameter }) => ({ id, parameter, via: [] }));
    for (let next = 0; next < open.length; next += 1) {
      const { id, parameter, via } = open[next];
      if (seen.has(id)) continue;
      seen.add(id);
      if (shown.has(id)) found.set(id, { from, to: id, parameter: via.length ? "" : parameter, via });
      else for (const need of model.needs.get(id) ?? []) open.push({ id: need.id, parameter, via: [...via, id] });
    }
    edges.push(...found.values());
  }
  return edges;
}

function neighbourhood(edges, start, depth) {
  const found = new Set([start]);
  for (const [here, there] of [["from", "to"], ["to", "from"]]) {
    let border = new Set([start]);
    for (let step = 0; step < depth && border.size; step += 1) {
      border = new Set(edges.filter((edge) => border.has(edge[here])).map((edge) => edge[there]));
      border.forEach((id) => found.add(id));
    }
  }
  return found;
}

// An edge that a longer path says as well is drawn lightly: the longer path is the order in which things start.
function markImplied(edges) {
  const targets = new Map();
  for (const { from, to } of edges) targets.set(from, [...(targets.get(from) ?? []), to]);
  const reached = new Map();
  const reach = (id) => {
    if (!reached.has(id)) {
      const found = new Set();
      reached.set(id, found);
      for (const target of targets.get(id) ?? []) {
        found.add(target);
        reach(target).forEach((further) => found.add(further));
      }
    }
    return reached.get(id);
  };
  return edges.map((edge) => ({
    ...edge,
    implied: targets.get(edge.from).some((target) => target !== edge.to && reach(target).has(edge.to)),
  }));
}

const groupId = (file) => `file ${file}`;

function byFile(items, edges, opened) {
  const files = new Map();
  for (const item of items) files.set(item.node.file, [...(files.get(item.node.file) ?? []), item]);
  const into = new Map();
  const grouped = [];
  for (const [file, members] of files) {
    if (members.length === 1 || opened.has(file)) {
      grouped.push(...members);
      continue;
    }
    members.forEach((member) => into.set(member.id, groupId(file)));
    grouped.push({ id: groupId(file), group: { file, members: members.map((member) => member.node) } });
  }
  const merged = new Map();
  for (const edge of edges) {
    const [from, to] = [into.get(edge.from) ?? edge.from, into.get(edge.to) ?? edge.to];
    if (from !== to) merged.set(`${from}\u0000${to}`, { from, to, parameter: "", via: [], implied: false });
  }
  return { items: grouped, edges: markImplied([...merged.values()]) };
}

function shapeOf(model, ui) {
  const filtered = Boolean(ui.text || ui.scope || ui.state || ui.route);
  const all = [...model.nodes.values()];
  const nothingOwn = !all.some((node) => !isPlumbing(node));
  const unfolded = ui.plumbing || nothingOwn || Boolean(ui.text);
  const kept = all.filter((node) => (unfolded || !isPlumbing(node) || node.id === ui.selected) && (!filtered || matches(node, ui) || node.id === ui.selected));
  let shown = new Set(kept.map((node) => node.id));
  let edges = contracted(model, shown);
  const focused = shown.has(ui.selected);
  if (focused) {
    shown = neighbourhood(edges, ui.selected, ui.depth);
    edges = edges.filter(({ from, to }) => shown.has(from) && shown.has(to));
  }
  const items = [...shown].map((id) => ({ id, node: model.nodes.get(id) }));
  const manyFiles = new Set(items.map(({ node }) => node.file)).size > 2;
  const groupable = manyFiles && !focused && !filtered && items.length > MANY / 3;
  const grouped = groupable && (ui.byFile ?? items.length > MANY);
  const folded = all.filter(isPlumbing).length;
  const common = { total: all.length, count: items.length, folded: nothingOwn ? 0 : folded, filtered, focused, groupable, grouped };
  if (grouped) return { ...common, ...byFile(items, edges, ui.opened) };
  return { ...common, items, edges: markImplied(edges) };
}
