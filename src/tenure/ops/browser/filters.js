// What narrows the graph: words, scope, state, route, and how much of it is folded.

function offer(select, values, textOf = (value) => value) {
  const any = select.options[0];
  const known = [...select.options].slice(1).map((option) => option.value);
  if (known.join("\n") === values.join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(any, ...values.map((value) => el("option", { value }, shortened(textOf(value), 48))));
  select.value = values.includes(chosen) ? chosen : "";
}

function renderFilters(model, shape, ui) {
  const nodes = [...model.nodes.values()];
  const present = (values) => [...new Set(values)];
  const scopes = present(nodes.map((node) => node.scope ?? "none"));
  offer($("scope"), ["none", ...SCOPES].filter((scope) => scopes.includes(scope)), (scope) => (scope === "none" ? "plain" : scope));
  offer($("state"), present([...nodes.map(stateOf), ...nodes.map((node) => node.health).filter((health) => health && health !== "pass")]).sort());
  offer($("route"), present(nodes.flatMap((node) => node.usedByRoutes)).sort());
  ui.scope = $("scope").value;
  ui.state = $("state").value;
  ui.route = $("route").value;
  show($("clear"), shape.filtered);
  $("plumbing").checked = ui.plumbing;
  show($("plumbing-switch"), shape.folded > 0);
  say($("plumbing-label"), `Show ${shape.folded} folded`);
  show($("by-file-switch"), shape.groupable);
  $("by-file").checked = shape.grouped;
}

function clearFilters() {
  for (const id of ["find", "scope", "state", "route"]) $(id).value = "";
  Object.assign(ui, { text: "", scope: "", state: "", route: "" });
}

function listenToFilters(reshaped) {
  $("find").addEventListener("input", () => {
    ui.text = $("find").value.trim();
    reshaped();
  });
  $("find").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "Enter") return;
    event.preventDefault();
    if (ui.list) focusRow(outline.order[0]?.key);
    else focusNode(graph.order[0]?.id);
  });
  for (const id of ["scope", "state", "route"]) {
    $(id).addEventListener("change", () => {
      ui[id] = $(id).value;
      reshaped();
    });
  }
  $("clear").addEventListener("click", () => {
    clearFilters();
    reshaped();
    $("find").focus();
  });
  $("plumbing").addEventListener("change", () => {
    ui.plumbing = $("plumbing").checked;
    reshaped();
  });
  $("by-file").addEventListener("change", () => {
    ui.byFile = $("by-file").checked;
    ui.opened.clear();
    reshaped();
  });
}
