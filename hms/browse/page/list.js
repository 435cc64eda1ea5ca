/** The list of all items: what is shown of them under the filter, in which order. */

const ROW = 30, SPARE = 10;
export const element = (name, css, text) => {
  const made = document.createElement(name);
  if (css) made.className = css;
  if (text !== undefined) made.textContent = text;
  return made;
};
export const swatch = (colour) => { const mark = element("span", "swatch"); mark.style.background = colour; return mark; };
const at = (id) => document.getElementById(id);

/** The items in columns, with what follows from them. */
export class Items {
  constructor(told, about) {
    Object.assign(this, told);
    this.about = about;
    this.n = told.id.length;
    this.marks = new Map();
    const votes = told.shares?.texts.map((text) => text.split(" ").filter(Boolean).map(Number));
    this.sharesOf = (i) => votes?.[told.shares.rows[i]] ?? [];
    this.low = told.id.map((id) => id.toLowerCase());
    this.lowPatients = told.patient.texts.map((text) => text.toLowerCase());
    /** Place of each row in the order of a column's texts. */
    this.ranks = (column) => {
      const { texts, rows } = told[column], order = texts.map((_, k) => k).sort((a, b) => (texts[a] < texts[b] ? -1 : 1));
      const rank = new Int32Array(texts.length);
      order.forEach((k, place) => { rank[k] = place; });
      return rows.map((k) => rank[k]);
    };
    this.text = (column, i) => told[column] ? told[column].texts[told[column].rows[i]] : "";
  }

  markOf(i) { return this.marks.get(i)?.find((mark) => mark.own); }
}

const some = (values) => [...new Set(values)].filter((v) => v !== "");

export class List {
  constructor(items, open) {
    this.items = items;
    this.open = open;
    this.shown = Int32Array.from({ length: items.n }, (_, i) => i);
    this.at = 0;
    this.changed = [];
    this.makeChoices();
    this.makeHead();
    const rows = at("rows");
    rows.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()));
    addEventListener("resize", () => this.draw());
    at("find").addEventListener("input", () => this.filter());
    at("clear").addEventListener("click", () => this.clear());
    at("turn").addEventListener("click", () => {
      at("turn").setAttribute("aria-pressed", at("turn").getAttribute("aria-pressed") !== "true");
      this.filter();
    });
  }

  /** The row of the item that the reader is at, or undefined where none is shown. */
  get row() { return this.shown[this.at]; }

  columns() {
    const { items } = this, { about } = items;
    const ranked = (name) => { let ranks; return (i) => (ranks ??= items.ranks(name))[i]; };
    const text = (name) => ({ key: ranked(name), show: (i) => items.text(name, i) });
    const number = (name, shown = (v) => v) => ({ key: (i) => items[name][i], show: (i) => items[name][i] < 0 ? "" : shown(items[name][i]) });
    const named = (name, names, colours) => ({
      key: (i) => items[name][i],
      fill: (i, cell) => { const k = items[name][i]; if (k >= 0) cell.append(swatch(colours[k]), names[k]); },
    });
    const all = [
      { title: "Item", key: (i) => items.id[i], show: (i) => items.id[i] },
      { title: "Class", needs: "class", ...named("class", about.classes, about.class_colours) },
      { title: "Votes", needs: "shares", more: true, key: (i) => items.total[i], fill: (i, cell) => fillVotes(cell, items.sharesOf(i), about.class_colours) },
      { title: "Count", needs: "total", more: true, ...number("total", (v) => `${v || ""}`) },
      { title: "Disagreement", needs: "entropy", more: true, ...number("entropy", (v) => v.toFixed(2)) },
      { title: "Grade", needs: "grade", ...named("grade", about.grades, about.grade_colours) },
      { title: "Fold", more: true, ...number("fold") },
      { title: "Patient", more: true, ...text("patient") },
      { title: "Prediction", needs: "predicted", more: true, key: (i) => -items.divergence[i],
        fill: (i, cell) => { const k = items.predicted[i]; if (k >= 0) cell.append(swatch(about.class_colours[k]), `${about.classes[k]}${items.divergence[i] < 0 ? "" : ` ${items.divergence[i].toFixed(2)}`}`); } },
      { title: "Flags, or why it was left out", needs: "flags", more: true, key: ranked("flags"), show: (i) => items.text("reason", i) ? `left out: ${items.text("reason", i)}` : items.text("flags", i).replaceAll("_", " ").replaceAll(";", ", ") },
      { title: "Mark", key: (i) => items.markOf(i)?.mark ?? "~", show: (i) => { const m = items.markOf(i); return m ? [m.mark, m.votes, m.note].filter(Boolean).join(" · ") : ""; } },
    ];
    return all.filter((column) => !column.needs || items[column.needs]);
  }

  makeHead() {
    this.shownColumns = this.columns();
    const head = document.querySelector("#rows .head");
    head.replaceChildren(...this.shownColumns.map(({ title, more }) => {
      const cell = element("span", more ? "more" : "", title);
      cell.setAttribute("role", "columnheader");
      return cell;
    }));
    const widths = { Item: "minmax(7em,1.4fr)", Class: "6.5em", Votes: "8em", Count: "4.8em", Disagreement: "8.5em", Grade: "7em", Fold: "4em", Patient: "minmax(5em,1fr)", Prediction: "minmax(7em,1fr)", Mark: "minmax(6em,1.6fr)" };
    this.template = this.shownColumns.map(({ title }) => widths[title] ?? "minmax(8em,2fr)").join(" ");
    head.style.gridTemplateColumns = this.narrow ? "" : this.template;
    const sorts = [...this.shownColumns.map(({ title }) => title), ...(this.items.issue ? ["Label issue"] : [])];
    fillSelect(at("sort"), [["", "As in the table"], ...sorts.map((title) => [title, title])]);
    at("sort").addEventListener("change", () => this.filter());
  }

  get narrow() { return matchMedia("(max-width: 700px)").matches; }

  makeChoices() {
    const { items } = this, { about } = items;
    const flags = items.flags ? some(items.flags.texts.flatMap((t) => t.split(";"))).sort() : [];
    const folds = some(items.fold).filter((f) => f >= 0).sort((a, b) => a - b);
    const high = about.high_confidence;
    this.choices = [
      ["by-class", items.class && [...about.classes.map((name, k) => [`${k}`, name]), ["-1", "No votes"]], (v) => (i) => items.class[i] === Number(v)],
      ["by-votes", items.total && [["high", `${high} or more`], ["low", `Fewer than ${high}`], ["split", "Experts disagree"]],
        (v) => v === "split" ? (i) => items.entropy[i] > 0 : (i) => items.total[i] > 0 && (items.total[i] >= high) === (v === "high")],
      ["by-grade", items.grade && about.grades.map((name, k) => [`${k}`, name]), (v) => (i) => items.grade[i] === Number(v)],
      ["by-flag", flags.length && [["none", "No flags"], ...flags.map((f) => [`=${f}`, f.replaceAll("_", " ")])],
        (v) => (i) => v === "none" ? !items.text("flags", i) : items.text("flags", i).split(";").includes(v.slice(1))],
      ["by-fold", folds.length && folds.map((f) => [`${f}`, `${f}`]), (v) => (i) => items.fold[i] === Number(v)],
      ["by-prediction", items.predicted?.some((k) => k >= 0) && [["same", "Same class as the votes"], ["other", "Another class"], ...about.classes.map((name, k) => [`${k}`, `Predicted ${name}`])],
        (v) => (i) => items.predicted[i] >= 0 && (v === "same" || v === "other" ? (items.predicted[i] === items.class[i]) === (v === "same") : items.predicted[i] === Number(v))],
      ["by-mark", about.marks && [["none", "Not marked"], ["any", "Marked"], ["keep", "Keep"], ["exclude", "Exclude"], ["doubt", "Doubt"], ["votes", "With proposed votes"]],
        (v) => (i) => { const m = items.markOf(i); return v === "none" ? !m : v === "any" ? Boolean(m) : v === "votes" ? Boolean(m?.votes) : m?.mark === v; }],
      ["by-state", items.reason && [["used", "Used"], ["out", "Left out"], ["issue", "Votes to look at again"]],
        (v) => (i) => v === "issue" ? items.issue[i] > 0 : Boolean(items.text("reason", i)) === (v === "out")],
    ];
    for (const [id, options] of this.choices) {
      const select = at(id);
      select.parentElement.hidden = !options || !options.length;
      fillSelect(select, [["", "All"], ...(options || [])]);
      select.addEventListener("change", () => this.filter());
    }
  }

  clear() {
    at("find").value = at("sort").value = "";
    at("turn").setAttribute("aria-pressed", "false");
    for (const [id] of this.choices) at(id).value = "";
    this.filter();
  }

  /** Choose and order the items anew; the reader stays at the item where it is still shown. */
  filter() {
    const began = performance.now(), { items } = this, here = this.row;
    const tests = this.choices.filter(([id]) => at(id).value).map(([id, , make]) => make(at(id).value));
    const text = at("find").value.trim().toLowerCase();
    if (text) tests.push((i) => items.low[i].includes(text) || items.lowPatients[items.patient.rows[i]].includes(text));
    const rows = [];
    for (let i = 0; i < items.n; i++) if (tests.every((test) => test(i))) rows.push(i);
    this.shown = Int32Array.from(rows);
    this.sort();
    this.at = Math.max(0, this.shown.indexOf(here ?? 0));
    at("count").textContent = `${this.shown.length.toLocaleString("en")} of ${items.n.toLocaleString("en")} items`;
    this.draw();
    this.took = performance.now() - began;
    for (const tell of this.changed) tell();
  }

  sort() {
    const title = at("sort").value, turn = at("turn").getAttribute("aria-pressed") === "true" ? -1 : 1;
    if (!title) { if (turn < 0) this.shown.reverse(); return; }
    const key = title === "Label issue" ? (i) => this.items.issue[i] || Infinity : this.shownColumns.find((c) => c.title === title).key;
    const keys = Array.from({ length: this.items.n }, (_, i) => key(i));
    const order = Array.from(this.shown).sort((a, b) => (keys[a] < keys[b] ? -turn : keys[a] > keys[b] ? turn : a - b));
    this.shown = Int32Array.from(order);
  }

  /** Draw the rows in view. */
  draw() {
    const box = at("rows");
    if (box.closest("section").hidden) return;
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE);
    const last = Math.min(this.shown.length, first + Math.ceil(box.clientHeight / ROW) + 2 * SPARE);
    const narrow = this.narrow;
    document.querySelector("#rows .head").style.gridTemplateColumns = narrow ? "" : this.template;
    const made = [];
    for (let k = first; k < last; k++) made.push(this.makeRow(k, narrow));
    at("above").style.height = `${first * ROW}px`;
    at("below").style.height = `${(this.shown.length - last) * ROW}px`;
    at("body").replaceChildren(...made);
    box.setAttribute("aria-rowcount", this.shown.length);
    box.setAttribute("aria-activedescendant", this.shown.length ? `row-${this.at}` : "");
  }

  makeRow(k, narrow) {
    const i = this.shown[k], line = element("div", "row");
    line.id = `row-${k}`;
    line.setAttribute("role", "row");
    line.setAttribute("aria-rowindex", k + 1);
    line.setAttribute("aria-selected", k === this.at);
    if (!narrow) line.style.gridTemplateColumns = this.template;
    for (const { show, fill, more } of this.shownColumns) {
      const cell = element("span", more ? "more" : "");
      cell.setAttribute("role", "gridcell");
      if (fill) fill(i, cell); else { cell.textContent = show(i); cell.title = cell.textContent; }
      line.append(cell);
    }
    line.addEventListener("click", () => { this.at = k; this.open(); });
    return line;
  }

  /** Go some places on in the list; tells whether there was anywhere to go. */
  step(by) {
    const to = Math.min(Math.max(this.at + by, 0), this.shown.length - 1);
    if (to === this.at || to < 0) return false;
    this.at = to;
    const box = at("rows"), top = to * ROW;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top > box.scrollTop + box.clientHeight - 3 * ROW) box.scrollTop = top - box.clientHeight + 3 * ROW;
    this.draw();
    return true;
  }

  /** Go to an item by id; a filter that hides it is cleared. */
  goto(id) {
    const row = this.items.id.indexOf(id);
    if (row < 0) return false;
    if (!this.shown.includes(row)) this.clear();
    this.at = this.shown.indexOf(row);
    return true;
  }
}

export function fillVotes(cell, shares, colours) {
  const box = element("div", "votes");
  shares.forEach((share, k) => {
    if (!share) return;
    const bar = element("i");
    bar.style.width = `${100 * share}%`;
    bar.style.background = colours[k];
    box.append(bar);
  });
  cell.append(box);
}

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}
