/** The page: views, keys and marks. */

import { askItem, askNote, askVotes, showHelp } from "./dialogs.js";
import { Items, List } from "./list.js";
import { askJson, sendMark } from "./server.js";
import { Tiles } from "./tiles.js";
import { GAINS, View } from "./view.js";

const at = (id) => document.getElementById(id);
const EVERY_MS = 3000;
const KEYS = [
  ["j k", "next, previous item under the filter"], ["Enter", "open the item"], ["Esc", "back: cursor, then list"],
  ["y x d", "keep, exclude, doubt; again: undo"], ["n", "note"], ["v", "propose votes"],
  ["1 … 9", "propose one vote for a class"], ["u", "undo"],
  ["← →", "a second earlier, later"], ["PgUp PgDn", "a page earlier, later"], ["Home", "back to the window"],
  ["↑ ↓", "larger, smaller traces"], ["m", "next montage"], ["f", "as prepared, as recorded"], ["h", "notch off, 50, 60 Hz"],
  [", .", "move the cursor; with Shift by a second"], ["[ ]", "cursor to the row above, below"],
  ["a", "mark a stretch from the cursor on"], ["s", "spectrum of the stretch, or of the page"],
  ["g", "go to an item by id"], ["/", "find"], ["l", "list"], ["p", "pictures"], ["?", "this help"],
];

let about, items, list, tiles, view, showing = "list", revision = -1;
const undone = [];

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

function show(name) {
  showing = name;
  for (const id of ["list", "tiles", "item"]) at(id).hidden = id !== name;
  at("filters").hidden = name === "item";
  for (const button of document.querySelectorAll("nav [data-view]")) {
    if (button.dataset.view === name) button.setAttribute("aria-current", "page"); else button.removeAttribute("aria-current");
  }
  if (name === "item") return view.show();
  document.title = "hms browse";
  clearTimeout(view.naming);
  history.replaceState(null, "", "#");
  if (name === "list") { list.draw(); list.step(0); at("rows").focus({ preventScroll: true }); } else { tiles.step(0); at("pictures").focus({ preventScroll: true }); }
}

// --- marks ---------------------------------------------------------------------------------------

/** Say something of an item; it is on disk when the page says so, and taken back where that failed. */
async function judge(row, change, { forUndo = true } = {}) {
  if (!about.marks) { say("Nothing is saved: start hms browse with --marks FILE.", true); return; }
  if (row === undefined) return;
  const before = own(row), after = { ...before, ...change };
  if (same(before, after)) return;
  const step = { row, before };
  if (forUndo) undone.push(step);
  put(row, after);
  try {
    const told = await inTurn(() => sendMark(row, after));
    if (same(own(row), after)) put(row, told.mark);
    say(`Saved in ${about.marks.file}: ${items.id[row]} ${[after.mark, after.votes, after.note].filter(Boolean).join(" · ") || "no mark"}`);
  } catch (error) {
    if (forUndo) undone.splice(undone.indexOf(step), 1);
    put(row, before);
    say(`Not saved: ${error.message}`, true);
  }
}

let last = Promise.resolve(), waiting = 0;
/** Send one after another, in the order in which keys were pressed. */
function inTurn(send) {
  document.documentElement.dataset.saving = ++waiting;
  const sent = last.then(send);
  last = sent.catch(() => {}).then(() => { document.documentElement.dataset.saving = --waiting; });
  return sent;
}

const same = (a, b) => ["mark", "votes", "note"].every((name) => a[name] === b[name]);

function own(row) {
  const { mark = "", votes = "", note = "" } = items.markOf(row) ?? {};
  return { mark, votes, note };
}

function put(row, mark) {
  const others = (items.marks.get(row) ?? []).filter((m) => !m.own);
  const empty = !mark.mark && !mark.votes && !mark.note;
  items.marks.set(row, empty ? others : [...others, { ...mark, own: true }]);
  list.draw();
  tiles.draw();
  if (showing === "item" && view.row === row) view.tell();
}

function undo() {
  const last = undone.pop();
  if (!last) { say("Nothing to undo."); return; }
  judge(last.row, last.before, { forUndo: false });
}

const toggle = (name) => () => judge(list.row, { mark: own(list.row).mark === name ? "" : name });

function voteFor(k) {
  const name = about.class_names[k];
  if (name) judge(list.row, { votes: own(list.row).votes === `${name}=1` ? "" : `${name}=1` });
}

/** Take over what others marked, or somebody wrote by hand. */
async function look() {
  try {
    await last; // what is on its way is not taken back
    const told = await askJson(`marks?since=${revision}`);
    if (!told.marks) return;
    revision = told.revision;
    items.marks.clear();
    for (const mark of told.marks) items.marks.set(mark.row, [...(items.marks.get(mark.row) ?? []), mark]);
    list.draw();
    tiles.draw();
    if (showing === "item" && view.row !== undefined) view.tell();
  } catch (error) {
    say(error.message, true);
  }
}

// --- keys and buttons ------------------------------------------------------------------------------

function step(by) {
  const moved = showing === "tiles" ? tiles.step(by) : list.step(by);
  if (showing === "item" && moved) view.show();
  if (showing === "item" && !moved) say(by > 0 ? "The last item under the filter." : "The first item under the filter.");
}

async function jump() {
  const id = await askItem(items.id);
  if (id === null) return;
  if (list.goto(id)) show("item"); else say(`There is no item ${id}.`, true);
}

const actions = {
  next: () => step(1), previous: () => step(-1), keep: toggle("keep"), exclude: toggle("exclude"), doubt: toggle("doubt"),
  note: async () => { const row = list.row, note = about.marks ? await askNote(own(row).note) : ""; if (note !== null) judge(row, { note }); },
  vote: async () => { const row = list.row, votes = about.marks ? await askVotes(about, own(row).votes) : ""; if (votes !== null) judge(row, { votes }); },
  undo, help: () => showHelp(KEYS), jump, earlier: () => view.scroll(-view.length), later: () => view.scroll(view.length), home: () => view.home(), spectrum: () => view.spectrum(),
};

const always = {
  j: actions.next, k: actions.previous, y: actions.keep, x: actions.exclude, d: actions.doubt, n: actions.note, v: actions.vote,
  u: undo, g: jump, l: () => show("list"), p: () => show("tiles"), "?": actions.help, "/": () => { if (showing === "item") show("list"); at("find").focus(); },
};
const inItem = {
  ArrowLeft: () => view.scroll(-1), ArrowRight: () => view.scroll(1), PageUp: actions.earlier, PageDown: actions.later, Home: actions.home,
  ArrowUp: () => view.cycle("gain", GAINS, -1), ArrowDown: () => view.cycle("gain", GAINS, 1),
  m: () => view.cycle("montage", Object.keys(about.montages), 1), M: () => view.cycle("montage", Object.keys(about.montages), -1),
  f: () => view.cycle("band", ["prepared", "recorded"], 1), h: () => view.cycle("notch", [0, 50, 60], 1),
  ",": () => view.move(-0.05, 0), ".": () => view.move(0.05, 0), "<": () => view.move(-1, 0), ">": () => view.move(1, 0),
  "[": () => view.move(0, -1), "]": () => view.move(0, 1), a: () => view.setAnchor(), s: actions.spectrum,
  Escape: () => { if (!view.leaveCursor()) show("list"); },
};
const inList = { ArrowUp: actions.previous, ArrowDown: actions.next, PageUp: () => step(-20), PageDown: () => step(20), Home: () => step(-1e9), End: () => step(1e9), Enter: () => show("item") };
const inTiles = {
  ArrowLeft: actions.previous, ArrowRight: actions.next, ArrowUp: () => step(-tiles.across), ArrowDown: () => step(tiles.across),
  PageUp: () => step(-3 * tiles.across), PageDown: () => step(3 * tiles.across), Home: () => step(-1e9), End: () => step(1e9), Enter: () => show("item"), Escape: () => show("list"),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  // A dialog that was just closed keeps the focus until the page is drawn again.
  const { target, key } = event, typing = target.matches("input, textarea, select") && !target.closest("dialog:not([open])");
  if (typing) { if (key === "Escape" || (key === "Enter" && target.id === "find")) { target.blur(); if (showing === "list") at("rows").focus(); } return; }
  if (target.matches("button, a, summary") && (key === "Enter" || key === " ")) return;
  const action = { item: inItem, list: inList, tiles: inTiles }[showing][key] ?? always[key] ?? (/^[1-9]$/.test(key) ? () => voteFor(Number(key) - 1) : null);
  if (!action) return;
  event.preventDefault();
  say("");
  action();
}

function onClick(event) {
  const button = event.target.closest("button[data-do], button[data-view]");
  if (!button) return;
  say("");
  if (button.dataset.view) show(button.dataset.view); else actions[button.dataset.do]();
}

function follow() {
  const id = new URLSearchParams(location.hash.slice(1)).get("item");
  if (id === null) return false;
  if (!list.goto(id)) { say(`There is no item ${id}.`, true); return false; }
  show("item");
  return true;
}

async function begin() {
  const [known, columns] = await Promise.all([askJson("about"), askJson("list")]);
  about = known;
  items = new Items(columns, about);
  list = new List(items, () => show("item"));
  tiles = new Tiles(list);
  view = new View(list, actions);
  at("run").textContent = about.run;
  at("facts").textContent = [`data=${about.source}`, `finished ${about.finished}`, about.blind && "blind: votes, grades, flags and predictions are hidden", about.marks ? `marks of ${about.marks.who} go to ${about.marks.file}` : "for looking only; --marks FILE saves your decisions"].filter(Boolean).join(" · ");
  at("report").hidden = !about.report;
  if (about.marks) await look();
  list.filter();
  if (!follow()) show("list");
  document.documentElement.dataset.ready = Math.round(performance.now());
  addEventListener("keydown", onKey);
  addEventListener("click", onClick);
  addEventListener("hashchange", follow);
  addEventListener("beforeunload", (event) => { if (waiting) event.preventDefault(); });
  if (about.marks) setInterval(look, EVERY_MS);
}

begin().catch((error) => say(error.message, true));
