// What the profiler lost, how it captures and why so, and what it costs itself.

function drawHealth() {
  const told = health ?? { losses: data.losses.map(([cause, amount, unit]) => ({ cause, amount, unit })) };
  const parts = [];
  const lines = [];
  if (told.version) lines.push(["Version", told.version]);
  if (told.backend) lines.push(["Captures by", told.backend.name + (told.backend.why ? ": " + readable(told.backend.why) : "")]);
  if (told.since > 0) lines.push(["Running since", new Date(told.since).toISOString().replace("T", " ").slice(0, 19) + " UTC"]);
  if (told.cost) {
    const share = told.cost.share_of_one_cpu;
    lines.push(["Its own CPU", grouped(told.cost.cpu_seconds, 2) + " s" + (share === null || share === undefined ? "" : ", " + grouped(100 * share, 2) + " % of one CPU")]);
    lines.push(["Its own memory", told.cost.resident_bytes > 0 ? grouped(told.cost.resident_bytes / 1e6, 1) + " MB" : "unknown"]);
  }
  for (const sink of told.sinks ?? []) lines.push(["To " + readable(sink.name), plural(sink.arrived, "window") + " arrived, " + grouped(sink.lost, 0) + " lost"]);
  for (const line of [data.source, ...(data.comments ?? [])].filter(Boolean)) lines.push(["Recorded by", readable(line)]);
  const list = element("dl", { class: "health" });
  for (const [name, value] of lines) list.append(element("dt", {}, name), element("dd", {}, value));
  if (lines.length) parts.push(list);
  parts.push(simpleTable("Lost, cut or left out, by cause", ["Cause", "How much"], told.losses.map((loss) => [readable(loss.cause), loss.unit === "nanoseconds" ? duration(loss.amount) : grouped(loss.amount, 0)]), "Nothing was lost, cut or left out.", (at) => told.losses[at].amount > 0));
  if (told.targets) parts.push(simpleTable("Processes that are profiled", ["Process", "Service", "Executable", "Threads", "Publishes spans"], told.targets.map((target) => [String(target.pid), readable(target.service ?? ""), readable(target.executable ?? ""), grouped(target.threads, 0), target.publishes_context ? "yes" : "no"]), "No process is profiled now."));
  $("health").replaceChildren(...parts);
}

function simpleTable(caption, heads, rows, empty, isBad = () => false) {
  if (!rows.length) return element("p", { class: "empty" }, empty);
  const cells = (row) => row.map((text, at) => element(at === 0 ? "th" : "td", at === 0 ? { scope: "row" } : {}, text));
  return element("div", { class: "scroller" }, element("table", { class: "plain" }, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map((row, at) => element("tr", { class: isBad(at) ? "some" : "" }, ...cells(row))))));
}
