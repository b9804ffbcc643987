// One message beside its flame graph: how its time adds up, its trace, who made it wait, and links to where people look on.

function spanTitle(row) {
  return row.name || [row.operation, row.destination].filter(Boolean).join(" ") || "span";
}

function mainCause(row) {
  return row.cause + " · " + duration(row.share * sum(row.time)) + ", " + share(row.share, 1) + " of its time";
}

// Who ended most of the span's waits, and whom that one had waited for; each with the top of its stack.
function wokenBy(row) {
  if (!row.wokenBy.length) return null;
  const link = ({ words, time, frames }, at) => element("div", {}, (at ? "who waited for " : "") + words + " · " + duration(time),
    element("div", { class: "under", title: frames.join("\n") }, frames.map((frame) => fit(frame, 60) || frame.slice(0, 60)).join(" ← ")));
  return element("div", {}, ...row.wokenBy.map(link));
}

function messageFacts(row) {
  const took = row.wall >= 0 ? duration(row.wall) : duration(sum(row.time)) + " seen";
  const batch = row.batch > 1 ? plural(row.batch, "message") + " in one poll" + (row.headOfLine > 0 ? "; waited " + duration(row.headOfLine) + " for those before it" : "") : "";
  return [
    ["Took", took + (isNoted(row) ? ", " + row.kept : "")], ["Began", row.begin > 0 ? clock(row.begin) : ""], ["Span", row.id || "many, folded together"], ["Trace", row.trace],
    ["Destination", row.destination], ["Group", row.group], ["Operation", row.operation], ["Service", row.service], ["Threads", [...row.threads].join(", ")],
    ["Batch", batch], ["Waited most for", row.wait], ["Main cause", mainCause(row), true], ["Woken by", wokenBy(row), true], ["Look on", linksOut(row, ["span", "trace", "trace_itself", "destination", "service"]), true],
  ];
}

// wall = cpu + off_cpu + run_queue + suspended + ready + unknown, and what its children had.
function equationWords(row) {
  const shared = sum(row.shared);
  const parts = model.kinds.filter(({ at }) => row.time[at] > 0).map(({ word, at }) => duration(row.time[at]) + " " + word);
  if (row.children > 0) parts.push(duration(row.children) + " in spans below it");
  const besides = shared > 0 ? " Besides, " + duration(shared) + " are its share of what was done for its whole batch." : "";
  if (row.wall < 0) return "Nobody told how long it took; seen were " + (parts.join(" + ") || "nothing") + "." + besides;
  const known = sum(row.time) - row.time[UNKNOWN] + row.children;
  return duration(row.wall) + " = " + parts.join(" + ") + " · " + share(Math.min(known, row.wall), row.wall) + " accounted for." + besides;
}

const SPAN_KINDS = ["internal", "server", "client", "producer", "consumer"];
// Spans of one batch look alike: this many are drawn before the rest is told as a number.
const MOST_IN_TRACE = 40;

// The spans of its trace and those it is linked with, by time: who sent, received and processed, and its neighbours in the batch.
function drawTrace(row) {
  const told = relativesOf(row);
  if (told.length < 2) {
    $("trace").replaceChildren(element("p", { class: "empty" }, "No other span of its trace is known here. The agent knows them where tracers tell their finished spans: spanprof attach --otlp-listen, or --receive for services that embed spanprof."));
    return;
  }
  const shown = told.slice(0, MOST_IN_TRACE);
  const from = Math.min(...shown.map((span) => span.begin));
  const until = Math.max(...shown.map((span) => span.begin + span.wall / 1000));
  const depth = depths(shown);
  const line = (span) => {
    const kept = model.spans.find((each) => each.id === span.id && each.trace === span.trace);
    const name = span.name || span.operation || "span";
    const label = kept && kept !== row ? element("a", { href: addressOfMessage(kept) }, name) : element(kept === row ? "strong" : "span", {}, name);
    const place = element("span", { class: "place " + (SPAN_KINDS[span.kind] ?? "") + (span.failed ? " failed" : "") });
    place.style.marginLeft = (100 * (span.begin - from)) / Math.max(1, until - from) + "%";
    place.style.width = Math.max(0.4, (100 * span.wall) / 1000 / Math.max(1, until - from)) + "%";
    const title = element("div", { class: "called" }, label, span.trace === row.trace ? null : element("span", { class: "under" }, " another trace"));
    title.style.paddingLeft = 14 * Math.min(8, depth.get(span) ?? 0) + "px";
    return element("tr", { class: kept === row ? "current" : "" },
      element("th", { scope: "row" }, title, under([SPAN_KINDS[span.kind], span.service].filter(Boolean).join(" · "))),
      element("td", { class: "number" }, "+" + milliseconds(1000 * (span.begin - from))), element("td", { class: "number" }, milliseconds(span.wall)),
      element("td", { class: "lane" }, place), element("td", {}, span.failed ? element("span", { class: "mark failed" }, "failed") : ""));
  };
  const heads = [["Span", ""], ["Began, ms", "number"], ["Took, ms", "number"], ["When", ""], ["", ""]];
  const table = element("table", { class: "trace" }, element("caption", {}, "Spans of this message’s trace and those linked with it, by the word of their tracers" + (told.length > shown.length ? "; " + plural(told.length - shown.length, "more") + " not drawn" : "")),
    element("thead", {}, element("tr", {}, ...heads.map(([name, kind]) => element("th", { scope: "col", class: kind }, name)))), element("tbody", {}, ...shown.map(line)));
  $("trace").replaceChildren(element("div", { class: "scroller", tabindex: "0", role: "group", "aria-label": "The trace" }, table));
}

// Of the same trace, and linked in either direction with one that is.
function relativesOf(row) {
  const own = model.told.filter((span) => span.trace === row.trace);
  const ids = new Set(own.map((span) => span.id));
  const linked = new Set(own.flatMap((span) => span.links));
  const beside = model.told.filter((span) => span.trace !== row.trace && (linked.has(span.id) || span.links.some((id) => ids.has(id))));
  return [...own, ...beside].sort((a, b) => a.begin - b.begin || b.wall - a.wall);
}

function depths(spans) {
  const byId = new Map(spans.map((span) => [span.id, span]));
  const known = new Map();
  for (const span of spans) {
    let depth = 0;
    for (let above = byId.get(span.parent); above && depth < spans.length; above = byId.get(above.parent)) depth++;
    known.set(span, depth);
  }
  return known;
}
