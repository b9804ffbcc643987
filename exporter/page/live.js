// The page of a running agent, or of stored windows: it asks its own server for the time that is looked at, and says so when
// nobody answers.

const RANGES = [["60", "Last minute"], ["300", "Last 5 minutes"], ["900", "Last 15 minutes"], ["3600", "Last hour"], ["all", "All that is stored"]];
const POLL_MILLISECONDS = 10_000;
// These views are lists that may change under a person's eyes; a flame graph must not.
const MOVING = ["overview", "messages", "health"];
let windows = null, health = null, loaded = "", baseModel = null, baseFailure = "", baseLoaded = "", gone = false;

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", credentials: "omit" });
  if (!answer.ok) throw new Error("the answer to " + path.split("?")[0] + " was " + answer.status + " " + (await answer.text()).slice(0, 200));
  return answer.json();
}

function isFixed() {
  return state.from !== "" && state.to !== "";
}

function rangeQuery() {
  if (isFixed()) return "?from=" + encodeURIComponent(state.from) + "&to=" + encodeURIComponent(state.to);
  const newest = windows?.newest ?? 0;
  const seconds = Number(state.last);
  return state.last === "all" || !(seconds > 0) || newest === 0 ? "" : "?from=" + Math.max(0, Math.floor(newest - 1000 * seconds));
}

// Loads what the address asks for, and draws it. `again`: also where the address did not change.
async function load(again = false) {
  try {
    if (again || windows === null) windows = await ask("api/windows");
    const wanted = rangeQuery() + (isFixed() ? "" : "@" + (windows.newest ?? 0));
    if (wanted !== loaded) {
      const fresh = await ask("api/profile" + rangeQuery());
      loaded = wanted;
      [baseModel, baseLoaded] = [null, ""];
      use({ ...fresh, live: true });
    }
    if (viewOf(state) === "health") health = await ask("api/health");
    gone = false;
  } catch (error) {
    gone = true;
    $("failure").textContent = model
      ? "The agent does not answer: it has ended, or its address changed. Shown is what it told until " + clock(1000 * (windows?.now ?? 0)) + " UTC. Start it again, and this page goes on."
      : "The agent does not answer (" + error.message + "). Start it again, and this page goes on: spanprof attach … --page, or spanprof open DIR.";
  }
  $("failure").hidden = !gone;
  if (model) draw();
  document.body.dataset.ready = gone ? "gone" : "yes";
}

// The time to compare with, in milliseconds: as long before the one that is looked at, or what was chosen.
function baseRange() {
  const length = Math.ceil(1000 * Math.max(model.seconds, 1));
  const before = [Math.max(0, model.start - length), model.start - 1];
  if (state.base !== "other") return before;
  const chosen = [Number(state.basefrom), Number(state.baseto)];
  return chosen[0] > 0 && chosen[1] > chosen[0] ? chosen : before;
}

async function loadBase() {
  const [from, until] = baseRange();
  const wanted = from + "-" + until;
  if (baseLoaded === wanted) return;
  baseLoaded = wanted;
  [baseModel, baseFailure] = [null, ""];
  try {
    const base = decode(await ask("api/profile?from=" + from + "&to=" + until));
    if (baseLoaded !== wanted) return;
    baseFailure = base.total.some((time) => time > 0) ? "" : "Nothing is stored of the time to compare with.";
    baseModel = baseFailure ? null : base;
  } catch (error) {
    baseFailure = "The time to compare with could not be loaded: " + error.message;
  }
  draw();
}

function drawRange() {
  const box = $("range");
  if (!data.live) return;
  box.hidden = false;
  if (isFixed()) {
    const words = clock(1000 * Number(state.from)).slice(0, 8) + " to " + clock(1000 * Number(state.to)).slice(0, 8) + " UTC";
    const back = element("button", { type: "button", class: "button" }, "Back to now");
    back.addEventListener("click", () => change({ from: "", to: "" }, true));
    box.replaceChildren(element("span", { class: "words" }, words), back);
    return;
  }
  if (box.querySelector("select")) {
    box.querySelector("select").value = state.last;
    return;
  }
  const select = element("select", { "aria-label": "The time that is looked at" }, ...RANGES.map(([value, words]) => element("option", { value }, words)));
  select.value = state.last;
  select.addEventListener("change", () => change({ last: select.value }, true));
  box.replaceChildren(select);
}

// Freezes the time that is looked at into the address, so that a link shows the same tomorrow.
function frozen() {
  if (!data.live || isFixed() || !model) return {};
  return { from: String(model.start), to: String(Math.ceil(model.start + 1000 * model.seconds)) };
}

function keepUp() {
  setInterval(() => {
    if (document.hidden || !(gone || (MOVING.includes(viewOf(state)) && !isFixed()))) return;
    load(true);
  }, POLL_MILLISECONDS);
}
