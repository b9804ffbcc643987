// The flame graph with its controls: of one message, of one thread, of everything, or of a difference.

const HINT = "Click a frame to zoom in, one of its callers to zoom out. Keys: / search, arrows move, Enter zoom, C copy the stack, Esc back.";

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

// All the time that is meant, and the idle threads' part of it; a span is never idle.
function timeOf(choice) {
  if (choice.span >= 0) {
    const { time, shared } = model.spans[choice.span];
    return { all: time.map((each, kind) => each + shared[kind]), idle: noTime() };
  }
  if (choice.thread >= 0) return { all: model.threads[choice.thread].time, idle: model.threads[choice.thread].idle };
  return { all: model.total, idle: model.idleTotal };
}

function shownTime(row) {
  return row.idle && state.idle === "hidden" ? without(row.time, row.idle) : row.time;
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
  const back = $("show-all");
  back.hidden = !(state.span || state.thread);
  back.textContent = state.span && viewOf(state) === "message" ? "← Back to the messages" : "← Back to everything";
  $("selection").hidden = !(span || thread);
  $("equation").hidden = !span;
  if (span) {
    $("flame-heading").textContent = "Where the time of “" + spanTitle(span) + "” went";
    facts($("selection"), messageFacts(span));
    $("equation").textContent = equationWords(span);
  } else if (thread) {
    $("flame-heading").textContent = "Where the time of thread “" + threadTitle(thread) + "” went";
    facts($("selection"), [["Thread", thread.id >= 0 ? String(thread.id) : ""], ["Process", thread.pid >= 0 ? String(thread.pid) : ""], ["Service", thread.service]]);
  } else {
    $("flame-heading").textContent = state.span ? "Here is no span " + state.span : state.thread ? "Here is no thread " + state.thread : "Where the time went";
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
  const inverted = state.invert === "yes";
  const key = JSON.stringify(choice) + inverted;
  $("invert").checked = inverted;
  const unknown = (state.span !== "" && choice.span < 0) || (state.thread !== "" && choice.thread < 0);
  if (key !== treeKey) {
    tree = fold(model, choice);
    if (inverted) tree = invert(model, tree);
    treeKey = key;
  }
  const title = choice.span >= 0 ? "this span" : choice.thread >= 0 ? "this thread" : choice.hideIdle && sum(model.idleTotal) > 0 ? "everything but idle threads" : "everything";
  drawTree(model, title, unknown ? "The link names something that is not known here: it may belong to another time, or to another recording." : emptyWords(choice), unknown);
}

// Draws `tree`, whose functions are those of `of`.
function drawTree(of, title, emptyWords, unknown = false) {
  const flip = state.root === "bottom";
  const empty = unknown || tree.total[0] <= 0;
  $("chart").hidden = empty;
  $("flame-empty").hidden = !empty;
  $("flame-empty").textContent = emptyWords;
  $("hide-runtime").checked = state.runtime === "hidden";
  $("hide-idle").checked = state.idle === "hidden";
  $("idle-switch").hidden = sum(model.idleTotal) <= 0;
  $("flip").checked = flip;
  if (document.activeElement !== $("search")) $("search").value = state.q;
  const zoom = zoomNode(tree, state.zoom);
  if (flame.view.tree !== tree || flame.view.flip !== flip) {
    flame.show(of, tree, title, zoom, flip);
    describeFocus(-1);
  } else if (flame.view.zoom !== zoom) {
    flame.setZoom(zoom);
  }
  drawMatches(of, zoom, empty);
  drawCrumbs(of, zoom, empty);
  drawExports(empty);
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

function drawMatches(of, zoom, empty) {
  if (state.q === "" || empty) {
    $("matches").textContent = "";
    flame.setMatches(null);
    return;
  }
  const found = search(of, tree, state.q, zoom);
  flame.setMatches(found.matched);
  const hidden = state.runtime === "hidden" && of.called && of.called.some((id) => found.matched[id] && isHidden(of, id));
  $("matches").textContent = found.frames === 0
    ? "no match" + (hidden ? " but in hidden runtime frames" : "")
    : plural(found.functions, "function") + " in " + plural(found.frames, "frame") + " · " + share(found.time, tree.total[zoom]) + " · " + duration(found.time);
}

function drawCrumbs(of, zoom, empty) {
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
  const shown = path.slice(-3).map((node) => crumb(node, shortName(of, tree.called[node])));
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
  $("detail").replaceChildren(element("strong", {}, fit(nameOf(node), 160) || nameOf(node).slice(0, 160)), " — " + duration(tree.total[node]) + " (" + share(tree.total[node], tree.total[0]) + "), self " + duration(tree.self[node]) + (where ? ", " + where : ""));
}

function nameOf(node) {
  return flame.view.model.names[tree.called[node]];
}

// Files of what is shown, where a server can make them.
function drawExports(empty) {
  const box = $("exports");
  box.hidden = empty || !data.live || viewOf(state) === "compare";
  if (box.hidden) return;
  const query = new URLSearchParams({ ...(isFixed() ? { from: state.from, to: state.to } : frozen()) });
  if (state.span) query.set("span", state.span);
  if (state.kind !== "all") query.set("type", state.kind);
  const link = (format, words) => element("a", { href: "export/" + format + "?" + query, download: "" }, words);
  box.replaceChildren("Download as ", link("pprof", "pprof"), ", ", link("folded", "folded stacks"), ", ", link("speedscope", "speedscope"), ", ", link("svg", "SVG"));
}
