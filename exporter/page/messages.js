// Messages: the list, with where each one's time went and what it waited for.

const NO_MESSAGE = "No message was seen here. Where messages flow, this list fills with those that were slow or failed.";
let messageTable;

function under(text, title) {
  return text ? element("div", { class: "under", title }, text) : null;
}

function messageColumns(longest, sortable) {
  const link = (row) => element("a", { href: addressOfMessage(row), "aria-label": "Show where the time of " + spanTitle(row) + " " + row.id + " went" }, row.id);
  const place = (row) => [row.operation, row.destination, row.group].filter((part) => part && !spanTitle(row).includes(part)).join(" · ");
  const took = (row) => [element("div", {}, milliseconds(tookOf(row))), row.wall < 0 ? under("seen", "nobody told how long it took: this is what was seen of it") : null];
  const mark = (row) => (isNoted(row) ? element("span", { class: "mark " + row.kept }, row.kept) : null);
  const columns = [
    { key: "id", title: "Message", value: (row) => row.id, cell: (row) => [element("div", {}, link(row)), under(row.trace, row.trace)] },
    { key: "name", title: "Name", value: spanTitle, cell: (row) => [element("div", {}, ...breakable(spanTitle(row)), " ", mark(row)), under(place(row)), under(row.service)] },
    { key: "when", title: "Began", about: "by the clock of its service, in universal time", number: true, value: (row) => row.begin, cell: (row) => clock(row.begin) },
    { key: "took", title: "Took, ms", about: "from its begin to its end, where its tracer told; else what was seen of it", number: true, value: tookOf, cell: took },
    { key: "split", title: "Where its time went", about: kindNames() + ", in the scale of the longest", cell: (row) => [bar(row.time, longest), under(mainKinds(row.time))] },
    { key: "wait", title: "Wait", about: "what was waited for the longest, by the values of the label wait", value: (row) => row.wait, cell: (row) => element("div", {}, row.wait) },
    { key: "cause", title: "Main cause", value: (row) => row.cause, cell: (row) => [element("div", { class: "verb " + KINDS[row.kind].key }, ...breakable(row.cause)), under(share(row.share, 1) + " of its time")] },
  ].filter((column) => column.key !== "when" || model.spans.some((row) => row.begin > 0));
  if (!sortable) for (const column of columns) delete column.value;
  return columns;
}

function makeMessageTables() {
  for (const row of model.spans) row.text = [row.id, row.trace, spanTitle(row), row.destination, row.group, row.operation, row.service, row.wait, row.cause, row.kept, ...row.threads].join("\n").toLowerCase();
  const longest = model.spans.reduce((most, row) => (row.id ? Math.max(most, tookOf(row)) : most), 1);
  const opened = (row) => openMessage(row);
  messageTable = new Table($("messages"), "Messages, the slow and failed ones first of all; choose one to see where its time went", messageColumns(longest, true), NO_MESSAGE, {
    sorted: (msort, descending) => change({ msort, morder: descending ? "down" : "up" }),
    opened,
  });
  slowestTable = new Table($("slowest"), "The messages that took longest; choose one to see where its time went", messageColumns(longest, false), NO_MESSAGE, { opened });
}

function isMessage(row) {
  return row.id !== "" && (row.destination !== "" || row.operation !== "" || !classes.some((group) => group.isMessaging));
}

function someNoted() {
  return model.spans.some((row) => isMessage(row) && isNoted(row));
}

// What the list begins with: slow and failed messages; all of them where nothing says which are slow.
function notedMessages() {
  const messages = model.spans.filter(isMessage);
  return someNoted() ? messages.filter(isNoted) : messages;
}

function fillChoice(select, values, current, all) {
  const known = ["", ...values];
  const options = known.map((value) => element("option", { value }, value === "" ? all : fit(value, 60) || value.slice(0, 60)));
  if (current && !known.includes(current)) options.push(element("option", { value: current }, current.slice(0, 60)));
  select.replaceChildren(...options);
  select.value = current;
}

function drawMessages() {
  const chosen = classes.find((group) => group.key === state.class);
  const normal = state.normal === "shown" || !someNoted();
  $("normal-switch").hidden = !someNoted();
  $("show-normal").checked = state.normal === "shown";
  const all = model.spans.filter(isMessage);
  const distinct = (of) => [...new Set(all.map(of).filter(Boolean))].sort();
  fillChoice($("filter-destination"), distinct((row) => row.destination), state.destination || (chosen?.destination ?? ""), "all");
  fillChoice($("filter-group"), distinct((row) => row.group), state.group || (chosen?.group ?? ""), "all");
  fillChoice($("filter-wait"), distinct((row) => row.wait), state.wait, "all");
  if (document.activeElement !== $("message-filter")) $("message-filter").value = state.find;
  const rows = all.filter((row) => (normal || isNoted(row)) && (!state.class || row.class === state.class) && (!state.destination || row.destination === state.destination) && (!state.group || row.group === state.group) && (!state.wait || row.wait === state.wait));
  const what = normal ? "Messages" : "Slow messages";
  $("messages-heading").textContent = chosen ? what + " of " + classTitle(chosen) + (chosen.operation ? ", " + chosen.operation : "") : what;
  const narrowed = state.class || state.destination || state.group || state.wait;
  messageTable.empty = !narrowed ? NO_MESSAGE
    : normal ? "No message here has this destination, group and cause." : "No slow or failed message here has this destination, group and cause. “Also normal ones” shows the others.";
  messageTable.show(rows, { sort: state.msort, descending: state.morder === "down", filter: state.find, current: state.span, idle: [state.class, state.destination, state.group, state.wait, normal].join("\n") });
}

// A time by the clock, without its day.
function clock(unixMicroseconds) {
  return unixMicroseconds > 0 ? new Date(unixMicroseconds / 1000).toISOString().slice(11, 23) : "";
}
