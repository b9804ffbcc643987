// The front: destinations, and the slowest messages below them.

const SLOWEST = 8;
let destinationTable, slowestTable;

function makeDestinationTable() {
  const most = (group) => sum(group.time);
  const named = (group) => [element("div", {}, element("a", { href: addressOfView({ view: "messages", class: group.key }), title: "Show its slow messages" }, ...breakable(classTitle(group)))), under([group.operation, group.group && "group " + group.group, group.service].filter(Boolean).join(" · ")), under(linksOut(group, ["destination"]))];
  const rate = (group) => (group.perMinute === null ? [element("div", { class: "faint", title: "spans that kept no ids were folded together, uncounted: start the agent with finished spans (--otlp-listen, --receive) to know how many there are" }, "not counted")] : [element("div", {}, grouped(group.perMinute, group.perMinute < 10 ? 1 : 0)), group.told ? null : under("seen", "no tracer told how many there were: these were seen on threads, and short ones may be missing"), sparkline(group.points)]);
  const time = (value) => (value < 0 ? "–" : milliseconds(value));
  const failed = (group) => (group.failed === null ? "–" : group.failed === 0 ? "0" : [element("div", { class: "bad" }, grouped(group.failed, 0)), group.count ? under(share(group.failed, group.count)) : null]);
  return new Table($("destinations"), "Destinations by the time that was seen; choose one to see its slow messages", [
    { key: "destination", title: "Destination", value: classTitle, cell: named },
    { key: "rate", title: "Per minute", about: "messages, or spans, per minute", number: true, value: (group) => group.perMinute ?? -1, cell: rate },
    { key: "failed", title: "Errors", about: "spans whose status was an error", number: true, value: (group) => group.failed ?? -1, cell: failed },
    { key: "median", title: "p50, ms", about: "half of them took no longer: by their tracers’ word, or else by the time that was seen", number: true, value: (group) => group.median, cell: (group) => time(group.median) },
    { key: "tail", title: "p99, ms", about: "99 of 100 took no longer", number: true, value: (group) => group.tail, cell: (group) => time(group.tail) },
    { key: "slow", title: "Slow", about: "slow and failed ones that kept their ids", number: true, value: (group) => group.slow, cell: (group) => grouped(group.slow, 0) },
    { key: "seen", title: "Seen, ms", about: kindNames() + " together", number: true, value: most, cell: (group) => milliseconds(most(group)) },
    { key: "share", title: "Where its time went", about: kindNames(), cell: (group) => [bar(group.time, most(group)), under(mainKinds(group.time))] },
  ], "No thread published a span while this was recorded. Time is told by thread and function under “Everything”. Add the spanprof crate, or another publisher of OpenTelemetry thread context, to the service to see its messages here.", {
    sorted: (classes, descending) => change({ classes, classorder: descending ? "down" : "up" }),
    opened: (group) => go({ view: "messages", class: group.key }),
  });
}

// The two largest parts in words: a colour alone tells nothing to whoever can't see it.
function mainKinds(time) {
  const whole = sum(time);
  const parts = KINDS.map((kind, at) => ({ word: kind.word, part: time[at] })).filter((each) => each.part > 0);
  return parts.sort((a, b) => b.part - a.part).slice(0, 2).map((each) => each.word + " " + share(each.part, whole)).join(", ");
}

// Counts over time as small bars, the latest at the right.
function sparkline(points) {
  if (points.length < 2) return null;
  const most = Math.max(...points.map((point) => point.count), 1);
  const box = element("span", { class: "spark", role: "img", "aria-label": "per window: " + points.map((point) => point.count).join(", ") });
  for (const point of points.slice(-30)) {
    const part = element("span", { class: point.failed > 0 ? "bad" : "" });
    part.style.height = Math.max(4, (100 * point.count) / most) + "%";
    box.append(part);
  }
  return box;
}

function drawOverview() {
  const others = classes.filter((group) => !group.isMessaging);
  const messaging = classes.filter((group) => group.isMessaging);
  const all = state.others === "shown" || messaging.length === 0;
  $("others-switch").hidden = others.length === 0 || messaging.length === 0;
  $("show-others").checked = state.others === "shown";
  destinationTable.show(all ? classes : messaging, { sort: state.classes || "seen", descending: state.classorder === "down", filter: "", current: "", idle: all ? "all" : "some" });
  const noted = notedMessages();
  const rows = noted.slice().sort((a, b) => tookOf(b) - tookOf(a)).slice(0, SLOWEST);
  $("slowest-heading").textContent = someNoted() ? "Slowest messages" : "Longest messages";
  $("all-slow").textContent = noted.length > rows.length ? "All " + grouped(noted.length, 0) : "All of them";
  $("all-slow").href = addressOfView({ view: "messages" });
  $("all-slow").hidden = noted.length === 0;
  slowestTable.show(rows, { sort: "took", descending: true, filter: "", current: "", idle: "" });
}
