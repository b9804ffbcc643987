// What some messages do that others don't: two trees laid over each other, per message. Nothing here touches the document.

// One side: `tree` of `model`, whose time belongs to `amount` messages or seconds.
// The result is a tree of the subject's frames, in nanoseconds per one, with the baseline's beside it.
function differenceTree(subject, baseline) {
  const names = new CommonNames();
  const builder = new TreeBuilder(names);
  const width = KINDS.length;
  const position = new Int32Array(subject.tree.size);
  const called = names.of(subject.model);
  for (const row of subject.tree.rows) {
    for (const node of row) {
      if (node > 0) {
        position[node] = builder.child(position[subject.tree.parent[node]], called(subject.tree.called[node]));
        builder.seenAt(position[node], subject.tree.line[node], subject.tree.total[node]);
      }
      for (let kind = 0; kind < width; kind++) builder.addSelf(position[node], kind, selfOfKind(subject.tree, node, kind) / subject.amount);
    }
  }
  const size = builder.parent.length;
  const other = new Float64Array(size);
  const calledThere = names.of(baseline.model);
  const place = new Int32Array(baseline.tree.size).fill(-1);
  place[0] = 0;
  for (const row of baseline.tree.rows) {
    for (const node of row) {
      if (node > 0) {
        const above = place[baseline.tree.parent[node]];
        place[node] = above < 0 ? -1 : builder.positions.get(above * builder.width + calledThere(baseline.tree.called[node])) ?? -1;
      }
      if (place[node] >= 0) other[place[node]] += baseline.tree.total[node] / baseline.amount;
    }
  }
  const tree = builder.finish();
  tree.baseline = other;
  return { tree, model: names };
}

// Functions of two models under one number each, told apart by name and file. It serves as a model to draw by.
class CommonNames {
  constructor() {
    this.names = [];
    this.files = [];
    this.flags = [];
    this.short = [];
    this.positions = new Map();
    this.root = this.add("everything", "", 0);
    this.runtimeOnly = this.add("(runtime only)", "", RUNTIME);
    // A number's room in the keys of trees: more functions than any page holds.
    this.width = 1 << 22;
  }

  add(name, file, flags) {
    const key = name + "\u0000" + file;
    let position = this.positions.get(key);
    if (position === undefined) {
      position = this.names.push(name) - 1;
      this.files.push(file);
      this.flags.push(flags);
      this.positions.set(key, position);
    }
    return position;
  }

  of(model) {
    const known = new Int32Array(model.names.length).fill(-1);
    return (id) => (known[id] < 0 ? (known[id] = this.add(model.names[id], model.files[id], model.flags[id])) : known[id]);
  }
}

// Time by function, per one: `own` at its own lines, `total` with what it called; recursion counts once.
function functionTimes({ model, tree, amount }) {
  const times = new Map();
  const open = new Set();
  const stack = [[0, false]];
  while (stack.length) {
    const [node, leave] = stack.pop();
    const called = tree.called[node];
    const key = model.names[called] + "\u0000" + model.files[called];
    if (leave) {
      open.delete(key);
      continue;
    }
    if (node > 0) {
      let row = times.get(key);
      if (!row) times.set(key, (row = { key, name: model.names[called], file: model.files[called], hidden: isHidden(model, called), own: 0, total: 0 }));
      row.own += tree.self[node] / amount;
      if (!open.has(key)) {
        row.total += tree.total[node] / amount;
        open.add(key);
        stack.push([node, true]);
      }
    }
    for (const child of tree.children[node]) stack.push([child, false]);
  }
  return times;
}

function functionDifferences(subject, baseline) {
  const [there, here] = [functionTimes(baseline), functionTimes(subject)];
  const rows = [];
  for (const [key, row] of here) rows.push({ ...row, base: there.get(key)?.total ?? 0, baseOwn: there.get(key)?.own ?? 0 });
  for (const [key, row] of there) if (!here.has(key)) rows.push({ ...row, base: row.total, baseOwn: row.own, total: 0, own: 0 });
  for (const row of rows) {
    row.more = row.total - row.base;
    row.moreOwn = row.own - row.baseOwn;
    row.text = (row.name + "\n" + row.file).toLowerCase();
  }
  return rows;
}

// Time by what was done or waited for, per one: running, and each wait.
function waitTimes({ model, among, amount }) {
  const times = new Map();
  const { kind, nanoseconds, span } = model.samples;
  for (let at = 0; at < kind.length; at++) {
    if (among && (span[at] < 0 || !among[span[at]] || model.isShare[at])) continue;
    if (!among && model.idle[at]) continue;
    const name = KINDS[kind[at]].key === "cpu" ? "running" : model.waits[at] || KINDS[kind[at]].key;
    const key = kind[at] + " " + name;
    if (!times.has(key)) times.set(key, { key, kind: kind[at], name, time: 0 });
    times.get(key).time += nanoseconds[at] / amount;
  }
  return times;
}

function waitDifferences(subject, baseline) {
  const [here, there] = [waitTimes(subject), waitTimes(baseline)];
  const keys = new Set([...here.keys(), ...there.keys()]);
  return [...keys].map((key) => {
    const row = here.get(key) ?? there.get(key);
    const [time, base] = [here.get(key)?.time ?? 0, there.get(key)?.time ?? 0];
    return { ...row, time, base, more: time - base, text: row.name };
  });
}
