// The data as it is asked: decoded once, folded for each view. Nothing here touches the document.

const FORMAT = 4;
const RUNTIME = 1, KERNEL = 2;
const KINDS = [
  { key: "cpu", name: "On CPU", word: "on CPU", about: "running" },
  { key: "off_cpu", name: "Off CPU", word: "off CPU", about: "blocked: locks, sockets, files, sleep" },
  { key: "run_queue", name: "Run queue", word: "run queue", about: "runnable, waiting for a CPU" },
  { key: "suspended", name: "Suspended", word: "suspended", about: "a task at an await, until its wake-up" },
  { key: "ready", name: "Ready", word: "ready", about: "a task that was woken, until its next poll" },
  { key: "unknown", name: "Unknown", word: "unknown", about: "of spans' wall times what was not seen" },
];
const UNKNOWN = 5;
const ALL_KINDS = (1 << KINDS.length) - 1;
// Kinds that every recording shows; the others only where there was such time.
const ALWAYS_SHOWN = 3;

// Functions that the page adds to those of the data.
const EXTRA = ["everything", "(runtime only)", "(no stack)"];

function decode(data) {
  if (data.format !== FORMAT) throw new Error("this file's data has layout " + data.format + "; this page reads layout " + FORMAT);
  const strings = data.strings.map(readable);
  const text = (position) => (position < 0 ? "" : strings[position]);
  const names = data.functions.name.map(text);
  const model = {
    names: names.concat(EXTRA),
    files: data.functions.file.map(text).concat(EXTRA.map(() => "")),
    flags: data.functions.flags.concat([0, RUNTIME, 0]),
    short: new Array(names.length + EXTRA.length),
    root: names.length,
    runtimeOnly: names.length + 1,
    noStack: names.length + 2,
    parent: Int32Array.from(data.nodes.parent),
    called: Int32Array.from(data.nodes.function),
    line: Int32Array.from(data.nodes.line),
    samples: data.samples,
    idle: new Uint8Array(data.samples.node.length),
    isShare: new Uint8Array(data.samples.node.length),
    waits: data.samples.wait.map(text),
    spans: data.spans.span_id.map((id, at) => ({
      id: text(id), trace: text(data.spans.trace_id[at]), name: text(data.spans.name[at]),
      destination: text(data.spans.destination[at]), group: text(data.spans.group[at]),
      operation: text(data.spans.operation[at]), service: text(data.spans.service[at]),
      key: id < 0 ? "folded-" + at : text(id), time: noTime(), threads: new Set(),
      kind: data.spans.kind[at], cause: text(data.spans.cause[at]), share: data.spans.share[at],
      wait: text(data.spans.wait[at]), kept: text(data.spans.kept[at]), wall: data.spans.wall[at], children: data.spans.children[at],
      batch: data.spans.batch[at], headOfLine: data.spans.head_of_line[at], begin: data.spans.begin[at], shared: noTime(), at,
      wokenBy: data.spans.woken_by[at].map(([words, time, frames]) => ({ words: text(words), time, frames: frames.map(text) })),
    })),
    threads: data.threads.name.map((name, at) => ({
      name: text(name), id: data.threads.id[at], pid: data.threads.pid[at], service: text(data.threads.service[at]),
      key: data.threads.id[at] >= 0 ? data.threads.pid[at] + "-" + data.threads.id[at] : "t" + at, time: noTime(), idle: noTime(),
    })),
    total: noTime(),
    idleTotal: noTime(),
    count: 0,
    start: data.start_unix_milliseconds,
    seconds: data.duration_nanoseconds / 1e9,
    told: toldSpans(data, text),
    traffic: trafficOf(data, text),
  };
  for (const at of data.idle_samples) model.idle[at] = 1;
  for (const at of data.shares) model.isShare[at] = 1;
  unrepeat(model.spans);
  unrepeat(model.threads);
  sumOwners(model);
  model.kinds = KINDS.map((kind, at) => ({ ...kind, at })).filter((kind) => kind.at < ALWAYS_SHOWN || model.total[kind.at] > 0);
  return model;
}

// Finished spans of the traces that kept spans are in, as their tracers told them.
function toldSpans(data, text) {
  const { told } = data;
  return told.span_id.map((id, at) => ({
    id: text(id), trace: text(told.trace_id[at]), parent: text(told.parent_id[at]), kind: told.kind[at], name: text(told.name[at]),
    service: text(told.service[at]), destination: text(told.destination[at]), operation: text(told.operation[at]),
    begin: told.begin[at], wall: told.wall[at], failed: told.failed[at] === 1, links: told.links[at].map(text),
  }));
}

// How many messages of each class went by, kept or not, and what they took.
function trafficOf(data, text) {
  const { traffic } = data;
  return traffic.count.map((count, at) => ({
    destination: text(traffic.destination[at]), group: text(traffic.group[at]), operation: text(traffic.operation[at]), service: text(traffic.service[at]),
    name: text(traffic.name[at]), count, failed: traffic.failed[at], told: traffic.told[at] === 1, median: traffic.median[at], tail: traffic.tail[at],
  }));
}

function noTime() {
  return KINDS.map(() => 0);
}

// Two rows must not share a key, or a link would show the wrong one.
function unrepeat(rows) {
  const seen = new Set();
  rows.forEach((row, at) => {
    if (seen.has(row.key)) row.key += "-" + at;
    seen.add(row.key);
  });
}

function sumOwners(model) {
  const { kind, nanoseconds, count, span, thread } = model.samples;
  for (let at = 0; at < kind.length; at++) {
    const time = nanoseconds[at];
    model.total[kind[at]] += time;
    model.count += count[at];
    model.threads[thread[at]].time[kind[at]] += time;
    if (model.idle[at]) {
      model.idleTotal[kind[at]] += time;
      model.threads[thread[at]].idle[kind[at]] += time;
    }
    if (span[at] >= 0) {
      const row = model.spans[span[at]];
      (model.isShare[at] ? row.shared : row.time)[kind[at]] += time;
      if (model.threads[thread[at]].name) row.threads.add(model.threads[thread[at]].name);
    }
  }
}

// Times without those of idle threads.
function without(times, idle) {
  return times.map((time, kind) => time - idle[kind]);
}

function sum(times) {
  let all = 0;
  for (const time of times) all += time;
  return all;
}

function shortName(model, id) {
  return (model.short[id] ??= shorten(model.names[id]));
}

function isHidden(model, id) {
  return (model.flags[id] & (RUNTIME | KERNEL)) !== 0;
}

// Folds the chosen samples into one tree. `choice`: `kinds` (bits), `span` and `thread` (positions, -1 for
// all), `among` (a bit per span, where only some are meant, without their shares of batches), `hideRuntime`, `hideIdle`.
//
// Hiding runtime frames keeps what a person needs of them: the frame by which their own code entered the
// runtime at the end of a stack (`Mutex::lock`, `TcpStream::read`). Everything else of it is left out, and
// a stack without any own frame counts as one, `(runtime only)`, so that sums never change.
function fold(model, choice) {
  const nodes = model.parent.length;
  const width = KINDS.length;
  const own = new Float64Array(width * nodes);
  const ownWeight = new Float64Array(nodes);
  const stackless = noTime();
  const { node, kind, nanoseconds, span, thread } = model.samples;
  for (let at = 0; at < kind.length; at++) {
    if (!(choice.kinds & (1 << kind[at]))) continue;
    if (choice.span >= 0 && span[at] !== choice.span) continue;
    if (choice.thread >= 0 && thread[at] !== choice.thread) continue;
    if (choice.among && (span[at] < 0 || !choice.among[span[at]] || model.isShare[at])) continue;
    if (choice.hideIdle && model.idle[at]) continue;
    if (node[at] < 0) {
      stackless[kind[at]] += nanoseconds[at];
    } else {
      own[width * node[at] + kind[at]] += nanoseconds[at];
      ownWeight[node[at]] += nanoseconds[at];
    }
  }
  const weight = Float64Array.from(ownWeight);
  for (let at = nodes - 1; at >= 0; at--) if (model.parent[at] >= 0) weight[model.parent[at]] += weight[at];

  const tree = new TreeBuilder(model);
  const base = new Int32Array(nodes);
  const entry = new Int32Array(nodes).fill(-1);
  for (let at = 0; at < nodes; at++) {
    if (weight[at] === 0) continue;
    const above = model.parent[at];
    const under = above < 0 ? 0 : base[above];
    const called = model.called[at];
    let self;
    if (!choice.hideRuntime || !isHidden(model, called)) {
      self = base[at] = tree.child(under, called);
      tree.seenAt(self, model.line[at], weight[at]);
    } else {
      base[at] = under;
      entry[at] = above >= 0 && entry[above] >= 0 ? entry[above] : at;
      if (ownWeight[at] === 0) continue;
      if (under === 0) {
        self = tree.child(0, model.runtimeOnly);
      } else {
        self = tree.child(under, model.called[entry[at]]);
        tree.seenAt(self, model.line[entry[at]], weight[entry[at]]);
      }
    }
    for (let k = 0; k < width; k++) tree.addSelf(self, k, own[width * at + k]);
  }
  if (sum(stackless) > 0) {
    const self = tree.child(0, model.noStack);
    for (let k = 0; k < width; k++) tree.addSelf(self, k, stackless[k]);
  }
  return tree.finish();
}

class TreeBuilder {
  constructor(model) {
    this.width = model.width ?? model.names.length;
    this.parent = [-1];
    this.called = [model.root];
    this.line = [0];
    this.lineWeight = [0];
    this.manyLines = [false];
    this.self = KINDS.map(() => [0]);
    this.positions = new Map();
  }

  child(parent, called) {
    const key = parent * this.width + called;
    let position = this.positions.get(key);
    if (position === undefined) {
      position = this.parent.length;
      this.positions.set(key, position);
      this.parent.push(parent);
      this.called.push(called);
      this.line.push(0);
      this.lineWeight.push(-1);
      this.manyLines.push(false);
      for (const column of this.self) column.push(0);
    }
    return position;
  }

  // A frame merges call sites: the line that is told is the heaviest one.
  seenAt(node, line, weight) {
    if (this.lineWeight[node] >= 0 && line !== this.line[node]) this.manyLines[node] = true;
    if (weight > this.lineWeight[node]) {
      this.lineWeight[node] = weight;
      this.line[node] = line;
    }
  }

  addSelf(node, kind, time) {
    this.self[kind][node] += time;
  }

  finish() {
    const size = this.parent.length;
    const kinds = this.self.map((column) => Float64Array.from(column));
    for (let node = size - 1; node > 0; node--) for (const column of kinds) column[this.parent[node]] += column[node];
    const total = new Float64Array(size);
    const self = new Float64Array(size);
    const children = Array.from({ length: size }, () => []);
    for (let node = 0; node < size; node++) {
      for (const column of kinds) total[node] += column[node];
      for (const column of this.self) self[node] += column[node];
      if (node > 0) children[this.parent[node]].push(node);
    }
    // Largest first, in every row: the eye starts at the left.
    const start = new Float64Array(size);
    const depth = new Int32Array(size);
    const rows = [[0]];
    for (let row = rows[0]; row.length; ) {
      const next = [];
      for (const node of row) {
        children[node].sort((a, b) => total[b] - total[a] || a - b);
        let at = start[node];
        for (const child of children[node]) {
          start[child] = at;
          depth[child] = depth[node] + 1;
          at += total[child];
          next.push(child);
        }
      }
      if (next.length) rows.push(next);
      row = next;
    }
    return { size, parent: this.parent, called: this.called, line: this.line, manyLines: this.manyLines, kinds, total, self, start, depth, rows, children };
  }
}

// The same time by the function that ran or waited, its callers below it.
function invert(model, tree) {
  const inverted = new TreeBuilder(model);
  for (let node = 1; node < tree.size; node++) {
    if (tree.self[node] <= 0) continue;
    let at = 0;
    for (let caller = node; caller > 0; caller = tree.parent[caller]) {
      at = inverted.child(at, tree.called[caller]);
      inverted.seenAt(at, tree.line[caller], tree.self[node]);
    }
    for (let kind = 0; kind < KINDS.length; kind++) inverted.addSelf(at, kind, selfOfKind(tree, node, kind));
  }
  return { ...inverted.finish(), inverted: true };
}

function selfOfKind(tree, node, kind) {
  let self = tree.kinds[kind][node];
  for (const child of tree.children[node]) self -= tree.kinds[kind][child];
  return self;
}

// Which functions a query names, how many frames of the tree they are, and whose time that is under `under`.
// A match inside a match is counted as a frame, but its time only once.
function search(model, tree, query, under) {
  const wanted = query.toLowerCase();
  const matched = new Uint8Array(model.names.length);
  for (let id = 0; id < matched.length; id++) {
    if (id === model.root) continue;
    matched[id] = model.names[id].toLowerCase().includes(wanted) || model.files[id].toLowerCase().includes(wanted) ? 1 : 0;
  }
  let frames = 0, time = 0;
  const functions = new Set();
  const stack = [[under, false]];
  while (stack.length) {
    const [node, covered] = stack.pop();
    const hit = matched[tree.called[node]] === 1;
    if (hit) {
      frames++;
      functions.add(tree.called[node]);
      if (!covered) time += tree.total[node];
    }
    for (const child of tree.children[node]) stack.push([child, covered || hit]);
  }
  return { matched, frames, time, functions: functions.size };
}

// The nodes from below the root to `node`.
function pathTo(tree, node) {
  const path = [];
  for (let at = node; at > 0; at = tree.parent[at]) path.push(at);
  return path.reverse();
}
