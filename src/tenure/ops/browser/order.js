// Layers, and the order in each, after Sugiyama: the longest path says the layer, the neighbours' mean says the place.

// Edges against which a walk in depth comes back to where it is are turned for the layout: files can need each other.
function withoutCircles(ids, edges) {
  const out = new Map(ids.map((id) => [id, []]));
  edges.forEach((edge) => out.get(edge.from).push(edge));
  const state = new Map();
  const turned = new Set();
  const walk = (id) => {
    state.set(id, "open");
    for (const edge of out.get(id)) {
      if (state.get(edge.to) === "open") turned.add(edge);
      else if (!state.has(edge.to)) walk(edge.to);
    }
    state.set(id, "done");
  };
  ids.forEach((id) => state.has(id) || walk(id));
  return edges.map((edge) => (turned.has(edge) ? { from: edge.to, to: edge.from, edge } : { from: edge.from, to: edge.to, edge }));
}

// What needs nothing is last; each other one stands right before the first of what it needs, or farther where that layer
// has `most` already; then who has room moves towards the side on which it has more edges.
function layered(ids, links, most) {
  const out = new Map(ids.map((id) => [id, []]));
  const into = new Map(ids.map((id) => [id, []]));
  links.forEach(({ from, to }) => {
    out.get(from).push(to);
    into.get(to).push(from);
  });
  const height = new Map();
  const held = [];
  const measure = (id) => {
    if (!height.has(id)) {
      let at = Math.max(-1, ...out.get(id).map(measure)) + 1;
      while (held[at] >= most) at += 1;
      held[at] = (held[at] ?? 0) + 1;
      height.set(id, at);
    }
    return height.get(id);
  };
  const last = Math.max(...ids.map(measure));
  const crowd = (at) => held[last - at] ?? 0;
  const move = (id, to) => {
    if (to === layer.get(id) || crowd(to) >= most) return;
    held[last - layer.get(id)] -= 1;
    held[last - to] = crowd(to) + 1;
    layer.set(id, to);
  };
  const layer = new Map(ids.map((id) => [id, last - height.get(id)]));
  for (let round = 0; round < 4; round += 1) {
    for (const id of [...ids].sort((a, b) => layer.get(a) - layer.get(b))) {
      const [before, after] = [into.get(id), out.get(id)];
      if (before.length > after.length) move(id, Math.max(...before.map((user) => layer.get(user))) + 1);
      else if (after.length > before.length) move(id, Math.min(...after.map((need) => layer.get(need))) - 1);
    }
  }
  const first = Math.min(...layer.values());
  ids.forEach((id) => layer.set(id, layer.get(id) - first));
  return layer;
}

// One vertex for each node, and one for each layer that an edge crosses, so that it has a way of its own.
function vertices(ids, links, layer) {
  const layers = [];
  const add = (vertex) => {
    (layers[vertex.layer] ??= []).push(vertex);
    return vertex;
  };
  const own = new Map(ids.map((id) => [id, add({ id, layer: layer.get(id), into: [], out: [] })]));
  const chains = links.map(({ from, to, edge }) => {
    const chain = [own.get(from)];
    for (let at = layer.get(from) + 1; at < layer.get(to); at += 1) chain.push(add({ id: null, layer: at, into: [], out: [] }));
    chain.push(own.get(to));
    for (let at = 1; at < chain.length; at += 1) {
      chain[at - 1].out.push(chain[at]);
      chain[at].into.push(chain[at - 1]);
    }
    return { edge, chain };
  });
  return { layers: [...layers].map((row) => row ?? []), chains };
}

const number = (layers) => layers.forEach((row) => row.forEach((vertex, at) => (vertex.at = at)));

// How often edges between two layers cross, counted with a tree of sums.
function crossings(layers) {
  let found = 0;
  for (const row of layers) {
    const ends = row.flatMap((vertex) => vertex.out.map((need) => need.at).sort((a, b) => a - b));
    const size = Math.max(0, ...ends) + 2;
    const sums = new Array(size).fill(0);
    ends.forEach((end, before) => {
      let notAbove = 0;
      for (let at = end + 1; at > 0; at -= at & -at) notAbove += sums[at];
      found += before - notAbove;
      for (let at = end + 1; at < size; at += at & -at) sums[at] += 1;
    });
  }
  return found;
}

function ordered(layers, rounds = 24) {
  number(layers);
  let best = { crossings: crossings(layers), rows: layers.map((row) => [...row]) };
  for (let round = 0; round < rounds && best.crossings; round += 1) {
    const [side, rows] = round % 2 ? ["out", [...layers].reverse()] : ["into", layers];
    for (const row of rows) {
      for (const vertex of row) {
        const near = vertex[side];
        vertex.wish = near.length ? near.reduce((sum, { at }) => sum + at, 0) / near.length : vertex.at;
      }
      row.sort((a, b) => a.wish - b.wish || a.at - b.at);
      row.forEach((vertex, at) => (vertex.at = at));
    }
    const now = crossings(layers);
    if (now < best.crossings) best = { crossings: now, rows: layers.map((row) => [...row]) };
  }
  best.rows.forEach((row, at) => (layers[at] = row));
  number(layers);
  return layers;
}
