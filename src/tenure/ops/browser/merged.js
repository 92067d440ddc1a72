// All workers as one: the worst state wins, pools are added up, and what is shared is told once.

const ALL = "all";
const NODE_STATES = ["ready", "closed", "closing", "declared", "starting", "degraded", "failed"];
const APP_STATES = ["ready", "declared", "stopped", "stopping", "draining", "starting", "failed"];
const HEALTHS = ["pass", "pending", "warn", "fail"];
const SCOPES = ["function", "request", "app", "host", "cluster"];
const PER_REQUEST = new Set([null, "function", "request"]);
const SHARED = new Set(["host", "cluster"]);

const worst = (values, order) =>
  values.reduce((found, value) => (order.indexOf(value) > order.indexOf(found) ? value : found), values[0] ?? null);

const workerKey = (snapshot) => String(snapshot.worker ?? `pid ${snapshot.pid}`);

// What to call the state of a node: what is made for each request is not "declared" to a reader.
function stateOf(node) {
  if (node.state !== "declared") return node.state;
  if (node.waitingFor.length) return "waiting";
  return PER_REQUEST.has(node.scope) ? "per request" : "declared";
}

function mergedPool(pools) {
  if (!pools.length) return null;
  const sum = {};
  for (const pool of pools) for (const [name, value] of Object.entries(pool)) sum[name] = (sum[name] ?? 0) + value;
  return sum;
}

const NOT_ADDED = new Set(["maxBatch", "largest", "batchSeconds", "loadSeconds", "age"]); // the most is told

// A model at host or cluster scope is one for all workers, each of which tells of it: who has heard of it last is right.
function mergedModel(node, each) {
  const models = each.map(({ node: { model } }) => model).filter(Boolean);
  if (!models.length) return null;
  const newest = models.reduce((found, model) => (model.age < found.age ? model : found));
  if (SHARED.has(node.scope)) return { ...newest, versions: [newest.version] };
  const sum = { ...newest, versions: [...new Set(models.map(({ version }) => version))].sort() };
  for (const [name, value] of Object.entries(newest)) {
    if (typeof value !== "number") continue;
    const values = models.map((model) => model[name]);
    sum[name] = NOT_ADDED.has(name) ? Math.max(...values) : values.reduce((found, one) => found + one, 0);
  }
  return { ...sum, version: sum.versions.join(" ") };
}

// A shared counter is one for all workers, each of which tells it: the newest answer is right.
function mergedCount(node, each) {
  const counts = each.filter(({ node: { count } }) => count !== null);
  if (!counts.length) return null;
  if (!SHARED.has(node.scope)) return counts.reduce((sum, { node: { count } }) => sum + count, 0);
  return counts.reduce((newest, one) => (one.time > newest.time ? one : newest)).node.count;
}

function mergedChecks(each) {
  const byName = new Map();
  for (const { worker, node } of each) {
    for (const check of node.checks) {
      const known = byName.get(check.name);
      const told = { ...check, worker };
      byName.set(check.name, known ? [...known, told] : [told]);
    }
  }
  return [...byName.values()].map((checks) => {
    const status = worst(checks.map((check) => check.status), HEALTHS);
    return { ...checks.find((check) => check.status === status), each: checks };
  });
}

function mergedNode(each) {
  const nodes = each.map(({ node }) => node);
  const state = worst(nodes.map((node) => node.state), NODE_STATES);
  const first = nodes.find((node) => node.state === state);
  const most = (name) => nodes.reduce((found, node) => (node[name] !== null && node[name] > (found ?? -1) ? node[name] : found), null);
  return {
    ...first,
    state,
    each,
    health: worst(nodes.map((node) => node.health).filter(Boolean), HEALTHS),
    checks: mergedChecks(each),
    waitingFor: [...new Set(nodes.flatMap((node) => node.waitingFor))],
    startSeconds: most("startSeconds"),
    closeSeconds: most("closeSeconds"),
    error: (nodes.find((node) => node.error) ?? first).error,
    pool: mergedPool(nodes.map((node) => node.pool).filter(Boolean)),
    model: mergedModel(first, each),
    count: mergedCount(first, each),
  };
}

// The model that everything here draws: one snapshot's form, over the workers that are chosen.
function modelOf(answer, chosen) {
  const snapshots = answer.workers.filter((snapshot) => chosen === ALL || workerKey(snapshot) === chosen);
  const each = new Map();
  const edges = new Map();
  for (const snapshot of snapshots) {
    for (const node of snapshot.nodes) {
      if (!each.has(node.id)) each.set(node.id, []);
      each.get(node.id).push({ worker: workerKey(snapshot), time: snapshot.time, node });
    }
    for (const edge of snapshot.edges) edges.set(`${edge.from}\u0000${edge.to}\u0000${edge.parameter}`, edge);
  }
  const nodes = new Map([...each].map(([id, tellings]) => [id, mergedNode(tellings)]));
  const needs = new Map([...nodes.keys()].map((id) => [id, []]));
  const neededBy = new Map([...nodes.keys()].map((id) => [id, []]));
  for (const { from, to, parameter } of edges.values()) {
    if (!nodes.has(from) || !nodes.has(to)) continue;
    if (!needs.get(from).some((need) => need.id === to)) needs.get(from).push({ id: to, parameter });
    if (!neededBy.get(to).some((user) => user.id === from)) neededBy.get(to).push({ id: from, parameter });
  }
  return { snapshots, nodes, needs, neededBy, edges: [...edges.values()], state: worst(snapshots.map((one) => one.state), APP_STATES) };
}
