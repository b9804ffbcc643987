// What is shown, kept in the address after `#`, so that a link to it can be pasted anywhere and the
// browser's back button works. Only what differs from the beginning is written.

const BEGINNING = {
  view: "", from: "", to: "", last: "300",
  kind: "all", span: "", thread: "", q: "", zoom: "", runtime: "hidden", idle: "hidden", root: "top", invert: "no",
  sort: "seen", order: "down", filter: "", threads: "seen", threadorder: "down",
  classes: "", classorder: "down", others: "hidden",
  msort: "took", morder: "down", find: "", destination: "", group: "", wait: "", normal: "hidden",
  class: "", base: "normal", basefrom: "", baseto: "", fsort: "more", forder: "down", wsort: "more", worder: "down",
};
// What stays as it is when another view is chosen: the time that is looked at.
const LASTING = ["from", "to", "last"];

function readAddress() {
  const given = new URLSearchParams(window.location.hash.slice(1));
  const state = { ...BEGINNING };
  for (const name of Object.keys(BEGINNING)) if (given.has(name)) state[name] = given.get(name);
  return state;
}

// Links of before there were views say what they mean by what they choose.
function viewOf(state) {
  if (VIEWS.some((view) => view.key === state.view)) return state.view;
  if (state.span) return "message";
  return state.thread || state.q || state.zoom || state.kind !== "all" ? "all" : "overview";
}

function addressOf(state) {
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(BEGINNING)) if (state[name] !== value) kept.set(name, state[name]);
  return "#" + kept.toString();
}

// The address of another view of the same time.
function addressOfView(patch) {
  const lasting = Object.fromEntries(LASTING.map((name) => [name, state[name]]));
  return addressOf({ ...BEGINNING, ...lasting, ...patch });
}

// `step`: whether the back button should come back to where we were.
function writeAddress(state, step) {
  const address = addressOf(state);
  if (address === (window.location.hash || "#")) return;
  if (step) window.history.pushState(null, "", address);
  else window.history.replaceState(null, "", address);
}

// A zoom is the path of functions from the root, which stays true when other samples are filtered away.
function zoomText(tree, node) {
  return pathTo(tree, node).map((at) => tree.called[at].toString(36)).join(".");
}

// The deepest node of the path that this tree has.
function zoomNode(tree, text) {
  let node = 0;
  if (text === "") return node;
  for (const part of text.split(".")) {
    const called = parseInt(part, 36);
    const next = tree.children[node].find((child) => tree.called[child] === called);
    if (next === undefined) break;
    node = next;
  }
  return node;
}
