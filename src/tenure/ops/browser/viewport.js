// Which part of the graph is seen: wheel, drag, two fingers, buttons and keys move and scale it.

const CLOSEST = 2.5;
const FARTHEST = 0.12;
const MARGIN = 32;

const viewport = {
  x: 0,
  y: 0,
  scale: 1,
  touched: false, // by hand, since the last fit: a new answer does not move what somebody has placed
  panning: false,
  panned: false,

  size() {
    const { width, height } = $("graph").getBoundingClientRect();
    const top = $("focus-bar").hidden ? 0 : $("focus-bar").offsetHeight + 8;
    const legend = $("legend");
    const bottom = legend.offsetTop ? height - legend.offsetTop : 0;
    return { width: Math.max(width - this.covered(), 80), height: Math.max(height - top - bottom, 80), top };
  },

  // What lies over the right side.
  covered() {
    const details = $("details");
    return details.hidden || details.offsetWidth > innerWidth * 0.6 ? 0 : details.offsetWidth;
  },

  aspect() {
    const { width, height } = this.size();
    return Math.min(3, Math.max(0.8, width / height));
  },

  apply(gliding = false) {
    $("world").classList.toggle("gliding", gliding);
    place($("world"), { transform: `translate(${this.x}px, ${this.y}px) scale(${this.scale})` });
    set($("graph"), { "data-far": this.scale < 0.55 });
  },

  // At which scale a drawing is seen whole.
  scaleOf({ wide, high }) {
    const { width, height } = this.size();
    return Math.max(FARTHEST, Math.min(1.1, (width - 2 * MARGIN) / wide, (height - 2 * MARGIN) / high));
  },

  fit(gliding = true) {
    const { wide, high } = graph.layout;
    const { width, height, top } = this.size();
    this.scale = this.scaleOf(graph.layout);
    this.x = (width - wide * this.scale) / 2;
    this.y = top + Math.max(MARGIN, (height - high * this.scale) / 2);
    this.touched = false;
    this.apply(gliding);
  },

  zoom(factor, centre = null, gliding = true) {
    const { width, height } = this.size();
    const [x, y] = centre ?? [width / 2, height / 2];
    const scale = Math.min(CLOSEST, Math.max(FARTHEST, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.touched = true;
    this.apply(gliding);
  },

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.touched = true;
    this.apply();
  },

  // Bring a node into sight, no farther than it takes.
  reveal({ x, y, wide }) {
    const { width, height, top: above } = this.size();
    const [left, top] = [this.x + x * this.scale, this.y + y * this.scale];
    const [right, bottom] = [left + wide * this.scale, top + NODE_HIGH * this.scale];
    const shift = (low, high, first, last) => (low < first + MARGIN ? first + MARGIN - low : Math.min(0, last - MARGIN - high));
    const [dx, dy] = [shift(left, right, 0, width), shift(top, bottom, above, above + height)];
    if (!dx && !dy) return;
    this.x += dx;
    this.y += dy;
    this.touched = true;
    this.apply(true);
  },
};

function listenToViewport(resized) {
  const svg = $("graph");
  const fingers = new Map();
  const inside = (event) => {
    const box = svg.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    point(null);
    if (event.shiftKey) viewport.pan(-(event.deltaY || event.deltaX), 0);
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) viewport.pan(-event.deltaX, 0);
    else viewport.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), inside(event), false);
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    fingers.set(event.pointerId, inside(event));
    viewport.panned = false;
    viewport.panning = true;
  });
  window.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = inside(event);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    if (!viewport.panned && Math.hypot(dx, dy) < 4) return; // a click that trembles
    viewport.panned = true;
    point(null);
    svg.classList.add("panning");
    fingers.set(event.pointerId, now);
    const others = [...fingers].filter(([id]) => id !== event.pointerId);
    if (!others.length) return viewport.pan(dx, dy);
    const still = others[0][1];
    const distance = (at) => Math.max(1, Math.hypot(at[0] - still[0], at[1] - still[1]));
    viewport.zoom(distance(now) / distance(before), still, false);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    window.addEventListener(end, (event) => {
      fingers.delete(event.pointerId);
      if (fingers.size) return;
      viewport.panning = false;
      setTimeout(() => (viewport.panned = false)); // after the click that a drag ends with
      svg.classList.remove("panning");
    });
  }
  $("zoom-in").addEventListener("click", () => viewport.zoom(1.3));
  $("zoom-out").addEventListener("click", () => viewport.zoom(1 / 1.3));
  $("zoom-fit").addEventListener("click", () => viewport.fit());
  new ResizeObserver(() => {
    if (!graph.layout || viewport.touched || !svg.clientWidth) return;
    graph.signature = ""; // another layout may suit the new size better
    resized();
  }).observe(svg);
}
