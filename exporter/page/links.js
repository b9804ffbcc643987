// Links to where else a message or a destination can be looked at. A template has places: `{name}` for a value, and words after
// the name that change it before it is percent-encoded; the exporter's `links` fills the same templates in the same way.

const LINK_ABOUT = { span: ", this span", trace: ", this span in all services", trace_itself: ", its trace", destination: ", its destination", service: ", its service" };

// `row` is a message, or a class of messages, which has no ids.
function linksOut(row, abouts) {
  const made = (data.links ?? []).filter((link) => abouts.includes(link.about)).map((link) => ({ name: link.title + (abouts.length > 1 ? LINK_ABOUT[link.about] : ""), href: filledLink(link, row) })).filter((link) => link.href);
  if (!made.length) return null;
  return element("span", { class: "links" }, ...made.map(({ name, href }) => element("a", { href, target: "_blank", rel: "noopener noreferrer" }, name)));
}

// None where the row lacks what the link is about.
function filledLink(link, row) {
  const needed = { span: [row.id], trace: [row.id], trace_itself: [row.trace], destination: [row.service, row.destination], service: [row.service] }[link.about];
  if (!needed || needed.some((value) => !value) || !/^https?:\/\//.test(link.url)) return null;
  const begin = row.begin > 0 ? row.begin / 1000 : model.start;
  const end = Math.max(begin + Math.max(row.wall ?? 0, 0) / 1e6, model.start + 1000 * model.seconds);
  const values = {
    span_id: row.id, trace_id: row.trace, service: row.service, destination: row.destination, type: profileType(KINDS[row.kind ?? mostTime(row.time)].key),
    from: String(Math.floor(Math.min(begin, model.start))), to: String(Math.ceil(end)),
  };
  return link.url.replace(/\{([^}]*)\}/g, (_, place) => {
    const [name, ...words] = place.split(" ");
    return encodeURIComponent(words.reduce((value, word) => (LINK_WORDS[word] ?? ((same) => same))(value), values[name] ?? ""));
  });
}

const LINK_WORDS = {
  quoted: (value) => JSON.stringify(value).slice(1, -1),
  filter: (value) => value.replaceAll("|", "__gfp__").replaceAll(",", "__gfc__").replaceAll("#", "__gfh__"),
};

function profileType(kind) {
  return kind === "cpu" ? "process_cpu:cpu:nanoseconds:cpu:nanoseconds" : kind + ":" + kind + ":nanoseconds::";
}

function mostTime(time) {
  return time.indexOf(Math.max(...time));
}
