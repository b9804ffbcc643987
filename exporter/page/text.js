// Texts and numbers as people read them. Names come from foreign programs: whatever would not be seen, or
// would turn the reading direction, is written out.

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

function readable(text) {
  return text.replace(UNSEEN, (character) => {
    const code = character.codePointAt(0);
    return code < 0x20 ? String.fromCodePoint(0x2400 + code) : "⟨U+" + code.toString(16).toUpperCase().padStart(4, "0") + "⟩";
  });
}

// The position of the `>` that closes the `<` at `open`; -1 where there is none.
function closing(name, open) {
  let depth = 0;
  for (let at = open; at < name.length; at++) {
    if (name[at] === "<") depth++;
    else if (name[at] === ">" && name[at - 1] !== "-" && name[at - 1] !== "=" && --depth === 0) return at;
  }
  return -1;
}

// The position of ` word ` outside of any brackets; -1 where there is none.
function outside(text, word) {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "<") depth++;
    else if (text[at] === ">" && text[at - 1] !== "-") depth--;
    else if (depth === 0 && text.startsWith(word, at)) return at;
  }
  return -1;
}

// A name without its generic arguments: `<a::B<T> as c::D>::run` is `a::B::run`.
// What is no name of a function (a quotation mark, a closing tag) is left as it is.
function shorten(name, level = 0) {
  if (level > 8 || name.includes("operator") || /["`/\\]|<!/.test(name)) return name;
  let out = "";
  let at = 0;
  while (at < name.length) {
    if (name[at] !== "<") {
      out += name[at++];
      continue;
    }
    const end = closing(name, at);
    if (end < 0) return name;
    const before = out[out.length - 1];
    let inner = name.slice(at + 1, end);
    const implementation = inner.startsWith("impl ");
    if (implementation || before === undefined || before === " " || before === "&" || before === "(") {
      if (implementation) {
        out = "";
        const target = outside(inner, " for ");
        inner = target < 0 ? inner.slice(5) : inner.slice(target + 5);
      }
      const as = outside(inner, " as ");
      out += shorten(as < 0 ? inner : inner.slice(0, as), level + 1);
    } else if (out.endsWith("::")) {
      out = out.slice(0, -2);
    }
    at = end + 1;
  }
  return out || name;
}

// As much of a short name as fits: leading path segments go first, then the end.
function fit(name, characters) {
  if (name.length <= characters) return name;
  let rest = name;
  for (;;) {
    const cut = rest.indexOf("::");
    if (cut < 0 || rest.startsWith("{", cut + 2)) break;
    rest = rest.slice(cut + 2);
    if (rest.length <= characters) return rest;
  }
  return characters < 4 ? "" : rest.slice(0, characters - 1) + "…";
}

function grouped(number, digits) {
  return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// Milliseconds for a table's column, without the unit.
function milliseconds(nanoseconds) {
  const value = nanoseconds / 1e6;
  if (value === 0) return "0";
  if (value < 0.001) return "<0.001";
  return grouped(value, value < 1 ? 3 : value < 100 ? 2 : value < 10000 ? 1 : 0);
}

// A duration with its unit.
function duration(nanoseconds) {
  if (nanoseconds >= 100e9) return grouped(nanoseconds / 1e9, 0) + " s";
  if (nanoseconds >= 10e9) return grouped(nanoseconds / 1e9, 1) + " s";
  if (nanoseconds > 0 && nanoseconds < 1000) return grouped(nanoseconds, 0) + " ns";
  return milliseconds(nanoseconds) + " ms";
}

function share(part, whole) {
  if (whole <= 0) return "0 %";
  const percent = (100 * part) / whole;
  if (part > 0 && percent < 0.05) return "<0.1 %";
  return grouped(percent, percent >= 99.95 || percent === 0 ? 0 : 1) + " %";
}

function plural(number, one, many = one + "s") {
  return grouped(number, 0) + " " + (number === 1 ? one : many);
}

// A name that may be broken between its parts, as children for an element.
function breakable(text) {
  return text.split(/(?<=::|[./])/).flatMap((part, at) => (at ? [element("wbr"), part] : [part]));
}

// The only way that elements are made here: children are nodes or texts, never markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
