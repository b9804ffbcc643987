// The page: one state, shown. Every change goes through `change`, which writes the address and draws.

const $ = (id) => document.getElementById(id);
// One message is a view of its own, which the lists lead to.
const VIEWS = [
  { key: "overview", name: "Destinations", heading: "destinations-heading" },
  { key: "messages", name: "Slow messages", heading: "messages-heading" },
  { key: "message", name: "", heading: "flame-heading" },
  { key: "all", name: "Everything", heading: "flame-heading" },
  { key: "compare", name: "Compare", heading: "compare-heading" },
  { key: "health", name: "Health", heading: "health-heading" },
];
let model, data, classes, flame, state, tree, treeKey;

function change(patch, step = false) {
  state = { ...state, ...patch };
  writeAddress(state, step);
  draw();
  if (data.live) load();
}

// Another view, from its beginning, of the same time.
function go(patch) {
  const lasting = Object.fromEntries(LASTING.map((name) => [name, state[name]]));
  change({ ...BEGINNING, ...lasting, ...patch }, true);
  const heading = $(VIEWS.find((view) => view.key === viewOf(state)).heading);
  window.scrollTo(0, 0);
  heading.focus({ preventScroll: true });
}

function openMessage(row) {
  go({ view: "", span: row.key, ...frozen() });
}

function addressOfMessage(row) {
  return addressOfView({ span: row.key, ...frozen() });
}

function draw() {
  const view = viewOf(state);
  drawViews(view);
  drawRange();
  for (const section of document.querySelectorAll("main [data-views]")) section.hidden = !section.dataset.views.split(" ").includes(view);
  $("kinds").hidden = $("invert-switch").hidden = view === "compare";
  if (view === "compare") for (const id of ["selection", "show-all", "equation"]) $(id).hidden = true;
  $("notes").hidden = view !== "all";
  $("facts").hidden = !["overview", "all", "health"].includes(view);
  if (view === "overview") drawOverview();
  else if (view === "messages") drawMessages();
  else if (view === "compare") drawCompare();
  else if (view === "health") drawHealth();
  else drawProfile(view);
  if (view === "compare" && state.base !== "normal" && data.live) loadBase();
}

function drawProfile(view) {
  const choice = chosen();
  drawSelection(choice);
  drawKinds(choice);
  drawFlame(choice);
  if (view === "all") drawTables();
  const span = choice.span >= 0 ? model.spans[choice.span] : null;
  $("trace-section").hidden = view !== "message" || !span;
  if (view === "message" && span) drawTrace(span);
}

function drawViews(current) {
  const link = ({ key, name }) => element("a", { href: addressOfView({ view: key }), "aria-current": key === current || (key === "messages" && current === "message") ? "page" : null }, name);
  $("views").replaceChildren(...VIEWS.filter((view) => view.name).map(link));
}

function facts(list, entries) {
  list.replaceChildren(...entries.filter((entry) => entry[1]).map(([name, value, wide]) => element("div", { class: wide ? "wide" : "" }, element("dt", {}, name), element("dd", {}, value))));
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
  const search = document.activeElement;
  if (search === $("filter") && state.filter) {
    search.value = "";
    return change({ filter: "" });
  }
  if (search === $("message-filter") && state.find) {
    search.value = "";
    return change({ find: "" });
  }
  if (state.q) {
    $("search").value = "";
    return change({ q: "" });
  }
  if (state.zoom) return change({ zoom: "" }, true);
  if (state.span || state.thread) leave();
}

// From one message back to the list of them, from one thread back to everything.
function leave() {
  go(state.span && viewOf(state) === "message" ? { view: "messages" } : { view: "all" });
}

function follow() {
  state = readAddress();
  if (!model) return;
  draw();
  if (data.live) load();
}

function listen() {
  window.addEventListener("hashchange", follow);
  window.addEventListener("popstate", follow);
  document.addEventListener("keydown", (event) => {
    const typing = ["search", "text"].includes(document.activeElement?.type);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      const box = viewOf(state) === "messages" ? $("message-filter") : $("search");
      box.focus();
      box.select();
    } else if (event.key === "Escape") {
      escape();
    } else if (event.key === "Enter" && document.activeElement === $("search")) {
      flame.canvas.focus({ preventScroll: true });
    }
  });
  const typed = (id, name) => $(id).addEventListener("input", () => change({ [name]: $(id).value }));
  const ticked = (id, name, on, off) => $(id).addEventListener("change", () => change({ [name]: $(id).checked ? on : off }));
  const selected = (id, patch) => $(id).addEventListener("change", () => change(patch($(id).value), true));
  typed("search", "q");
  typed("filter", "filter");
  typed("message-filter", "find");
  ticked("hide-runtime", "runtime", "hidden", "shown");
  ticked("hide-idle", "idle", "hidden", "shown");
  ticked("flip", "root", "bottom", "top");
  $("invert").addEventListener("change", () => change({ invert: $("invert").checked ? "yes" : "no", zoom: "" }));
  ticked("show-normal", "normal", "shown", "hidden");
  ticked("show-others", "others", "shown", "hidden");
  selected("filter-destination", (destination) => ({ destination, class: "" }));
  selected("filter-group", (group) => ({ group, class: "" }));
  selected("filter-wait", (wait) => ({ wait }));
  selected("compare-class", (key) => ({ class: key, zoom: "", q: "" }));
  selected("compare-mode", (base) => ({ base, basefrom: "", baseto: "", zoom: "", q: "" }));
  const unix = (id) => String(Date.parse($(id).value + "Z") || "");
  for (const id of ["base-from", "base-to"]) selected(id, () => ({ basefrom: unix("base-from"), baseto: unix("base-to"), zoom: "" }));
  $("show-all").addEventListener("click", leave);
  $("copy").addEventListener("click", () => flame.copy());
}

// Shows other data: all that is made of it is made anew.
function use(fresh) {
  data = fresh;
  model = decode(data);
  classes = classesOf(model);
  attachPoints();
  treeKey = tree = compared = undefined;
  for (const id of ["destinations", "slowest", "messages", "spans", "threads"]) $(id).replaceChildren();
  makeKinds();
  destinationTable = makeDestinationTable();
  makeMessageTables();
  spanTable = makeSpanTable();
  threadTable = makeThreadTable();
  drawHeader();
  drawNotes();
  $("content").hidden = false;
}

// How many came per window, where a server tells of more than one. It tells spans of several names apart.
function attachPoints() {
  if (!windows) return;
  const until = model.start + 1000 * model.seconds;
  for (const series of windows.series) {
    const group = classes.find((each) => each.key === classKey(series));
    if (!group) continue;
    for (const [from, count, failed] of series.points) {
      if (from < model.start || from >= until) continue;
      const point = group.points.find((each) => each.from === from);
      if (point) [point.count, point.failed] = [point.count + count, point.failed + failed];
      else group.points.push({ from, count, failed });
    }
    group.points.sort((one, other) => one.from - other.from);
  }
}

function start() {
  data = JSON.parse($("data").textContent);
  flame = new Flame($("chart"), $("tooltip"), {
    zoomed: zoomTo,
    focused: describeFocus,
    copied: () => ($("copy").textContent = "Copied"),
  });
  state = readAddress();
  listen();
  if (data.live) {
    load(true);
    keepUp();
    return;
  }
  use(data);
  draw();
  document.body.dataset.ready = "yes";
  performance.mark("drawn");
}

// The heading is on the screen before the data is read, which takes a while where there is much.
requestAnimationFrame(() => setTimeout(() => {
  try {
    start();
  } catch (error) {
    $("failure").hidden = false;
    $("failure").textContent = "This page could not be shown: " + error.message;
    document.body.dataset.ready = "failed";
  }
}));
