// Where each node stands and each edge runs: one drawing for each connected part, packed below and beside each other.

const COLUMN = 48; // between layers
const ROW = 16; // between nodes of a layer
const THREAD = 10; // between an edge that passes by and what it passes
const PART = 44; // between parts
const NODE_HIGH = 48;

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
function spread(row, wishes) {
  const blocks = [];
  let offset = 0;
  row.forEach((vertex, at) => {
    if (at) offset += (row[at - 1].high + vertex.high) / 2 + (row[at - 1].id === null || vertex.id === null ? THREAD : ROW);
    vertex.offset = offset;
    const weight = vertex.id === null ? 2 : 1;
    let block = { sum: (wishes[at] - offset) * weight, weight, members: [vertex] };
    while (blocks.length && blocks[blocks.length - 1].sum / blocks[blocks.length - 1].weight > block.sum / block.weight) {
      const above = blocks.pop();
      block = { sum: above.sum + block.sum, weight: above.weight + block.weight, members: [...above.members, ...block.members] };
    }
    blocks.push(block);
  });
  for (const { sum, weight, members } of blocks) members.forEach((vertex) => (vertex.y = sum / weight + vertex.offset));
}

function placed(layers) {
  for (const row of layers) spread(row, row.map(() => 0));
  for (let round = 0; round < 10; round += 1) {
    const [side, rows] = round % 2 ? ["out", [...layers].reverse()] : ["into", layers];
    for (const row of rows) {
      spread(row, row.map((vertex) => {
        const near = round > 7 ? [...vertex.into, ...vertex.out] : vertex[side];
        return near.length ? near.reduce((sum, { y }) => sum + y, 0) / near.length : vertex.y;
      }));
    }
  }
}

function drawPart({ items, edges }, sizes, aspect) {
  const ids = items.map(({ id }) => id);
  const links = withoutCircles(ids, edges);
  const most = Math.max(8, Math.ceil(0.65 * Math.sqrt((ids.length * 200) / (NODE_HIGH + ROW) / aspect))); // edges that pass by take room too;
  const { layers, chains } = vertices(ids, links, layered(ids, links, most));
  ordered(layers);
  layers.flat().forEach((vertex) => Object.assign(vertex, vertex.id === null ? { wide: 0, high: 0 } : { wide: sizes.get(vertex.id), high: NODE_HIGH }));
  placed(layers);
  const top = Math.min(...layers.flat().map((vertex) => vertex.y - vertex.high / 2));
  let x = 0;
  for (const row of layers) {
    const wide = Math.max(...row.map((vertex) => vertex.wide));
    row.forEach((vertex) => Object.assign(vertex, { x, column: wide, y: vertex.y - top }));
    x += wide + COLUMN;
  }
  const high = Math.max(...layers.flat().map((vertex) => vertex.y + vertex.high / 2));
  return { vertices: layers.flat().filter(({ id }) => id !== null), chains, wide: x - COLUMN, high };
}

// What has no edge stands in rows at the end.
function shelf(items, sizes, most) {
  let [x, y, wide] = [0, NODE_HIGH / 2, 0];
  const vertices = items.map(({ id }) => {
    const size = sizes.get(id);
    if (x && x + size > most) [x, y] = [0, y + NODE_HIGH + ROW];
    const vertex = { id, x, y, wide: size, high: NODE_HIGH };
    x += size + 24;
    wide = Math.max(wide, x - 24);
    return vertex;
  });
  return { vertices, chains: [], wide, high: y + NODE_HIGH / 2 };
}

// The way of an edge: level where it leaves, level where it passes a layer, level where it arrives.
function way({ edge, chain }) {
  const points = [];
  for (const [at, { x, y, wide, column }] of chain.entries()) {
    if (at) points.push([x - (at === chain.length - 1 ? 3 : 0), y]);
    if (at < chain.length - 1) points.push([x + (at ? column : wide), y]);
  }
  const turned = edge.from !== chain[0].id;
  if (turned) points.reverse();
  let path = `M${points[0].map((value) => value.toFixed(1)).join(" ")}`;
  for (let at = 1; at < points.length; at += 1) {
    const [[x0, y0], [x1, y1]] = [points[at - 1], points[at]];
    const bend = (x1 - x0) / 2;
    path += y0 === y1 ? `H${x1.toFixed(1)}` : `C${[x0 + bend, y0, x1 - bend, y1, x1, y1].map((value) => value.toFixed(1)).join(" ")}`;
  }
  return path;
}

function layoutOf(items, edges, sizes, aspect = 1.7) {
  const found = parts(items, edges);
  const alone = found.filter((part) => !part.edges.length).flatMap((part) => part.items);
  const drawings = found.filter((part) => part.edges.length).map((part) => drawPart(part, sizes, aspect)).sort((a, b) => b.wide * b.high - a.wide * a.high);
  const area = drawings.reduce((sum, { wide, high }) => sum + (wide + PART) * (high + PART), alone.length * 200 * (NODE_HIGH + ROW));
  const most = Math.max(Math.sqrt(area * aspect), ...drawings.map(({ wide }) => wide));
  if (alone.length) drawings.push(shelf(alone, sizes, Math.max(most, 460)));
  const nodes = new Map();
  const ways = new Map();
  let [x, y, tallest, wide] = [0, 0, 0, 0];
  for (const drawing of drawings) {
    if (x && x + drawing.wide > most) [x, y, tallest] = [0, y + tallest + PART, 0];
    drawing.vertices.forEach((vertex) => nodes.set(vertex.id, { x: vertex.x + x, y: vertex.y + y - NODE_HIGH / 2, wide: vertex.wide }));
    drawing.chains.forEach(({ edge, chain }) => {
      const moved = chain.map((vertex) => ({ ...vertex, x: vertex.x + x, y: vertex.y + y }));
      ways.set(edge, way({ edge, chain: moved }));
    });
    wide = Math.max(wide, x + drawing.wide);
    tallest = Math.max(tallest, drawing.high);
    x += drawing.wide + PART;
  }
  return { nodes, ways, wide, high: y + tallest };
}
