// Messages of one kind: by destination, consumer group, operation and service; by the span's name where it names no destination.
// What a class's spans took, how many failed, and where their time went. Nothing here touches the document.

// Of finished spans that a tracer told, a class knows all; else it knows the spans that were seen.
function classesOf(model) {
  const classes = new Map();
  const of = (row) => {
    const key = classKey(row);
    if (!classes.has(key)) classes.set(key, newClass(key, row));
    return classes.get(key);
  };
  for (const row of model.spans) {
    const group = of(row);
    row.class = group.key;
    row.time.forEach((time, kind) => (group.time[kind] += time));
    row.shared.forEach((time, kind) => (group.time[kind] += time));
    if (!row.id) {
      group.folded = true;
      continue;
    }
    group.spans.push(row);
    if (isNoted(row)) group.slow++;
    if (row.kept === "failed") group.keptFailed++;
  }
  for (const traffic of model.traffic) Object.assign(of(traffic), { count: traffic.count, failed: traffic.failed, told: traffic.told, median: traffic.median, tail: traffic.tail });
  return [...classes.values()].map((group) => finishClass(model, group)).sort((a, b) => Number(b.isMessaging) - Number(a.isMessaging) || sum(b.time) - sum(a.time));
}

function classKey(row) {
  return [row.destination, row.group, row.operation, row.service, row.destination ? "" : row.name].map(encodeURIComponent).join("/");
}

function newClass(key, row) {
  return {
    key, destination: row.destination, group: row.group, operation: row.operation, service: row.service, name: row.destination ? "" : row.name,
    isMessaging: row.destination !== "" || row.operation !== "", spans: [], slow: 0, keptFailed: 0, folded: false, time: noTime(), count: null, failed: null, told: false, median: -1, tail: -1, points: [],
  };
}

function finishClass(model, group) {
  // Where nothing was folded away, those that were seen are all that were seen.
  if (group.count === null && !group.folded) [group.count, group.failed] = [group.spans.length, group.keptFailed];
  const seconds = model.seconds;
  group.perMinute = group.count === null || !(seconds > 0) ? null : (60 * group.count) / seconds;
  if (group.median < 0 && !group.folded && group.spans.length) {
    const took = group.spans.map(tookOf).sort((a, b) => a - b);
    group.median = took[Math.floor((took.length - 1) * 0.5)];
    group.tail = took[Math.floor((took.length - 1) * 0.99)];
  }
  group.text = [group.destination, group.group, group.operation, group.service, group.name].join("\n").toLowerCase();
  return group;
}

// Its wall time where its tracer told it; else what was seen of it, which is less.
function tookOf(row) {
  return row.wall >= 0 ? row.wall : sum(row.time);
}

// What people look for: slow and failed spans. Where nothing is marked, nothing is known of what is usual.
function isNoted(row) {
  return row.kept === "slow" || row.kept === "failed";
}

function classTitle(group) {
  if (!group.destination) return group.name || group.operation || "(no name)";
  return group.destination;
}
