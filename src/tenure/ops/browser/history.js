// The last two minutes of every pool, model and counter, kept in the page: the app keeps no series.

const SPAN = 120_000;
const BREAK = 3500; // milliseconds without an answer that a line does not bridge
const ticks = []; // { at, values: Map(worker and id -> { pool, model, count }) }

const seriesKey = (worker, id) => `${worker}\u0000${id}`;

function remember(answer, at) {
  const values = new Map();
  const chosen = [ALL, ...answer.workers.map(workerKey)];
  for (const worker of chosen) {
    for (const [id, { pool, model, count }] of modelOf(answer, worker).nodes) {
      if (pool || model || count !== null) values.set(seriesKey(worker, id), { pool, model, count });
    }
  }
  ticks.push({ at, values });
  while (ticks.length && ticks[0].at < at - SPAN) ticks.shift();
}

function series(worker, id) {
  const key = seriesKey(worker, id);
  return ticks.filter(({ values }) => values.has(key)).map(({ at, values }) => ({ at, ...values.get(key) }));
}

// By how much a counter rises in a second, over the last ten.
function rate(worker, id) {
  const points = series(worker, id).filter(({ at, count }) => count !== null && at > told.at - 10_500);
  if (points.length < 2) return null;
  const [first, last] = [points[0], points[points.length - 1]];
  return Math.max(0, ((last.count - first.count) * 1000) / (last.at - first.at));
}

const WIDE = 240;
const HIGH = 56;

// One line for each stretch without a break, from points that each have a height between 0 and 1.
function lineThrough(points, now) {
  let path = "";
  let previous = null;
  for (const { at, value } of points) {
    const x = WIDE - ((now - at) / SPAN) * WIDE;
    const y = HIGH - 2 - value * (HIGH - 6);
    path += `${previous === null || at - previous > BREAK ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    previous = at;
  }
  return path;
}

function areaBelow(line) {
  return line
    .split("M")
    .filter(Boolean)
    .map((stretch) => {
      const xs = stretch.split("L").map((point) => point.split(" ")[0]);
      return `M${xs[0]} ${HIGH}L${stretch}L${xs[xs.length - 1]} ${HIGH}Z`;
    })
    .join("");
}

function makeChart() {
  const chart = drawn(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img" },
    drawn("path", { class: "size" }),
    drawn("path", { class: "area" }),
    drawn("path", { class: "in-use" }),
    drawn("path", { class: "waiting" }),
  );
  return chart;
}

function updateChart(chart, worker, id) {
  const points = series(worker, id).filter(({ pool }) => pool);
  const highest = Math.max(1, ...points.map(({ pool }) => Math.max(pool.size, pool.inUse, pool.waiting)));
  const now = told.at;
  const scaled = (name) => points.map(({ at, pool }) => ({ at, value: pool[name] / highest }));
  const [size, area, inUse, waiting] = chart.children;
  const line = lineThrough(scaled("inUse"), now);
  set(size, { d: lineThrough(scaled("size"), now) });
  set(area, { d: areaBelow(line) });
  set(inUse, { d: line });
  set(waiting, { d: points.some(({ pool }) => pool.waiting) ? lineThrough(scaled("waiting"), now) : "" });
  const most = (name) => Math.max(0, ...points.map(({ pool }) => pool[name]));
  set(chart, { "aria-label": `In the last two minutes: at most ${most("inUse")} in use of ${most("size")}, at most ${most("waiting")} waiting` });
}
