// The tables of everything: spans and threads.

let spanTable, threadTable;

function drawTables() {
  if (document.activeElement !== $("filter")) $("filter").value = state.filter;
  spanTable.show(model.spans, { sort: state.sort, descending: state.order === "down", filter: state.filter, current: state.span, idle: "" });
  threadTable.show(model.threads, { sort: state.threads, descending: state.threadorder === "down", filter: "", current: state.thread, idle: state.idle });
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
  const names = model.kinds.map((kind) => kind.word);
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
  const link = (row) => element("a", { href: addressOfMessage(row), title: row.id || "spans whose samples kept no id, folded together by name and destination", "aria-label": "Show span " + (row.id || "group " + spanTitle(row)) + " alone" }, row.id || "folded");
  const place = (row) => [row.operation, row.destination, row.group].filter((part) => part && !spanTitle(row).includes(part)).join(" · ");
  const threads = (row) => [...row.threads].slice(0, 2).join(", ") + (row.threads.size > 2 ? " and " + (row.threads.size - 2) + " more" : "");
  const most = largest(model.spans);
  return new Table($("spans"), "Spans by the time that was seen in them; choose one to see its flame graph alone", [
    { key: "id", title: "Span, trace", value: (row) => row.id, cell: (row) => [element("div", {}, link(row)), under(row.trace, row.trace)] },
    { key: "name", title: "Name", value: spanTitle, cell: (row) => [element("div", {}, ...breakable(spanTitle(row))), under(place(row))] },
    { key: "service", title: "Service, threads", value: (row) => row.service, cell: (row) => [element("div", {}, row.service), under(threads(row))] },
    ...timeColumns(most),
    { key: "wait", title: "Wait", about: "what was waited for the longest, by the values of the label wait", value: (row) => row.wait, cell: (row) => element("div", {}, row.wait) },
    { key: "cause", title: "Main cause", value: (row) => row.cause, cell: (row) => [element("div", { class: "verb " + KINDS[row.kind].key }, ...breakable(row.cause)), under(share(row.share, 1) + " of its time")] },
  ], "No thread published a span while this was recorded, so time can be told by thread and function only. Add the spanprof crate (spanprof::install()) or another publisher of OpenTelemetry thread context to the service to see its time by span.", {
    sorted: (sort, descending) => change({ sort, order: descending ? "down" : "up" }),
    opened: openMessage,
  });
}

function makeThreadTable() {
  for (const row of model.threads) row.text = "";
  const most = largest(model.threads);
  const idle = { key: "idle", title: "Idle, ms", about: "waiting without a span, or since before the recording began; in the other columns only while idle threads are shown", number: true, value: (row) => sum(row.idle), cell: (row) => milliseconds(sum(row.idle)) };
  const link = (row) => element("a", { href: addressOfView({ view: "all", thread: row.key }), "aria-label": "Show thread " + threadTitle(row) + " alone" }, threadTitle(row));
  return new Table($("threads"), "Threads by the time that was seen; choose one to see its flame graph alone", [
    { key: "thread", title: "Thread", value: threadTitle, cell: (row) => element("div", {}, link(row)) },
    { key: "tid", title: "Id", number: true, value: (row) => row.id, cell: (row) => (row.id >= 0 ? String(row.id) : "") },
    { key: "pid", title: "Process", number: true, value: (row) => row.pid, cell: (row) => (row.pid >= 0 ? String(row.pid) : "") },
    { key: "of", title: "Service", value: (row) => row.service, cell: (row) => element("div", {}, row.service) },
    ...timeColumns(most),
    ...(sum(model.idleTotal) > 0 ? [idle] : []),
  ], "No thread was seen.", {
    sorted: (threads, descending) => change({ threads, threadorder: descending ? "down" : "up" }),
    opened: (row) => go({ view: "all", thread: row.key }),
  });
}

