// A table that sorts, filters and stays light: rows are made in portions, however many there are.

const PORTION = 500;

class Table {
  // `columns`: { key, title, about, number, value(row), cell(row) }. `events`: sorted(key, descending),
  // opened(row).
  constructor(box, caption, columns, empty, events) {
    this.columns = columns;
    this.empty = empty;
    this.events = events;
    this.rows = [];
    this.shown = [];
    this.limit = PORTION;
    this.current = "";
    this.heads = columns.map((column) => this.head(column));
    this.body = element("tbody");
    this.caption = element("caption", {}, caption);
    this.table = element("table", {}, this.caption, element("thead", {}, element("tr", {}, ...this.heads)), this.body);
    this.status = element("p", { class: "status", "aria-live": "polite" });
    this.more = element("button", { type: "button", class: "button" }, "Show more");
    this.more.addEventListener("click", () => {
      this.limit += PORTION;
      this.fill();
    });
    this.message = element("p", { class: "empty" });
    this.scroller = element("div", { class: "scroller", tabindex: "0", role: "group", "aria-label": caption }, this.table);
    box.append(this.scroller, this.message, element("div", { class: "more" }, this.status, this.more));
    this.body.addEventListener("click", (event) => this.clicked(event));
  }

  head(column) {
    const cell = element("th", { scope: "col", class: column.number ? "number" : "", title: column.about });
    if (!column.value) {
      cell.append(column.title);
      return cell;
    }
    const button = element("button", { type: "button" }, column.title);
    button.addEventListener("click", () => {
      const same = this.sortKey === column.key;
      this.events.sorted(column.key, same ? !this.descending : Boolean(column.number));
    });
    cell.append(button);
    return cell;
  }

  // `idle`: whether idle threads' time is in the rows' values.
  show(rows, { sort, descending, filter, current, idle }) {
    if (rows === this.rows && sort === this.sortKey && descending === this.descending && filter === this.filter && idle === this.idle) {
      this.mark(current);
      return;
    }
    if (filter !== this.filter) this.limit = PORTION;
    Object.assign(this, { rows, sortKey: sort, descending, filter, current, idle });
    this.columns.forEach((column, at) => {
      if (!column.value) return;
      const state = column.key === sort ? (descending ? "descending" : "ascending") : "none";
      this.heads[at].setAttribute("aria-sort", state);
    });
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    this.shown = words.length ? rows.filter((row) => words.every((word) => row.text.includes(word))) : rows.slice();
    const column = this.columns.find((each) => each.key === sort && each.value) ?? this.columns.find((each) => each.value);
    const sign = descending ? -1 : 1;
    if (column) this.shown.sort((a, b) => {
      const left = column.value(a), right = column.value(b);
      return sign * (typeof left === "number" ? left - right : left.localeCompare(right, "en", { numeric: true }));
    });
    this.fill();
  }

  // Shows which row is chosen, without making the rows anew.
  mark(current) {
    this.current = current;
    for (const line of this.body.rows) line.classList.toggle("current", line.rowData.key === current);
  }

  fill() {
    const visible = this.shown.slice(0, this.limit);
    this.body.replaceChildren(...visible.map((row) => this.line(row)));
    const none = this.rows.length === 0;
    this.scroller.hidden = this.shown.length === 0;
    this.message.hidden = this.shown.length > 0;
    this.message.textContent = none ? this.empty : "Nothing here matches the filter.";
    const rest = this.shown.length - visible.length;
    this.more.hidden = rest === 0;
    this.more.textContent = "Show " + grouped(Math.min(rest, PORTION), 0) + " more";
    const told = this.filter || rest > 0;
    this.status.textContent = !told || none ? "" : grouped(visible.length, 0) + " of " + grouped(this.rows.length, 0) + " shown";
  }

  line(row) {
    const line = element("tr", { class: row.key === this.current ? "current" : "" });
    line.rowData = row;
    this.columns.forEach((column, at) => {
      const attributes = { class: column.number ? "number" : "col-" + column.key };
      if (at === 0) attributes.scope = "row";
      line.append(element(at === 0 ? "th" : "td", attributes, ...[column.cell(row)].flat()));
    });
    return line;
  }

  clicked(event) {
    const line = event.target.closest("tr");
    // A link with a modifier opens elsewhere, and marking text to copy it is no choice.
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (!line || (window.getSelection() ?? "").toString() !== "") return;
    event.preventDefault();
    this.events.opened(line.rowData);
  }
}

// A stacked bar of the kinds, as wide as its part of `most`.
function bar(time, most) {
  const whole = sum(time);
  const said = model.kinds.map(({ name, at }) => name + " " + share(time[at], whole)).join(", ");
  const box = element("span", { class: "bar", role: "img", "aria-label": said, title: said });
  KINDS.forEach((kind, at) => {
    if (time[at] <= 0 || most <= 0) return;
    const part = element("span", { class: kind.key });
    part.style.width = (100 * time[at]) / most + "%";
    box.append(part);
  });
  return box;
}
