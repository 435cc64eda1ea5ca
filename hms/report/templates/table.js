"use strict";
(() => {
  const ROW = 30, SPARE = 12, MOST = 100;
  const data = JSON.parse(document.getElementById("data").textContent);
  const colours = JSON.parse(document.getElementById("colours").textContent);
  const n = data.id.length;
  const textAt = (column) => { const { texts, rows } = data[column]; return (i) => texts[rows[i]]; };
  const votesText = textAt("votes"), flags = textAt("flags"), reason = textAt("reason");
  const grade = textAt("grade"), patient = textAt("patient"), weight = textAt("weight");
  const votes = data.votes.texts.map((t) => t.split(" ").map(Number));
  const total = votes.map((v) => v.reduce((a, b) => a + b, 0));
  const winner = votes.map((v, k) => total[k] > 0 ? v.indexOf(Math.max(...v)) : -1);
  const agreement = votes.map((v, k) => total[k] > 0 ? Math.max(...v) / total[k] : -1);
  const vote = data.votes.rows;
  const gradeNumber = (i) => { const g = data.grades.indexOf(grade(i)); return g < 0 ? data.grades.length : g; };
  const swatch = (colour) => {
    const mark = document.createElement("span");
    mark.className = "swatch";
    mark.style.background = colour;
    return mark;
  };
  const bar = (i, cell) => {
    const box = document.createElement("div");
    box.className = "votes";
    const counts = votes[vote[i]], sum = total[vote[i]];
    counts.forEach((count, k) => {
      if (count > 0) {
        const piece = document.createElement("i");
        piece.style.width = `${100 * count / sum}%`;
        piece.style.background = colours.classes[k];
        box.append(piece);
      }
    });
    cell.title = data.classes.map((name, k) => counts[k] ? `${name} ${counts[k]}` : "").filter(Boolean).join(", ") || "no votes";
    cell.append(box);
  };
  const root = document.documentElement, run = document.querySelector("main").dataset.run;
  const served = root.dataset.browse;
  if (root.dataset.finished) document.getElementById("finished").textContent = `, finished ${root.dataset.finished}`;
  const opener = (id, text) => {
    const made = document.createElement(served ? "a" : "button");
    made.textContent = text;
    if (served) made.href = `${served}#item=${encodeURIComponent(id)}`;
    else {
      made.type = "button";
      made.className = "opener";
      made.title = "how to open it";
      made.addEventListener("click", () => tell(made, id));
    }
    return made;
  };
  const tell = (place, id) => {
    const line = document.getElementById("opening"), command = document.createElement("code");
    const quoted = /^[\w-]+$/.test(id) ? id : `'${id.replaceAll("'", "'\\''")}'`;
    command.textContent = `hms browse ${run} --item ${quoted}`;
    line.replaceChildren("To open it: ", command);
    line.hidden = false;
    place.closest("figure, .card").append(line);
  };
  for (const card of document.querySelectorAll("figure[data-item]")) card.querySelector("h3").append(" ", opener(card.dataset.item, "open"));
  const className = (i) => winner[vote[i]] < 0 ? "none" : data.classes[winner[vote[i]]];
  const labelled = total.some((sum) => sum > 0);
  const columns = [
    { name: "Item", width: 15, key: (i) => data.id[i], fill: (i, cell) => { cell.title = data.id[i]; cell.append(opener(data.id[i], data.id[i])); } },
    { name: "Class", width: 9, voted: true, key: (i) => winner[vote[i]], fill: (i, cell) => {
      if (winner[vote[i]] >= 0) cell.append(swatch(colours.classes[winner[vote[i]]]));
      cell.append(className(i));
    } },
    { name: "Share of votes", width: 13, voted: true, key: (i) => agreement[vote[i]], fill: bar },
    { name: "Votes", width: 7, voted: true, key: (i) => total[vote[i]], show: (i) => String(total[vote[i]]) },
    { name: "Agree", width: 8, voted: true, key: (i) => agreement[vote[i]], show: (i) => agreement[vote[i]] < 0 ? "" : `${Math.round(100 * agreement[vote[i]])} %` },
    { name: "Weight", width: 8, voted: true, key: (i) => weight(i) === "" ? -1 : Number(weight(i)), show: weight },
    { name: "Fold", width: 6, voted: true, key: (i) => data.fold[i], show: (i) => data.fold[i] < 0 ? "" : String(data.fold[i]) },
    { name: "Patient", width: 10, key: patient, show: patient },
    { name: "Grade", width: 9, key: gradeNumber, fill: (i, cell) => {
      if (grade(i)) cell.append(swatch(colours.grades[grade(i)] || "#999"), grade(i));
    } },
    { name: "Flags, or why it was left out", width: 24, key: (i) => reason(i) || flags(i), show: (i) => reason(i) ? `left out: ${reason(i)}` : flags(i).split(";").join(", ") },
  ].filter((column) => labelled || !column.voted);
  const table = document.getElementById("table"), body = table.tBodies[0];
  const scroller = document.getElementById("scroller");
  const find = document.getElementById("find"), count = document.getElementById("count");
  let order = Array.from({ length: n }, (_, i) => i);
  let shown = order, sortedBy = -1, upward = true, drawn = "";

  scroller.style.setProperty("--rows", Math.max(n, 3));
  const head = table.tHead.rows[0], whole = columns.reduce((sum, column) => sum + column.width, 0);
  columns.forEach((column, k) => {
    const cell = document.createElement("th"), button = document.createElement("button");
    cell.scope = "col";
    button.type = "button";
    button.textContent = column.name;
    button.addEventListener("click", () => sort(k));
    cell.append(button);
    head.append(cell);
    const breadth = document.createElement("col");
    breadth.style.width = `${100 * column.width / whole}%`;
    table.firstElementChild.append(breadth);
  });

  const choice = (id, first, options) => {
    const select = document.getElementById(id);
    [["", first], ...options].forEach(([value, label]) => {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = label;
      select.append(option);
    });
    select.addEventListener("change", filter);
    return select;
  };
  const flagNames = [...new Set(data.flags.texts.flatMap((t) => t.split(";")).filter(Boolean))].sort();
  const gradeNames = data.grades.filter((g) => data.grade.texts.includes(g));
  const folds = [...new Set(data.fold)].filter((f) => f >= 0).sort((a, b) => a - b);
  const byClass = choice("by-class", "all", data.classes.map((name, k) => [String(k), name]));
  const byGrade = choice("by-grade", "all", gradeNames.map((g) => [g, g]));
  const byFlag = choice("by-flag", "all", [["-", "none"], ...flagNames.map((f) => [`=${f}`, f])]);
  const byFold = choice("by-fold", "all", folds.map((f) => [String(f), String(f)]));
  const byState = choice("by-state", "all", [["used", "used"], ["out", "left out"]]);
  if (!labelled) {
    [byClass, byFold].forEach((select) => select.parentElement.remove());
    table.style.minWidth = "560px";
  }
  const choices = [byClass, byGrade, byFlag, byFold, byState];

  function compare(a, b) { return a < b ? -1 : a > b ? 1 : 0; }
  function sort(k) {
    upward = sortedBy === k ? !upward : true;
    sortedBy = k;
    const keys = Array.from({ length: n }, (_, i) => columns[k].key(i)), sign = upward ? 1 : -1;
    order = Array.from({ length: n }, (_, i) => i).sort((a, b) => sign * compare(keys[a], keys[b]) || a - b);
    [...head.cells].forEach((cell, j) => {
      if (j === k) cell.setAttribute("aria-sort", upward ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
    filter();
  }
  function filter() {
    const wanted = find.value.trim().toLowerCase();
    const [cls, grd, flg, fld, stt] = choices.map((select) => select.value);
    const has = data.flags.texts.map((t) => flg === "" || (flg === "-" ? t === "" : t.split(";").includes(flg.slice(1))));
    shown = order.filter((i) =>
      (cls === "" || winner[vote[i]] === Number(cls)) && (grd === "" || grade(i) === grd) &&
      has[data.flags.rows[i]] && (fld === "" || data.fold[i] === Number(fld)) &&
      (stt === "" || (stt === "used") === (reason(i) === "")) &&
      (wanted === "" || data.id[i].toLowerCase().includes(wanted) || patient(i).toLowerCase() === wanted));
    count.textContent = `${shown.length.toLocaleString("en")} of ${n.toLocaleString("en")} items`;
    scroller.scrollTop = 0;
    draw(true);
  }
  function draw(force) {
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - SPARE);
    const last = Math.min(shown.length, first + Math.min(MOST, Math.ceil(scroller.clientHeight / ROW) + 2 * SPARE));
    if (!force && drawn === `${first}-${last}`) return;
    drawn = `${first}-${last}`;
    const rows = [space(first)];
    for (let k = first; k < last; k++) rows.push(row(shown[k]));
    rows.push(space(shown.length - last));
    body.replaceChildren(...rows);
  }
  function space(count) {
    const line = document.createElement("tr"), cell = document.createElement("td");
    line.className = "gap";
    line.setAttribute("aria-hidden", "true");
    cell.colSpan = columns.length;
    cell.style.height = `${count * ROW}px`;
    line.append(cell);
    return line;
  }
  function row(i) {
    const line = document.createElement("tr");
    for (const column of columns) {
      const cell = document.createElement("td");
      if (column.fill) column.fill(i, cell);
      else { cell.textContent = column.show(i); cell.title = cell.textContent; }
      line.append(cell);
    }
    return line;
  }
  let waiting = false;
  scroller.addEventListener("scroll", () => {
    if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(false); }); }
  });
  addEventListener("resize", () => draw(true));
  find.addEventListener("input", filter);
  document.getElementById("csv").addEventListener("click", () => {
    const harmless = (text) => /^[=+@\t\r'-]/.test(text) && !/^[\w.-]+$/.test(text) ? `'${text}` : text;
    const quoted = (value) => { const text = harmless(String(value)); return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; };
    const names = ["item_id", "patient_id", ...data.classes.map((name) => `votes ${name}`), "weight", "fold", "grade", "flags", "left_out"];
    const line = (i) => [data.id[i], patient(i), ...votes[vote[i]], weight(i), data.fold[i] < 0 ? "" : data.fold[i], grade(i), flags(i), reason(i)];
    const text = [names, ...shown.map(line)].map((row) => row.map(quoted).join(",")).join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" }));
    link.download = `${run}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  document.getElementById("clear").addEventListener("click", () => {
    find.value = "";
    choices.forEach((select) => { select.value = ""; });
    filter();
  });
  filter();
})();
