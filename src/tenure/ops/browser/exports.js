// What is shown, as a file.

const STYLED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "display", "visibility"];

function mermaidText(text) {
  return plain(text).replace(/[#"&<>`|[\](){}\\]/g, (character) => `#${character.codePointAt(0)};`).replace(/\s+/g, " ");
}

function asMermaid(shape) {
  const names = new Map(shape.items.map(({ id }, at) => [id, `n${at}`]));
  const scopes = new Map();
  const lines = ["flowchart LR"];
  for (const item of shape.items) {
    const text = item.group ? `${fileName(item.group.file)}` : item.node.name;
    lines.push(`  ${names.get(item.id)}["${mermaidText(text)}<br/>${mermaidText(secondLine(item))}"]`);
    const scope = item.node?.scope;
    if (scope) scopes.set(scope, [...(scopes.get(scope) ?? []), names.get(item.id)]);
  }
  for (const { from, to, via } of shape.edges) lines.push(`  ${names.get(from)} ${via.length ? "-.->" : "-->"} ${names.get(to)}`);
  const colours = getComputedStyle(document.documentElement);
  for (const [scope, members] of scopes) {
    lines.push(`  classDef ${scope} stroke:${colourOf(`var(--scope-${scope})`)},stroke-width:2px`, `  class ${members.join(",")} ${scope}`);
  }
  return `${lines.join("\n")}\n`;
}

// As the browser works it out, for custom properties may say `light-dark(…)`.
function colourOf(value) {
  const probe = el("span");
  probe.style.color = value;
  document.body.append(probe);
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  return `#${[red, green, blue].map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
}

// A copy that carries its style with it, in the size of the whole graph.
function asSvg() {
  const { wide, high } = graph.layout;
  const source = $("graph");
  const copy = source.cloneNode(true);
  const [originals, copies] = [source.querySelectorAll("*"), copy.querySelectorAll("*")];
  originals.forEach((original, at) => {
    const style = getComputedStyle(original);
    for (const name of STYLED) copies[at].setAttribute(name, style.getPropertyValue(name));
    const moved = original.style.transform.match(/-?[\d.]+/g);
    if (moved && original.id !== "world") copies[at].setAttribute("transform", `translate(${moved[0]} ${moved[1]})`);
    for (const name of ["style", "class", "tabindex", "role", "aria-pressed"]) copies[at].removeAttribute(name);
  });
  copy.querySelector("#world").removeAttribute("transform");
  for (const name of [...copy.attributes].map((attribute) => attribute.name)) copy.removeAttribute(name);
  set(copy, { xmlns: SVG, viewBox: `${-MARGIN} ${-MARGIN} ${wide + 2 * MARGIN} ${high + 2 * MARGIN}`, width: wide + 2 * MARGIN, height: high + 2 * MARGIN });
  const ground = drawn("rect", { x: -MARGIN, y: -MARGIN, width: wide + 2 * MARGIN, height: high + 2 * MARGIN, fill: colourOf("var(--sunken)") });
  copy.insertBefore(ground, copy.firstChild);
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(copy)}\n`;
}

function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function exportAs(kind, shape) {
  const name = (told.answer?.workers[0]?.app || "app").replace(/[^\w.-]+/g, "-");
  if (kind === "json") save(`${name}-workers.json`, "application/json", told.text);
  else if (kind === "mermaid") save(`${name}.mmd`, "text/plain;charset=utf-8", asMermaid(shape));
  else save(`${name}.svg`, "image/svg+xml", asSvg());
}

function listenToExports(shapeNow) {
  const [button, menu] = [$("export"), $("exports")];
  const items = [...menu.children];
  const open = (opened, focused = null) => {
    show(menu, opened);
    set(button, { "aria-expanded": String(opened) });
    focused?.focus();
  };
  button.addEventListener("click", () => open(menu.hidden, menu.hidden ? items[0] : null));
  menu.addEventListener("click", (event) => {
    const item = event.target.closest("[data-export]");
    if (!item) return;
    exportAs(item.dataset.export, shapeNow());
    open(false, button);
  });
  menu.addEventListener("keydown", (event) => {
    const at = items.indexOf(document.activeElement);
    if (event.key === "Escape") open(false, button);
    else if (event.key === "ArrowDown") items[(at + 1) % items.length].focus();
    else if (event.key === "ArrowUp") items[(at + items.length - 1) % items.length].focus();
    else if (event.key === "Tab") return open(false);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", (event) => event.target.closest(".menu") || open(false));
}
