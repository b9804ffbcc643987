// Slow messages beside normal ones, or now beside before: what is more, what is less, per message or per second.

let waitTable, functionTable, compared;

function differenceColumns(unit) {
  const number = (key, title, about, value) => ({ key, title, about, number: true, value, cell: (row) => signedCell(key, value(row)) });
  return [
    number("time", compared.subjectWords + ", ms", "per " + unit, (row) => row.time ?? row.total),
    number("base", compared.baselineWords + ", ms", "per " + unit, (row) => row.base),
    number("more", "More, ms", "the difference", (row) => row.more),
  ];
}

function signedCell(key, value) {
  if (key !== "more") return milliseconds(value);
  const text = (value > 0 ? "+" : value < 0 ? "−" : "") + milliseconds(Math.abs(value));
  return element("div", { class: value > 0 ? "more-time" : "less-time" }, text);
}

// The classes that have both sides.
function comparable() {
  return classes.filter((group) => group.spans.some(isNoted) && group.spans.some((row) => !isNoted(row)));
}

function compareKey() {
  return [state.class, state.base, state.runtime, baseModel ? baseModel.start + " " + baseModel.seconds : ""].join("\n");
}

function drawCompare() {
  const choices = comparable();
  const group = choices.find((each) => each.key === state.class) ?? choices[0];
  const select = $("compare-class");
  select.replaceChildren(...choices.map((each) => element("option", { value: each.key }, [classTitle(each), each.operation, each.group, each.service].filter(Boolean).join(" · "))));
  select.value = group ? group.key : "";
  select.parentElement.hidden = choices.length === 0 || state.base !== "normal";
  fillModes();
  const sides = state.base === "normal" ? slowBesideNormal(group) : nowBesideBefore();
  const there = Boolean(sides);
  for (const id of ["compare-waits", "compare-functions"]) $(id).hidden = !there;
  $("functions-heading").parentElement.parentElement.hidden = !there;
  $("flame-section").hidden = !there;
  if (!there) {
    $("compare-words").textContent = state.base === "normal"
      ? "Nothing to compare yet: it takes slow or failed messages and normal ones of the same destination, group and operation."
      : baseFailure || "The time before is being loaded.";
    return;
  }
  const key = compareKey() + sides.key;
  if (!compared || compared.key !== key) {
    compared = { key, ...sides, ...differenceTree(sides.subject, sides.baseline) };
    compared.functions = functionDifferences(sides.subject, sides.baseline);
    compared.waits = waitDifferences(sides.subject, sides.baseline);
    makeCompareTables();
  }
  drawCompared();
}

function fillModes() {
  const modes = [["normal", "slow messages with normal ones"], ...(data.live ? [["before", "this time with as long before it"], ["other", "this time with another time"]] : [])];
  $("compare-with").hidden = modes.length < 2;
  $("compare-mode").replaceChildren(...modes.map(([value, words]) => element("option", { value }, words)));
  $("compare-range").hidden = state.base !== "other";
  if (state.base === "other") {
    const [from, until] = baseRange();
    for (const [id, time] of [["base-from", from], ["base-to", until]]) if (document.activeElement !== $(id)) $(id).value = new Date(time).toISOString().slice(0, 19);
  }
  $("compare-mode").value = modes.some(([value]) => value === state.base) ? state.base : "normal";
}

function slowBesideNormal(group) {
  if (!group) return null;
  const side = (wanted) => {
    const among = new Uint8Array(model.spans.length);
    const rows = group.spans.filter(wanted);
    for (const row of rows) among[row.at] = 1;
    return { model, among, amount: rows.length, tree: fold(model, { ...everything(), among, hideRuntime: state.runtime === "hidden" }) };
  };
  const subject = side(isNoted), baseline = side((row) => !isNoted(row));
  return { key: group.key, subject, baseline, unit: "message", subjectWords: "Slow", baselineWords: "Normal", title: "one slow message",
    words: "One slow or failed message of " + classTitle(group) + " took " + duration(subject.tree.total[0] / subject.amount) + " of the time seen, a normal one " + duration(baseline.tree.total[0] / baseline.amount) + ": means of " + plural(subject.amount, "slow or failed message") + " and " + plural(baseline.amount, "normal one") + "." };
}

function nowBesideBefore() {
  if (!baseModel) return null;
  const choice = { ...everything(), hideRuntime: state.runtime === "hidden", hideIdle: state.idle === "hidden" };
  const side = (of) => ({ model: of, among: null, amount: Math.max(of.seconds, 1e-9), tree: fold(of, choice) });
  const subject = side(model), baseline = side(baseModel);
  return { key: String(baseModel.start), subject, baseline, unit: "second", subjectWords: "This time", baselineWords: state.base === "other" ? "Other time" : "Before", title: "one second",
    words: "Of each second, " + duration(subject.tree.total[0] / subject.amount) + " were seen in this time and " + duration(baseline.tree.total[0] / baseline.amount) + " in the other, over all threads" + (choice.hideIdle ? " that were not idle" : "") + "." };
}

function everything() {
  return { kinds: ALL_KINDS, span: -1, thread: -1, hideRuntime: false, hideIdle: false };
}

function makeCompareTables() {
  for (const id of ["compare-waits", "compare-functions"]) $(id).replaceChildren();
  const what = (row) => [element("div", { class: "verb " + KINDS[row.kind].key }, row.name)];
  waitTable = new Table($("compare-waits"), "Time per " + compared.unit + ", by what was done or waited for", [
    { key: "name", title: "Running, or waiting for", value: (row) => row.name, cell: what }, ...differenceColumns(compared.unit),
  ], "Nothing was seen on either side.", { sorted: (wsort, descending) => change({ wsort, worder: descending ? "down" : "up" }), opened: () => {} });
  const own = { key: "own", title: "More itself, ms", about: "the difference at the function’s own lines", number: true, value: (row) => row.moreOwn, cell: (row) => signedCell("more", row.moreOwn) };
  functionTable = new Table($("compare-functions"), "Time per " + compared.unit + " by function, with what it called; choose one to find it in the flame graph", [
    { key: "function", title: "Function", value: (row) => row.name, cell: (row) => [element("div", {}, ...breakable(row.name)), under(row.file)] }, ...differenceColumns(compared.unit), own,
  ], "No function was seen on either side.", { sorted: (fsort, descending) => change({ fsort, forder: descending ? "down" : "up" }), opened: (row) => change({ q: row.name }) });
}

function drawCompared() {
  $("compare-heading").textContent = compared.unit === "message" ? "What slow messages do that normal ones don’t" : "What is otherwise than in the other time";
  $("compare-words").textContent = compared.words;
  waitTable.show(compared.waits, { sort: state.wsort, descending: state.worder === "down", filter: "", current: "", idle: "" });
  functionTable.show(compared.functions, { sort: state.fsort, descending: state.forder === "down", filter: "", current: "", idle: "" });
  $("flame-heading").textContent = "Where " + compared.title + " spends its time: red is more than on the other side, blue is less";
  tree = compared.tree;
  treeKey = undefined;
  drawTree(compared.model, compared.title, "Nothing was seen of these messages.");
}
