// Every check with its last result, what fails first.

function makeCheck({ node }) {
  return el(
    "div",
    { class: "check card", role: "listitem" },
    el("span", { class: "state" }),
    el("div", {}, el("button", { type: "button", class: "link", "data-go": node.id }), el("span", { class: "tags" })),
    el("span", { class: "when" }),
    el("p", { class: "output" }),
    el("p", { class: "each" }),
  );
}

function updateCheck(row, { node, check }) {
  const [state, names, when, output, each] = row.children;
  mark(state, check.status);
  set(row, { "data-state": check.status });
  say(names.firstElementChild, plain(check.name === node.name ? node.name : `${node.name}: ${check.name}`));
  say(names.lastElementChild, [check.critical ? "critical" : "not critical", check.stale && "stale", ...check.tags].filter(Boolean).join(" · "));
  const ago = check.time ? `${age((told.at - Date.parse(check.time)) / 1000)} ago` : "not yet";
  say(when, [seconds(check.seconds), ago].filter(Boolean).join(" · "));
  say(output, plain(check.output));
  show(output, Boolean(check.output));
  const differing = check.each.length > 1 && check.each.some((one) => one.status !== check.status);
  say(each, differing ? check.each.map((one) => `worker ${one.worker}: ${one.status}`).join(", ") : "");
  show(each, differing);
}

function renderHealth(model) {
  const checks = [...model.nodes.values()].flatMap((node) => node.checks.map((check) => ({ key: `${node.id}\u0000${check.name}`, node, check })));
  checks.sort((a, b) => HEALTHS.indexOf(b.check.status) - HEALTHS.indexOf(a.check.status));
  reconcile($("checks"), checks, ({ key }) => key, makeCheck, updateCheck);
  show($("no-checks"), checks.length === 0);
  return worst(checks.map(({ check }) => check.status), HEALTHS);
}

function listenToHealth() {
  $("checks").addEventListener("click", (event) => {
    const { go } = event.target.dataset ?? {};
    if (go !== undefined) choose(go, { view: "graph" });
  });
}
