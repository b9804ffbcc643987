// The page: one state, shown. Every change goes through `change`, which writes the address and draws.

const HINT = "Click a frame to zoom in, one of its callers to zoom out. Keys: / search, arrows move, Enter zoom, C copy the stack, Esc back.";
const $ = (id) => document.getElementById(id);
let model, data, flame, spanTable, threadTable, state, tree, treeKey;

function change(patch, step = false) {
  state = { ...state, ...patch };
  writeAddress(state, step);
  draw();
}

function chosen() {
  const kind = KINDS.findIndex((each) => each.key === state.kind);
  return {
    kinds: kind < 0 ? ALL_KINDS : 1 << kind,
    span: state.span === "" ? -1 : model.spans.findIndex((row) => row.key === state.span),
    thread: state.thread === "" ? -1 : model.threads.findIndex((row) => row.key === state.thread),
    hideRuntime: state.runtime === "hidden",
    hideIdle: state.idle === "hidden",
  };
}

function draw() {
  const choice = chosen();
  drawSelection(choice);
  drawKinds(choice);
  drawFlame(choice);
  drawTables();
}

// All the time that is meant, and the idle threads' part of it; a span is never idle.
function timeOf(choice) {
  if (choice.span >= 0) return { all: model.spans[choice.span].time, idle: noTime() };
  if (choice.thread >= 0) return { all: model.threads[choice.thread].time, idle: model.threads[choice.thread].idle };
  return { all: model.total, idle: model.idleTotal };
}

function shownTime(row) {
  return row.idle && state.idle === "hidden" ? without(row.time, row.idle) : row.time;
}

function spanTitle(row) {
  return row.name || [row.operation, row.destination].filter(Boolean).join(" ") || "span";
}

function mainCause(row) {
  return row.cause + " · " + duration(row.share * sum(row.time)) + ", " + share(row.share, 1) + " of the time seen";
}

// Who ended most of the span's waits, and whom that one had waited for; each with the top of its stack.
function wokenBy(row) {
  if (!row.wokenBy.length) return null;
  const link = ({ words, time, frames }, at) => element("div", {}, (at ? "who waited for " : "") + words + " · " + duration(time),
    element("div", { class: "under", title: frames.join("\n") }, frames.map((frame) => fit(frame, 60) || frame.slice(0, 60)).join(" ← ")));
  return element("div", {}, ...row.wokenBy.map(link));
}

function threadTitle(row) {
  return row.name || (row.id >= 0 ? "thread " + row.id : "thread without a name");
}

function facts(list, entries) {
  list.replaceChildren(...entries.filter((entry) => entry[1]).map(([name, value, wide]) => element("div", { class: wide ? "wide" : "" }, element("dt", {}, name), element("dd", {}, value))));
}

function drawSelection(choice) {
  const span = choice.span >= 0 ? model.spans[choice.span] : null;
  const thread = !span && choice.thread >= 0 ? model.threads[choice.thread] : null;
  $("show-all").hidden = !(state.span || state.thread);
  $("selection").hidden = !(span || thread);
  if (span) {
    $("flame-heading").textContent = "Where the time of “" + spanTitle(span) + "” went";
    facts($("selection"), [["Span", span.id || "many, folded together"], ["Trace", span.trace], ["Destination", span.destination], ["Group", span.group], ["Operation", span.operation], ["Service", span.service], ["Threads", [...span.threads].join(", ")], ["Waited most for", span.wait], ["Main cause", mainCause(span), true], ["Woken by", wokenBy(span), true]]);
  } else if (thread) {
    $("flame-heading").textContent = "Where the time of thread “" + threadTitle(thread) + "” went";
    facts($("selection"), [["Thread", thread.id >= 0 ? String(thread.id) : ""], ["Process", thread.pid >= 0 ? String(thread.pid) : ""], ["Service", thread.service]]);
  } else {
    $("flame-heading").textContent = state.span ? "This file holds no span " + state.span : state.thread ? "This file holds no thread " + state.thread : "Where the time went";
  }
}

function drawKinds(choice) {
  const { all, idle } = timeOf(choice);
  const time = choice.hideIdle ? without(all, idle) : all;
  const whole = sum(time);
  for (const input of $("kinds").querySelectorAll("input")) {
    const at = KINDS.findIndex((kind) => kind.key === input.value);
    const part = at < 0 ? whole : time[at];
    input.checked = at < 0 ? choice.kinds === ALL_KINDS : choice.kinds === 1 << at;
    const label = input.parentElement;
    label.querySelector(".amount").textContent = duration(part);
    label.querySelector(".share").textContent = at < 0 ? "" : share(part, whole);
    const idlePart = at < 0 ? sum(idle) : idle[at];
    label.querySelector(".idle").textContent = idlePart <= 0 ? "" : choice.hideIdle ? duration(idlePart) + " of idle threads hidden" : duration(idlePart) + " of it idle threads";
    if (at < 0) label.querySelector(".strip").replaceChildren(bar(time, whole));
    else label.querySelector(".strip").replaceChildren(bar(time.map((each, kind) => (kind === at ? each : 0)), whole));
  }
}

function drawFlame(choice) {
  const key = JSON.stringify(choice);
  const flip = state.root === "bottom";
  const unknown = (state.span !== "" && choice.span < 0) || (state.thread !== "" && choice.thread < 0);
  if (key !== treeKey) {
    tree = fold(model, choice);
    treeKey = key;
  }
  const empty = unknown || tree.total[0] <= 0;
  $("chart").hidden = empty;
  $("flame-empty").hidden = !empty;
  $("flame-empty").textContent = unknown ? "The link names something that was not recorded here." : emptyWords(choice);
  $("hide-runtime").checked = choice.hideRuntime;
  $("hide-idle").checked = choice.hideIdle;
  $("idle-switch").hidden = sum(model.idleTotal) <= 0;
  $("flip").checked = flip;
  if (document.activeElement !== $("search")) $("search").value = state.q;
  const zoom = zoomNode(tree, state.zoom);
  if (flame.view.tree !== tree || flame.view.flip !== flip) {
    flame.show(model, tree, choice.span >= 0 ? "this span" : choice.thread >= 0 ? "this thread" : choice.hideIdle && sum(model.idleTotal) > 0 ? "everything but idle threads" : "everything", zoom, flip);
    describeFocus(-1);
  } else if (flame.view.zoom !== zoom) {
    flame.setZoom(zoom);
  }
  drawMatches(zoom, empty);
  drawCrumbs(zoom, empty);
}

function emptyWords(choice) {
  const { idle } = timeOf(choice);
  const hidden = choice.hideIdle ? sum(idle.filter((_, kind) => choice.kinds & (1 << kind))) : 0;
  if (hidden > 0) return "All that was seen here is " + duration(hidden) + " of idle threads: they waited without a span, or since before the recording began. Untick “Hide idle threads” to see them.";
  const whose = choice.span >= 0 ? " in this span" : choice.thread >= 0 ? " on this thread" : "";
  if (choice.kinds === 1) return "No on-CPU samples" + whose + ": nothing was seen running.";
  if (choice.kinds === 2) return "No off-CPU samples" + whose + ": nothing was seen blocked, or the capture did not watch the scheduler.";
  if (choice.kinds === 4) return "No run-queue time" + whose + ": nothing had to wait for a CPU, or the capture did not watch the scheduler.";
  if (choice.kinds === 8) return "No suspended time" + whose + ": nothing awaited, or its process does not watch its awaits.";
  if (choice.kinds === 32) return "No unknown time" + whose + ": all of what spans took was seen, or nobody told what they took.";
  if (choice.kinds === 16) return "No ready time" + whose + ": nothing waited for its poll, or its process does not watch its awaits.";
  return "No samples" + whose + ". The processes may have been idle or may have ended before the capture began.";
}

function drawMatches(zoom, empty) {
  if (state.q === "" || empty) {
    $("matches").textContent = "";
    flame.setMatches(null);
    return;
  }
  const found = search(model, tree, state.q, zoom);
  flame.setMatches(found.matched);
  const hidden = state.runtime === "hidden" && model.called.some((id) => found.matched[id] && isHidden(model, id));
  $("matches").textContent = found.frames === 0
    ? "no match" + (hidden ? " but in hidden runtime frames" : "")
    : plural(found.functions, "function") + " in " + plural(found.frames, "frame") + " · " + share(found.time, tree.total[zoom]) + " · " + duration(found.time);
}

function drawCrumbs(zoom, empty) {
  $("crumbs").hidden = empty;
  if (empty || zoom === 0) {
    $("crumbs").replaceChildren(HINT);
    return;
  }
  const path = pathTo(tree, zoom);
  const crumb = (node, name) => {
    const last = node === zoom;
    const button = element("button", { type: "button", class: "crumb", title: name, "aria-current": last ? "location" : null }, fit(name, 44) || name.slice(0, 44));
    button.addEventListener("click", () => zoomTo(node));
    return button;
  };
  const shown = path.slice(-3).map((node) => crumb(node, shortName(model, tree.called[node])));
  const between = path.length > 3 ? [element("span", {}, "… " + plural(path.length - 3, "frame") + " …")] : [];
  $("crumbs").replaceChildren(...[crumb(0, flame.view.title), ...between, ...shown].flatMap((each, at) => (at ? [element("span", { "aria-hidden": "true" }, "›"), each] : [each])), reset());
}

function reset() {
  const button = element("button", { type: "button", class: "button reset" }, "Reset zoom");
  button.addEventListener("click", () => zoomTo(0));
  return button;
}

function zoomTo(node) {
  change({ zoom: zoomText(tree, node) }, true);
}

function describeFocus(node) {
  $("copy").hidden = node <= 0;
  $("copy").textContent = "Copy stack";
  if (node < 0) {
    $("detail").textContent = "";
    return;
  }
  const where = flame.place(node);
  $("detail").replaceChildren(element("strong", {}, fit(model.names[tree.called[node]], 160) || model.names[tree.called[node]].slice(0, 160)), " — " + duration(tree.total[node]) + " (" + share(tree.total[node], tree.total[0]) + "), self " + duration(tree.self[node]) + (where ? ", " + where : ""));
}

function drawTables() {
  if (document.activeElement !== $("filter")) $("filter").value = state.filter;
  spanTable.show(model.spans, { sort: state.sort, descending: state.order === "down", filter: state.filter, current: state.span, idle: "" });
  threadTable.show(model.threads, { sort: state.threads, descending: state.threadorder === "down", filter: "", current: state.thread, idle: state.idle });
}

function open(patch) {
  change({ span: "", thread: "", zoom: "", ...patch }, true);
  $("flame-heading").scrollIntoView({ block: "start" });
  $("flame-heading").focus({ preventScroll: true });
}

// The largest row's time, found anew when idle threads come or go.
function largest(rows) {
  let most = 0, found = "";
  return () => {
    if (found !== state.idle) {
      most = rows.reduce((best, row) => Math.max(best, sum(shownTime(row))), 0);
      found = state.idle;
    }
    return most;
  };
}

function kindNames() {
  const names = model.kinds.map((kind) => kind.name[0].toLowerCase() + kind.name.slice(1));
  return names.slice(0, -1).join(", ") + " and " + names[names.length - 1];
}

function timeColumns(most) {
  return [
    ...model.kinds.map((kind) => ({ key: kind.key, title: kind.name + ", ms", about: kind.about, number: true, value: (row) => shownTime(row)[kind.at], cell: (row) => milliseconds(shownTime(row)[kind.at]) })),
    { key: "seen", title: "Seen, ms", about: kindNames() + " together", number: true, value: (row) => sum(shownTime(row)), cell: (row) => milliseconds(sum(shownTime(row))) },
    { key: "split", title: "Split", about: kindNames() + ", in the scale of the largest row", cell: (row) => bar(shownTime(row), most()) },
  ];
}

function makeSpanTable() {
  const link = (row) => element("a", { href: addressOf({ ...BEGINNING, span: row.key }), title: row.id || "spans whose samples kept no id, folded together by name and destination", "aria-label": "Show span " + (row.id || "group " + spanTitle(row)) + " alone" }, row.id || "folded");
  const under = (text, title) => (text ? element("div", { class: "under", title }, text) : null);
  const place = (row) => [row.operation, row.destination, row.group].filter((part) => part && !spanTitle(row).includes(part)).join(" · ");
  const threads = (row) => [...row.threads].slice(0, 2).join(", ") + (row.threads.size > 2 ? " and " + (row.threads.size - 2) + " more" : "");
  for (const row of model.spans) row.text = [row.id, row.trace, spanTitle(row), row.destination, row.group, row.operation, row.service, row.wait, row.cause, ...row.threads].join("\n").toLowerCase();
  const most = largest(model.spans);
  return new Table($("spans"), "Spans by the time that was seen in them; choose one to see its flame graph alone", [
    { key: "id", title: "Span, trace", value: (row) => row.id, cell: (row) => [element("div", {}, link(row)), under(row.trace, row.trace)] },
    { key: "name", title: "Name", value: spanTitle, cell: (row) => [element("div", {}, ...breakable(spanTitle(row))), under(place(row))] },
    { key: "service", title: "Service, threads", value: (row) => row.service, cell: (row) => [element("div", {}, row.service), under(threads(row))] },
    ...timeColumns(most),
    { key: "wait", title: "Wait", about: "what was waited for the longest, by the values of the label wait", value: (row) => row.wait, cell: (row) => element("div", {}, row.wait) },
    { key: "cause", title: "Main cause", value: (row) => row.cause, cell: (row) => [element("div", { class: "verb " + KINDS[row.kind].key }, ...breakable(row.cause)), under(share(row.share, 1) + " of the time seen")] },
  ], "No thread published a span while this was recorded, so time can be told by thread and function only. Add the spanprof crate (spanprof::install()) or another publisher of OpenTelemetry thread context to the service to see its time by span.", {
    sorted: (sort, descending) => change({ sort, order: descending ? "down" : "up" }),
    opened: (row) => open({ span: row.key }),
  });
}

function makeThreadTable() {
  for (const row of model.threads) row.text = "";
  const most = largest(model.threads);
  const idle = { key: "idle", title: "Idle, ms", about: "waiting without a span, or since before the recording began; in the other columns only while idle threads are shown", number: true, value: (row) => sum(row.idle), cell: (row) => milliseconds(sum(row.idle)) };
  const link = (row) => element("a", { href: addressOf({ ...BEGINNING, thread: row.key }), "aria-label": "Show thread " + threadTitle(row) + " alone" }, threadTitle(row));
  return new Table($("threads"), "Threads by the time that was seen; choose one to see its flame graph alone", [
    { key: "thread", title: "Thread", value: threadTitle, cell: (row) => element("div", {}, link(row)) },
    { key: "tid", title: "Id", number: true, value: (row) => row.id, cell: (row) => (row.id >= 0 ? String(row.id) : "") },
    { key: "pid", title: "Process", number: true, value: (row) => row.pid, cell: (row) => (row.pid >= 0 ? String(row.pid) : "") },
    { key: "of", title: "Service", value: (row) => row.service, cell: (row) => element("div", {}, row.service) },
    ...timeColumns(most),
    ...(sum(model.idleTotal) > 0 ? [idle] : []),
  ], "No thread was seen.", {
    sorted: (threads, descending) => change({ threads, threadorder: descending ? "down" : "up" }),
    opened: (row) => open({ thread: row.key }),
  });
}

function lossWords([cause, amount, unit]) {
  return (unit === "nanoseconds" ? duration(amount) : grouped(amount, 0)) + " " + readable(cause);
}

function drawHeader() {
  const services = [...new Set(model.threads.map((row) => row.service).filter(Boolean))].sort();
  const title = data.title || services.join(", ") || "A recording";
  document.title = readable(title) + " · spanprof";
  $("title").textContent = readable(title);
  const start = data.start_unix_milliseconds > 0 ? new Date(data.start_unix_milliseconds).toISOString().replace("T", " ").slice(0, 19) + " UTC" : "";
  const processes = new Set(model.threads.map((row) => row.pid).filter((pid) => pid >= 0));
  const lost = data.losses.filter((loss) => loss[1] > 0);
  facts($("facts"), [
    ["Recorded", start],
    ["For", data.duration_nanoseconds > 0 ? duration(data.duration_nanoseconds) : ""],
    ["Sampled at", data.period_nanoseconds > 0 ? grouped(1e9 / data.period_nanoseconds, 0) + " Hz" : ""],
    ["Seen", [processes.size === 1 ? "process " + [...processes][0] : processes.size ? plural(processes.size, "process", "processes") : "", plural(model.threads.length, "thread"), plural(model.spans.filter((row) => row.id).length, "span")].filter(Boolean).join(", ")],
    ...model.kinds.map(({ name, at }) => [name, duration(model.total[at]) + (model.idleTotal[at] > 0 ? ", " + duration(model.idleTotal[at]) + " of it idle" : "")]),
    ["Lost or cut", data.losses.length === 0 ? "" : lost.length === 0 ? "nothing" : lost.map(lossWords).join("; ")],
  ]);
}

function drawNotes() {
  const notes = [];
  if (data.losses.length) {
    const list = element("ul", {}, ...data.losses.map((loss) => element("li", { class: loss[1] > 0 ? "some" : "" }, lossWords(loss))));
    notes.push(element("h2", {}, "Lost, cut or left out"), list);
  }
  const lines = [data.source, ...data.comments].filter(Boolean).map((line) => element("li", {}, readable(line)));
  if (lines.length) notes.push(element("h2", {}, "How it was recorded"), element("ul", {}, ...lines));
  notes.push(element("p", {}, "Times are summed over threads, so they can exceed the length of the recording. On CPU is running, off CPU is blocked until the wake-up, run queue is from there to running." + (model.total[3] + model.total[4] > 0 ? " Suspended is a task without a thread, from an await to its wake-up; ready is from there to its next poll." : "") + (model.total[5] > 0 ? " Unknown is what spans took by their own word and nobody saw." : "")));
  $("notes").replaceChildren(...notes);
}

function makeKinds() {
  const card = (value, name, about) => {
    const input = element("input", { type: "radio", name: "kind", value });
    input.addEventListener("change", () => change({ kind: value }, true));
    return element("label", { class: "kind " + value, title: about }, input, element("span", { class: "name" }, name), element("span", { class: "amount" }), element("span", { class: "share" }), element("span", { class: "idle" }), element("span", { class: "strip" }));
  };
  $("kinds").replaceChildren(card("all", "All together", "coloured by kind"), ...model.kinds.map((kind) => card(kind.key, kind.name, kind.about)));
}

function escape() {
  if (document.activeElement === $("filter") && state.filter) {
    $("filter").value = "";
    return change({ filter: "" });
  }
  if (state.q) {
    $("search").value = "";
    return change({ q: "" });
  }
  if (state.zoom) return change({ zoom: "" }, true);
  if (state.span || state.thread) open({});
}

function listen() {
  window.addEventListener("hashchange", () => {
    state = readAddress();
    draw();
  });
  window.addEventListener("popstate", () => {
    state = readAddress();
    draw();
  });
  document.addEventListener("keydown", (event) => {
    const typing = document.activeElement instanceof HTMLInputElement && document.activeElement.type === "search";
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      $("search").focus();
      $("search").select();
    } else if (event.key === "Escape") {
      escape();
    } else if (event.key === "Enter" && document.activeElement === $("search")) {
      flame.canvas.focus({ preventScroll: true });
    }
  });
  $("search").addEventListener("input", () => change({ q: $("search").value }));
  $("filter").addEventListener("input", () => change({ filter: $("filter").value }));
  $("hide-runtime").addEventListener("change", () => change({ runtime: $("hide-runtime").checked ? "hidden" : "shown" }));
  $("hide-idle").addEventListener("change", () => change({ idle: $("hide-idle").checked ? "hidden" : "shown" }));
  $("flip").addEventListener("change", () => change({ root: $("flip").checked ? "bottom" : "top" }));
  $("show-all").addEventListener("click", () => open({}));
  $("copy").addEventListener("click", () => flame.copy());
}

function start() {
  data = JSON.parse($("data").textContent);
  model = decode(data);
  flame = new Flame($("chart"), $("tooltip"), {
    zoomed: zoomTo,
    focused: describeFocus,
    copied: () => ($("copy").textContent = "Copied"),
  });
  state = readAddress();
  makeKinds();
  spanTable = makeSpanTable();
  threadTable = makeThreadTable();
  $("content").hidden = false;
  drawHeader();
  drawNotes();
  listen();
  draw();
  document.body.dataset.ready = "yes";
}

try {
  start();
} catch (error) {
  $("failure").hidden = false;
  $("failure").textContent = "This file could not be shown: " + error.message;
}
