// What the app tells, asked for once a second while somebody can see the page.

const PERIOD = 1000;
const PATIENCE = 5000;
const BASE = location.pathname.replace(/\/+$/, "");

const told = {
  answer: null, // the last one: { workers, silent }
  text: "", // the same, as it came
  at: 0, // when, in milliseconds
  trouble: "", // why there is no newer one
  since: 0, // since when there is none
  timer: 0,
};

// What stands behind the page's own address goes along, for a guard may read it there.
function address(name) {
  return `${BASE}/${name}${location.search}`;
}

class Refusal extends Error {} // an answer, but none that can be shown; its message is

function whyRefused(status) {
  if (status === 401 || status === 403) return `The guard refuses this page (${status})`;
  return `The worker answers ${status}`;
}

// Where no app runs that could tell of itself, its start may still be told: it has failed, or has only begun.
async function whyNotRunning() {
  const response = await fetch(address("startup.json"), { cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE) });
  const events = response.ok ? (await response.json()).events : [];
  const failed = events.filter(({ outcome }) => outcome === "failed").map(({ resource }) => plain(resource));
  return failed.length ? `The app did not start: ${failed.join(", ")} failed; its log says why` : "The app does not run, or not yet (503)";
}

async function ask() {
  const response = await fetch(address("workers.json"), {
    cache: "no-store",
    credentials: "same-origin",
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (!response.ok) throw new Refusal(response.status === 503 ? await whyNotRunning() : whyRefused(response.status));
  const text = await response.text();
  const answer = JSON.parse(text);
  if (answer.schemaVersion !== 1) throw new Refusal(`The app speaks another version (${answer.schemaVersion}) than this page`);
  return { text, answer };
}

async function poll(changed) {
  clearTimeout(told.timer);
  if (document.hidden) return;
  try {
    const { text, answer } = await ask();
    Object.assign(told, { text, answer, at: Date.now(), trouble: "", since: 0 });
    remember(answer, told.at);
  } catch (error) {
    told.trouble = error instanceof Refusal ? error.message : "No worker answers";
    told.since ||= Date.now();
  }
  try {
    changed();
  } finally {
    clearTimeout(told.timer);
    told.timer = setTimeout(() => poll(changed), PERIOD);
  }
}

function pollWhileVisible(changed) {
  document.addEventListener("visibilitychange", () => poll(changed));
  poll(changed);
}
