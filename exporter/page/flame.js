// The flame graph as people use it: pointer, keyboard, tooltip, zoom, search. It shows one tree at a time and
// tells its owner through `events`: zoomed(node), focused(node), copied(text).

class Flame {
  constructor(box, tooltip, events) {
    this.box = box;
    this.tooltip = tooltip;
    this.events = events;
    this.canvas = element("canvas", { tabindex: "0", role: "application", "aria-roledescription": "flame graph", "aria-label": "Flame graph. Arrow keys move between frames, Enter zooms, Escape goes back, C copies the stack.", "aria-describedby": "detail" });
    this.spacer = element("div", { class: "spacer" }, this.canvas);
    box.append(this.spacer);
    this.picture = new Picture(this.canvas);
    this.view = { model: null, tree: null, title: "", zoom: 0, focus: -1, hover: -1, matched: null, flip: false, top: 0 };
    this.asked = false;
    const theme = window.matchMedia("(prefers-color-scheme: dark)");
    this.picture.setTheme(theme.matches);
    theme.addEventListener("change", () => {
      this.picture.setTheme(theme.matches);
      this.redraw();
    });
    box.addEventListener("scroll", () => this.redraw());
    new ResizeObserver(() => this.layout()).observe(box);
    this.canvas.addEventListener("pointermove", (event) => this.pointed(event));
    this.canvas.addEventListener("pointerleave", () => this.hover(-1));
    this.canvas.addEventListener("click", (event) => this.clicked(event));
    this.canvas.addEventListener("keydown", (event) => this.pressed(event));
    this.canvas.addEventListener("blur", () => this.redraw());
  }

  show(model, tree, title, zoom, flip) {
    if (model !== this.view.model) this.picture.forget();
    Object.assign(this.view, { model, tree, title, zoom, flip, focus: -1, hover: -1, matched: null });
    this.tooltip.hidden = true;
    this.layout();
    this.scrollTo(zoom);
    this.draw();
  }

  setMatches(matched) {
    this.view.matched = matched;
    this.redraw();
  }

  setZoom(node) {
    this.hover(-1);
    this.view.zoom = node;
    this.scrollTo(node);
    this.redraw();
  }

  layout() {
    const { tree } = this.view;
    if (!tree) return;
    const height = tree.rows.length * ROW;
    this.spacer.style.height = height + "px";
    const width = this.box.clientWidth;
    const seen = Math.min(height, Math.max(ROW * 6, Math.round(window.innerHeight * 0.7)));
    this.box.style.height = seen + "px";
    if (width > 0 && (this.picture.width !== width || this.picture.height !== seen)) this.picture.resize(width, seen);
    this.draw();
  }

  // Keeps a frame in sight, with its callers above it (or below, with the root at the bottom).
  scrollTo(node) {
    const row = this.rowOf(node);
    const high = this.picture.height ?? 0;
    const y = row * ROW;
    if (this.view.flip) {
      if (node === 0) this.box.scrollTop = this.box.scrollHeight;
      else if (y < this.box.scrollTop || y + 4 * ROW > this.box.scrollTop + high) this.box.scrollTop = y - high + 4 * ROW;
    } else if (node === 0) {
      this.box.scrollTop = 0;
    } else if (y < this.box.scrollTop + ROW || y + ROW > this.box.scrollTop + high * 0.5) {
      this.box.scrollTop = y - 3 * ROW;
    }
  }

  rowOf(node) {
    const depth = this.view.tree.depth[node];
    return this.view.flip ? this.view.tree.rows.length - 1 - depth : depth;
  }

  redraw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    this.view.top = this.box.scrollTop;
    const focus = document.activeElement === this.canvas || this.view.focus >= 0 ? this.view.focus : -1;
    this.picture.draw({ ...this.view, focus });
  }

  // The frame at a point of the canvas; -1 where there is none.
  nodeAt(x, y) {
    const { tree, zoom, flip } = this.view;
    if (!tree) return -1;
    const row = Math.floor((y + this.box.scrollTop) / ROW);
    const depth = flip ? tree.rows.length - 1 - row : row;
    if (depth < 0 || depth >= tree.rows.length) return -1;
    if (depth <= tree.depth[zoom]) {
      let at = zoom;
      while (tree.depth[at] > depth) at = tree.parent[at];
      return at;
    }
    const time = tree.start[zoom] + (x / this.picture.width) * tree.total[zoom];
    const nodes = tree.rows[depth];
    const at = lowerBound(nodes, (node) => tree.start[node] + tree.total[node] > time);
    return at < nodes.length && tree.start[nodes[at]] <= time ? nodes[at] : -1;
  }

  pointed(event) {
    const node = this.nodeAt(event.offsetX, event.offsetY);
    this.hover(node);
    if (node < 0) return;
    const room = 14;
    const box = this.tooltip.getBoundingClientRect();
    let left = event.clientX + room, top = event.clientY + room;
    if (left + box.width > window.innerWidth - 8) left = Math.max(8, event.clientX - room - box.width);
    if (top + box.height > window.innerHeight - 8) top = Math.max(8, event.clientY - room - box.height);
    this.tooltip.style.left = left + "px";
    this.tooltip.style.top = top + "px";
  }

  hover(node) {
    if (node === this.view.hover) return;
    this.view.hover = node;
    this.tooltip.hidden = node < 0;
    this.canvas.style.cursor = node < 0 ? "default" : "pointer";
    if (node >= 0) this.tooltip.replaceChildren(...this.describe(node));
    this.redraw();
  }

  describe(node) {
    const { model, tree } = this.view;
    const called = tree.called[node];
    const lines = [element("strong", {}, ...breakable(node === 0 ? this.view.title : model.names[called]))];
    const place = this.place(node);
    if (place) lines.push(element("div", { class: "place" }, place));
    if (isHidden(model, called) && called !== model.runtimeOnly) lines.push(element("div", { class: "place" }, model.flags[called] & KERNEL ? "kernel" : "runtime"));
    if (called === model.runtimeOnly) lines.push(element("div", { class: "place" }, "stacks without a frame of the program's own; show runtime frames to see them"));
    const list = element("dl", {});
    const row = (name, value) => list.append(element("dt", {}, name), element("dd", {}, value));
    row("time", duration(tree.total[node]) + " · " + share(tree.total[node], tree.total[0]));
    if (this.view.zoom !== 0) row("of the zoomed", share(tree.total[node], tree.total[this.view.zoom]));
    if (tree.baseline) row("on the other side", duration(tree.baseline[node]));
    row("self", duration(tree.self[node]) + " · " + share(tree.self[node], tree.total[0]));
    const used = KINDS.filter((_, kind) => tree.kinds[kind][node] > 0);
    if (used.length > 1) KINDS.forEach((kind, at) => tree.kinds[at][node] > 0 && row(kind.name, duration(tree.kinds[at][node]) + " · " + share(tree.kinds[at][node], tree.total[node])));
    lines.push(list);
    return lines;
  }

  place(node) {
    const { model, tree } = this.view;
    const file = model.files[tree.called[node]];
    if (!file) return "";
    return file + (tree.line[node] > 0 ? ":" + tree.line[node] : "") + (tree.manyLines[node] ? " (and other lines)" : "");
  }

  clicked(event) {
    const node = this.nodeAt(event.offsetX, event.offsetY);
    if (node < 0) return;
    this.focus(node);
    this.events.zoomed(node);
  }

  focus(node) {
    this.view.focus = node;
    this.events.focused(node);
    const y = this.rowOf(node) * ROW;
    if (y < this.box.scrollTop) this.box.scrollTop = y;
    else if (y + ROW > this.box.scrollTop + this.picture.height) this.box.scrollTop = y + ROW - this.picture.height;
    this.redraw();
  }

  pressed(event) {
    const { tree, zoom } = this.view;
    if (!tree || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.view.focus < 0 ? zoom : this.view.focus;
    const toRoot = this.view.flip ? "ArrowDown" : "ArrowUp";
    const toLeaf = this.view.flip ? "ArrowUp" : "ArrowDown";
    const beside = (step) => {
      const row = tree.rows[tree.depth[at]];
      const next = row[lowerBound(row, (node) => tree.start[node] >= tree.start[at]) + step];
      const inside = next !== undefined && tree.start[next] >= tree.start[zoom] && tree.start[next] < tree.start[zoom] + tree.total[zoom];
      return inside && tree.depth[at] > tree.depth[zoom] ? next : at;
    };
    if (event.key === toRoot) this.focus(Math.max(0, tree.parent[at]));
    else if (event.key === toLeaf) this.focus(tree.children[at].length ? tree.children[at][0] : at);
    else if (event.key === "ArrowLeft") this.focus(beside(-1));
    else if (event.key === "ArrowRight") this.focus(beside(1));
    else if (event.key === "Home") this.focus(zoom);
    else if (event.key === "Enter" || event.key === " ") this.events.zoomed(at);
    else if (event.key === "c" || event.key === "C") this.copy();
    else return;
    event.preventDefault();
  }

  // The focused frame's stack as text, leaf first, as every tool prints it.
  stackText() {
    const { model, tree, focus, zoom } = this.view;
    const path = pathTo(tree, focus < 0 ? zoom : focus);
    return (tree.inverted ? path : path.reverse()).map((node) => model.names[tree.called[node]] + (this.place(node) ? " (" + this.place(node) + ")" : "")).join("\n");
  }

  async copy() {
    const text = this.stackText();
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Some browsers refuse the clipboard to files on disk; the old way still works there.
      const area = element("textarea", { class: "hidden-text", "aria-hidden": "true" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      this.canvas.focus({ preventScroll: true });
    }
    this.events.copied(text);
  }
}
