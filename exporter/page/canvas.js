// The flame graph's picture: which frames are in sight, where, in what colour. One canvas, drawn anew for
// each change; it is only as high as the window onto it, so a stack of 1,000 frames costs no more pixels.

const ROW = 21;
const FONT = '12px ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", Menlo, Consolas, monospace';
// Narrower frames are not drawn one by one but as one strip.
const THIN = 0.6;

// Colours tell the kind of time in every view, its shade the crate or library. Orange, blue and a reddish
// purple stay apart for people who see red and green alike; tasks have a pale teal and a sand, lighter than all.
const HUES = [[30, 92, 66], [208, 72, 70], [322, 48, 76], [174, 42, 80], [54, 62, 78], [0, 0, 74]];
const HUES_DARK = [[27, 62, 37], [209, 52, 39], [318, 34, 43], [176, 40, 27], [52, 48, 28], [0, 0, 34]];

class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.forget();
  }

  // Colours are made once per kind and function, not at each drawing.
  forget() {
    this.shades = new Map();
    this.palette = KINDS.map(() => []);
  }

  // Fits the canvas to its box and to the screen's density.
  resize(width, height) {
    const density = window.devicePixelRatio || 1;
    this.width = width;
    this.height = height;
    this.canvas.width = Math.max(1, Math.round(width * density));
    this.canvas.height = Math.max(1, Math.round(height * density));
    this.canvas.style.height = height + "px";
    this.context.setTransform(density, 0, 0, density, 0, 0);
    this.context.font = FONT;
    this.letter = this.context.measureText("mmmmmmmmmm").width / 10;
  }

  setTheme(dark) {
    this.dark = dark;
    this.ink = dark ? "#f6f3ec" : "#1f1c17";
    this.faint = dark ? "#b9b3a8" : "#6a645a";
    this.paper = dark ? "#1b1a18" : "#ffffff";
    this.ring = dark ? "#ffffff" : "#111111";
    this.forget();
  }

  colour(kind, called, name, hidden) {
    return (this.palette[kind][called] ??= this.shade(kind, crateOf(name), hidden));
  }

  shade(kind, crate, hidden) {
    const key = kind + (hidden ? "h" : "s") + crate;
    let colour = this.shades.get(key);
    if (colour === undefined) {
      const [hue, strength, light] = (this.dark ? HUES_DARK : HUES)[kind];
      let spread = 0;
      for (let at = 0; at < crate.length && at < 32; at++) spread = (spread * 31 + crate.charCodeAt(at)) | 0;
      const step = ((spread >>> 3) % 7) - 3;
      colour = hidden
        ? `hsl(${hue} ${strength * 0.28}% ${this.dark ? light - 4 : light + 12}%)`
        : `hsl(${hue + step * 2.2} ${strength}% ${light + step * 1.7}%)`;
      this.shades.set(key, colour);
    }
    return colour;
  }

  // `view`: tree, model, title (the root's name), zoom, focus, hover, matched (or null), flip, top (rows scrolled away, in pixels).
  draw(view) {
    const { context, width, height } = this;
    const { tree } = view;
    context.fillStyle = this.paper;
    context.fillRect(0, 0, width, height);
    if (!tree || tree.total[0] <= 0) return;
    const count = tree.rows.length;
    const first = Math.max(0, Math.floor(view.top / ROW));
    const last = Math.min(count - 1, Math.floor((view.top + height) / ROW));
    const ancestors = [];
    for (let at = view.zoom; at >= 0; at = tree.parent[at]) ancestors[tree.depth[at]] = at;
    context.textBaseline = "middle";
    for (let row = first; row <= last; row++) {
      const depth = view.flip ? count - 1 - row : row;
      const y = row * ROW - view.top;
      if (depth < ancestors.length) {
        this.frame(view, ancestors[depth], 0, width, y, depth < ancestors.length - 1);
      } else {
        this.row(view, tree.rows[depth], y);
      }
    }
  }

  row(view, nodes, y) {
    const { tree } = view;
    const from = tree.start[view.zoom];
    const until = from + tree.total[view.zoom];
    const scale = this.width / tree.total[view.zoom];
    let at = lowerBound(nodes, (node) => tree.start[node] + tree.total[node] > from);
    let strip = -1, end = 0, kind = 0;
    const flush = () => {
      if (strip < 0) return;
      this.context.fillStyle = this.shade(kind, "", true);
      this.context.fillRect(strip, y, Math.max(THIN, end - strip), ROW - 1);
      strip = -1;
    };
    for (; at < nodes.length && tree.start[nodes[at]] < until; at++) {
      const node = nodes[at];
      const x = (tree.start[node] - from) * scale;
      const wide = tree.total[node] * scale;
      if (wide < THIN) {
        // A strip never crosses a gap, and is cut every two pixels so that it shows each kind.
        if (strip >= 0 && (x - end > THIN || x - strip > 2)) flush();
        if (strip < 0) [strip, kind] = [x, mainKind(tree, node)];
        end = x + wide;
        continue;
      }
      flush();
      this.frame(view, node, x, wide, y, false);
    }
    flush();
  }

  frame(view, node, x, wide, y, above) {
    const { context } = this;
    const { tree, model } = view;
    const called = tree.called[node];
    const hidden = isHidden(model, called);
    const name = node === 0 ? view.title : shortName(model, called);
    const dim = view.matched !== null && view.matched[called] === 0;
    const gap = wide > 3 ? 1 : wide > 1.5 ? 0.5 : 0;
    context.globalAlpha = dim ? 0.38 : above ? 0.6 : 1;
    if (node === 0) {
      context.fillStyle = this.dark ? "#35322d" : "#e9e5dc";
      context.fillRect(x, y, wide - gap, ROW - 1);
    } else {
      this.fill(tree, node, name, hidden, x, wide - gap, y);
    }
    if (wide > 26) this.label(view, node, name, hidden, x, wide, y);
    context.globalAlpha = 1;
    if (!dim && view.matched !== null) this.outline(x, y, wide - gap, this.ink, 1);
    if (node === view.hover) this.outline(x, y, wide - gap, this.faint, 1.5);
    if (node === view.focus) this.outline(x, y, wide - gap, this.ring, 2);
  }

  // Each kind's part of the frame in its colour, in the order of KINDS.
  fill(tree, node, name, hidden, x, wide, y) {
    if (tree.baseline) {
      this.context.fillStyle = this.differing(tree.total[node], tree.baseline[node], hidden);
      this.context.fillRect(x, y, wide, ROW - 1);
      return;
    }
    let left = x;
    for (let kind = 0; kind < KINDS.length; kind++) {
      const part = (wide * tree.kinds[kind][node]) / tree.total[node];
      if (part <= 0) continue;
      this.context.fillStyle = this.colour(kind, tree.called[node], name, hidden);
      this.context.fillRect(left, y, part, ROW - 1);
      left += part;
    }
  }

  // Red is more than on the other side, blue is less; the paler, the smaller the difference is beside the larger of the two.
  differing(here, there, hidden) {
    const part = (here - there) / Math.max(here, there, 1e-9);
    const hue = part > 0 ? 10 : 212;
    const strength = Math.abs(part) * (hidden ? 45 : 85);
    const light = this.dark ? 30 + 12 * Math.abs(part) : 90 - 22 * Math.abs(part);
    return `hsl(${hue} ${Math.round(strength)}% ${Math.round(light)}%)`;
  }

  label(view, node, name, hidden, x, wide, y) {
    const { context } = this;
    const start = Math.max(x, 0);
    const room = Math.min(x + wide, this.width) - start - 9;
    let text = fit(name, Math.floor(room / this.letter));
    if (node === 0 || node === view.zoom) {
      const longer = text + "  " + duration(view.tree.total[node]);
      if (text === name && longer.length * this.letter <= room) text = longer;
    }
    if (text === "") return;
    context.fillStyle = hidden ? this.faint : this.ink;
    context.fillText(text, start + 4, y + ROW / 2, room + 2);
  }

  outline(x, y, wide, colour, line) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = line;
    this.context.strokeRect(x + line / 2, y + line / 2, Math.max(0.5, wide - line), ROW - 1 - line);
  }
}

// The first part of a path: a crate, a namespace, a module of an object file.
function crateOf(name) {
  const cut = name.search(/::|\.|\+|\//);
  return cut > 0 ? name.slice(0, cut) : name;
}

function mainKind(tree, node) {
  let best = 0;
  for (let kind = 1; kind < KINDS.length; kind++) if (tree.kinds[kind][node] > tree.kinds[best][node]) best = kind;
  return best;
}

// The first position whose value is accepted, where acceptance never ends once it began.
function lowerBound(values, accepted) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (accepted(values[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}
