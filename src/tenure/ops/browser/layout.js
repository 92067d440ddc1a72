// Where each node stands and each edge runs: one drawing for each connected part, packed below and beside each other.
// Layers run to the right, or down where that suits the screen better: what is said of them here is said along their
// run and across it.

const GAPS = {
  right: { layer: 48, node: 16, crowd: 8 },
  down: { layer: 44, node: 24, crowd: 5 },
};
const THREAD = 10; // between an edge that passes by and what it passes
const PART = 44; // between parts
const NODE_HIGH = 48;
const USUAL = { wide: 200, high: 64 }; // the room that a node takes

function parts(items, edges) {
  const root = new Map(items.map(({ id }) => [id, id]));
  const find = (id) => {
    while (root.get(id) !== id) id = root.get(id);
    return id;
  };
  edges.forEach(({ from, to }) => root.set(find(from), find(to)));
  const found = new Map();
  for (const item of items) {
    const key = find(item.id);
    if (!found.has(key)) found.set(key, { items: [], edges: [] });
    found.get(key).items.push(item);
  }
  edges.forEach((edge) => found.get(find(edge.from)).edges.push(edge));
  return [...found.values()];
}

// The places nearest to what each wishes that keep the order and the distances: neighbours that would collide become
// a block, which stands at the mean of its wishes (pool adjacent violators).
function spread(row, wishes, gap) {
  const blocks = [];
  let offset = 0;
  row.forEach((vertex, at) => {
    if (at) offset += (row[at - 1].across + vertex.across) / 2 + (row[at - 1].id === null || vertex.id === null ? THREAD : gap);
    vertex.offset = offset;
    const weight = vertex.id === null ? 2 : 1;
    let block = { sum: (wishes[at] - offset) * weight, weight, members: [vertex] };
    while (blocks.length && blocks[blocks.length - 1].sum / blocks[blocks.length - 1].weight > block.sum / block.weight) {
      const before = blocks.pop();
      block = { sum: before.sum + block.sum, weight: before.weight + block.weight, members: [...before.members, ...block.members] };
    }
    blocks.push(block);
  });
  for (const { sum, weight, members } of blocks) members.forEach((vertex) => (vertex.middle = sum / weight + vertex.offset));
}

function placed(layers, gap) {
  for (const row of layers) spread(row, row.map(() => 0), gap);
  for (let round = 0; round < 10; round += 1) {
    const [side, rows] = round % 2 ? ["out", [...layers].reverse()] : ["into", layers];
    for (const row of rows) {
      const wishes = row.map((vertex) => {
        const near = round > 7 ? [...vertex.into, ...vertex.out] : vertex[side];
        return near.length ? near.reduce((sum, { middle }) => sum + middle, 0) / near.length : vertex.middle;
      });
      spread(row, wishes, gap);
    }
  }
}

// How many a layer may have, so that the drawing has about the shape of the screen; edges that pass by take room too.
function crowd(count, aspect, down) {
  const even = down ? (count * USUAL.high * aspect) / USUAL.wide : (count * USUAL.wide) / USUAL.high / aspect;
  return Math.max(GAPS[down ? "down" : "right"].crowd, Math.ceil(0.65 * Math.sqrt(even)));
}

function drawPart({ items, edges }, sizes, aspect, down) {
  const gaps = GAPS[down ? "down" : "right"];
  const ids = items.map(({ id }) => id);
  const links = withoutCircles(ids, edges);
  const { layers, chains } = vertices(ids, links, layered(ids, links, crowd(ids.length, aspect, down)));
  ordered(layers);
  for (const vertex of layers.flat()) {
    const [along, across] = down ? [NODE_HIGH, sizes.get(vertex.id)] : [sizes.get(vertex.id), NODE_HIGH];
    Object.assign(vertex, vertex.id === null ? { along: 0, across: 0 } : { along, across });
  }
  placed(layers, gaps.node);
  const first = Math.min(...layers.flat().map((vertex) => vertex.middle - vertex.across / 2));
  let start = 0;
  for (const row of layers) {
    const deep = Math.max(...row.map((vertex) => vertex.along));
    row.forEach((vertex) => Object.assign(vertex, { start, deep, middle: vertex.middle - first }));
    start += deep + gaps.layer;
  }
  const long = start - gaps.layer;
  const broad = Math.max(...layers.flat().map((vertex) => vertex.middle + vertex.across / 2));
  return {
    nodes: layers.flat().filter(({ id }) => id !== null).map((vertex) => nodeAt(vertex, sizes.get(vertex.id), down)),
    ways: chains.map(({ edge, chain }) => ({ edge, points: pointsOf(edge, chain, down) })),
    wide: down ? broad : long,
    high: down ? long : broad,
  };
}

function nodeAt({ id, start, middle, across }, wide, down) {
  return down ? { id, x: middle - across / 2, y: start, wide } : { id, x: start, y: middle - across / 2, wide };
}

// Level where it leaves, level where it passes a layer, level where it arrives.
function pointsOf(edge, chain, down) {
  const points = [];
  for (const [at, { start, middle, along, deep }] of chain.entries()) {
    if (at) points.push([start - (at === chain.length - 1 ? 3 : 0), middle]);
    if (at < chain.length - 1) points.push([start + (at ? deep : along), middle]);
  }
  if (edge.from !== chain[0].id) points.reverse(); // it was turned
  return points.map(([along, across]) => (down ? [across, along] : [along, across]));
}

function curve(points, down) {
  const text = (...values) => values.map((value) => value.toFixed(1)).join(" ");
  let path = `M${text(...points[0])}`;
  for (let at = 1; at < points.length; at += 1) {
    const [[x0, y0], [x1, y1]] = [points[at - 1], points[at]];
    if (x0 === x1 || y0 === y1) path += `L${text(x1, y1)}`;
    else if (down) path += `C${text(x0, (y0 + y1) / 2, x1, (y0 + y1) / 2, x1, y1)}`;
    else path += `C${text((x0 + x1) / 2, y0, (x0 + x1) / 2, y1, x1, y1)}`;
  }
  return path;
}

// What has no edge stands in rows at the end.
function shelf(items, sizes, most) {
  let [x, y, widest] = [0, 0, 0];
  const nodes = items.map(({ id }) => {
    const wide = sizes.get(id);
    if (x && x + wide > most) [x, y] = [0, y + NODE_HIGH + GAPS.right.node];
    const node = { id, x, y, wide };
    x += wide + GAPS.down.node;
    widest = Math.max(widest, x - GAPS.down.node);
    return node;
  });
  return { nodes, ways: [], wide: widest, high: y + NODE_HIGH };
}

function layoutOf(items, edges, sizes, aspect = 1.7, down = false) {
  const found = parts(items, edges);
  const alone = found.filter((part) => !part.edges.length).flatMap((part) => part.items);
  const drawings = found.filter((part) => part.edges.length).map((part) => drawPart(part, sizes, aspect, down));
  drawings.sort((a, b) => b.wide * b.high - a.wide * a.high);
  const area = drawings.reduce((sum, { wide, high }) => sum + (wide + PART) * (high + PART), alone.length * USUAL.wide * USUAL.high);
  const widest = Math.max(Math.sqrt(area * aspect), ...drawings.map(({ wide }) => wide));
  const tried = [1, 1.3, 1.7, 2.2].map((factor) => {
    const most = factor * widest;
    return packed(alone.length ? [...drawings, shelf(alone, sizes, Math.max(most, 460))] : drawings, most);
  });
  const need = ({ wide, high }) => Math.max(wide / aspect, high);
  const { corners, wide, high } = tried.reduce((best, one) => (need(one) < need(best) ? one : best));
  const nodes = new Map();
  const ways = new Map();
  for (const { drawing, x, y } of corners) {
    for (const node of drawing.nodes) nodes.set(node.id, { ...node, x: node.x + x, y: node.y + y });
    for (const { edge, points } of drawing.ways) ways.set(edge, curve(points.map(([px, py]) => [px + x, py + y]), down));
  }
  return { nodes, ways, wide, high, down };
}

// In rows that are no wider than `most`.
function packed(drawings, most) {
  let [x, y, tallest, wide] = [0, 0, 0, 0];
  const corners = drawings.map((drawing) => {
    if (x && x + drawing.wide > most) [x, y, tallest] = [0, y + tallest + PART, 0];
    const corner = { drawing, x, y };
    wide = Math.max(wide, x + drawing.wide);
    tallest = Math.max(tallest, drawing.high);
    x += drawing.wide + PART;
    return corner;
  });
  return { corners, wide, high: y + tallest };
}
