/** One recording, as a reader of EEG looks at it: traces, scalograms on the same time axis, what is known. */

import { element, fillVotes, swatch } from "./list.js";
import { askArrays, askJson, Kept } from "./server.js";

export const GAINS = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200];
export const LENGTHS = [5, 10, 15, 20, 30, 60];
const PX_PER_MM = 96 / 25.4;
const EKG_SHARE = 0.1;
const AXIS = 20, MARGIN = 44, LEAST_LANE = 15, MOST_LANE = 44, CHAIN_GAP = 0.45;
const BARS_UV = [1000, 500, 200, 100, 50, 20, 10, 5];
const TICKS_HZ = [1, 2, 4, 8, 16, 32, 64];
const at = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const shades = new Map();
/** Return the 256 shades of the ramp, which is even in lightness. */
function shadesOf(ramp) {
  const key = ramp.join();
  if (!shades.has(key)) {
    const stops = ramp.map((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16)));
    shades.set(key, Array.from({ length: 256 }, (_, v) => {
      const place = (v / 255) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
      return stops[low].map((c, k) => c + (stops[low + 1][k] - c) * (place - low));
    }));
  }
  return shades.get(key);
}

/** Return a scalogram as a small picture, low frequencies at the bottom. */
export function painted(values, freqs, frames, ramp) {
  const canvas = new OffscreenCanvas(frames, freqs), context = canvas.getContext("2d");
  const image = context.createImageData(frames, freqs), lut = shadesOf(ramp);
  for (let f = 0; f < freqs; f++) {
    for (let t = 0; t < frames; t++) {
      const shade = lut[values[f * frames + t]], to = 4 * ((freqs - 1 - f) * frames + t);
      image.data[to] = shade[0]; image.data[to + 1] = shade[1]; image.data[to + 2] = shade[2]; image.data[to + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function sized(canvas, height) {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  return [context, width];
}

export class View {
  constructor(list, actions) {
    this.list = list;
    this.items = list.items;
    this.actions = actions;
    this.about = this.items.about;
    this.gain = 7; this.length = 10; this.montage = "banana"; this.band = "prepared"; this.notch = 0;
    this.items_ = new Kept((path) => askArrays(path), 6);
    this.pages = new Kept((path) => askArrays(path), 8);
    this.lane = 0; this.time = null; this.anchor = null; this.stretch = null;
    this.fillChoices();
    this.listen();
  }

  fillChoices() {
    const fill = (id, options, value) => {
      at(id).replaceChildren(...options.map(([v, text]) => new Option(text, v)));
      at(id).value = value;
    };
    fill("montage", Object.entries(this.about.montages), this.montage);
    fill("gain", GAINS.map((g) => [g, `${g} µV/mm`]), this.gain);
    fill("length", LENGTHS.map((s) => [s, `${s} s`]), this.length);
    for (const name of ["montage", "band", "notch", "gain", "length"]) {
      at(name).addEventListener("change", () => {
        const { value } = at(name);
        this.set({ [name]: name === "montage" || name === "band" ? value : Number(value) });
      });
    }
  }

  /** Change how signals are shown; it stays from item to item. */
  set(changes) {
    const middle = this.start + this.length / 2;
    Object.assign(this, changes);
    for (const name of Object.keys(changes)) at(name).value = this[name];
    if ("length" in changes) this.start = Math.max(0, middle - this.length / 2);
    this.stretch = this.anchor = null;
    at("spectrum").hidden = true;
    return "gain" in changes ? this.draw() : this.load();
  }

  cycle(name, values, by) {
    const k = values.indexOf(this[name]);
    return this.set({ [name]: values[name === "gain" ? Math.min(Math.max(k + by, 0), values.length - 1) : (k + by + values.length) % values.length] });
  }

  homeOf(item) {
    const start = item.window_start_s ?? 0, spare = this.length - this.about.window_s;
    return spare > 0 ? Math.max(0, start - spare / 2) : start;
  }

  pathOf(row, start, length = this.length) {
    return `${row}?start=${Math.round(start * 1000) / 1000}&length=${length}&montage=${this.montage}&band=${this.band}&notch=${this.notch}`;
  }

  /** Show an item from its window on; the neighbours are asked for meanwhile. */
  async show() {
    const began = performance.now(), { row } = this.list;
    if (row === undefined) return;
    this.row = row;
    this.stretch = this.anchor = this.time = null;
    at("spectrum").hidden = true;
    at("place").textContent = `${(this.list.at + 1).toLocaleString("en")} of ${this.list.shown.length.toLocaleString("en")}`;
    clearTimeout(this.naming); // a browser refuses many a second
    this.naming = setTimeout(() => history.replaceState(null, "", `#item=${encodeURIComponent(this.items.id[row])}`), 150);
    document.title = `${this.items.id[row]} · hms browse`;
    try {
      const item = await this.items_.get(`item/${row}`);
      if (this.row !== row) return;
      this.item = item;
      this.start = this.homeOf(item);
    } catch (error) {
      this.item = null; this.page = null; this.say(error.message); this.draw(); this.tell();
      at("traces").dataset.shown = this.items.id[row];
      return;
    }
    this.tell();
    await this.load();
    at("traces").dataset.took = Math.round(performance.now() - began);
    this.prefetch();
  }

  prefetch() {
    for (const by of [1, -1]) {
      const row = this.list.shown[this.list.at + by];
      if (row === undefined) continue;
      this.items_.get(`item/${row}`).then((item) => this.pages.get(`traces/${this.pathOf(row, this.homeOf(item))}`)).catch(() => {});
    }
  }

  async load() {
    const { row } = this, path = `traces/${this.pathOf(row, this.start)}`;
    this.asked = path;
    try {
      const page = await this.pages.get(path);
      if (this.asked !== path) return;
      this.page = page;
      this.say(page.missing);
    } catch (error) {
      if (this.asked !== path) return;
      this.page = null;
      this.say(error.message);
    }
    this.lane = Math.min(this.lane, Math.max(0, (this.page?.names.length ?? 1) - 1));
    this.draw();
    at("traces").dataset.shown = this.items.id[row];
  }

  say(text) { at("missing").textContent = text; at("missing").hidden = !text; }

  scroll(by) {
    if (!this.page) return;
    const last = Math.max(0, this.page.duration_s - this.length);
    this.start = Math.min(Math.max(0, this.start + by), Math.max(last, 0));
    this.stretch = this.anchor = null;
    this.load();
  }

  home() { if (this.item) { this.start = this.homeOf(this.item); this.load(); } }

  // --- drawing ----------------------------------------------------------------------------------

  draw() {
    if (at("item").hidden) return;
    this.drawTraces();
    this.state();
    this.drawScalograms();
    this.drawMap();
    this.drawCursor();
  }

  state() {
    const bold = (text) => element("b", "", text);
    const band = this.band === "prepared" ? `${this.about.band}, as prepared` : "as recorded, minus each channel's median over the page";
    const notch = this.notch ? `, notch ${this.notch} Hz` : "";
    const shown = this.page?.missing.startsWith("The recording cannot") ? "what the package holds" : this.about.montages[this.montage];
    at("stated").replaceChildren(bold("Negative up"), " · ", bold(`${band}${notch}`), " · ", bold(shown), " · ", bold(`${this.gain} µV/mm`), " (mm of CSS)", this.page?.sides.includes("ekg") ? ", EKG at a tenth of it" : "", this.cut ? ` · ${this.cut} rows are cut at the next; ↓ makes them smaller` : "");
  }

  /** Return where each lane lies: its middle, all of one height, with room between chains. */
  lanes(names) {
    const gaps = names.map((name, k) => (k > 0 && this.chainOf(names[k - 1]) !== this.chainOf(name) ? CHAIN_GAP : 0));
    const total = names.length + gaps.reduce((a, b) => a + b, 0) + 0.6;
    const free = innerHeight - at("board").getBoundingClientRect().top - scrollY - 4 * this.band_() - AXIS - 40;
    const high = Math.min(MOST_LANE, Math.max(LEAST_LANE, free / total));
    let y = 0.3 * high;
    const middles = names.map((_, k) => { y += gaps[k] * high; const middle = y + high / 2; y += high; return middle; });
    return { high, middles, bottom: y + 0.3 * high };
  }

  band_() { const n = this.item?.outputs?.length ?? 0; return n ? Math.max(14, Math.min(38, 150 / n)) : 0; }

  /** A chain goes on as long as pairs share an electrode; electrodes by side. */
  chainOf(name) {
    const { names, sides } = this.page, k = names.indexOf(name);
    if (!name.includes("-")) return sides[k];
    let first = k;
    while (first > 0 && names[first - 1].split("-")[1] === names[first].split("-")[0]) first--;
    return names[first];
  }

  x(time) { return ((time - this.start) / this.length) * this.width; }

  drawTraces() {
    const { page } = this, names = page?.names ?? [], canvas = at("traces");
    const lanes = (this.geometry = this.lanes(names));
    const [context, width] = sized(canvas, lanes.bottom + AXIS);
    this.width = width - MARGIN;
    at("names").style.height = `${lanes.bottom + AXIS}px`;
    this.background(context, lanes.bottom);
    this.cut = names.filter((name, k) => this.drawTrace(context, k, lanes)).length;
    this.drawAxis(context, lanes.bottom);
    if (page) this.drawBar(context, lanes.bottom);
    at("names").replaceChildren(...names.map((name, k) => this.makeName(name, k, lanes.middles[k])));
    canvas.setAttribute("aria-label", page
      ? `Traces of ${names.length} rows from ${this.start.toFixed(1)} s to ${(this.start + this.length).toFixed(1)} s, negative up, ${this.gain} µV per mm.`
      : "No traces.");
  }

  background(context, bottom) {
    const { page, item } = this, fill = (name, from, to) => {
      const left = Math.max(0, this.x(from)), right = Math.min(this.width, this.x(to));
      if (right > left) { context.fillStyle = colour(name); context.fillRect(left, 0, right - left, bottom); }
    };
    if (item?.window_start_s !== undefined) fill("window", item.window_start_s, item.window_start_s + this.about.window_s);
    if (page) {
      for (const [from, to] of page.gaps) fill("gap", from, Math.max(to, from + this.length / this.width));
      fill("void", this.start, 0);
      fill("void", page.duration_s, this.start + this.length);
    }
    context.lineWidth = 1;
    for (let s = Math.ceil(this.start); s <= this.start + this.length; s++) {
      context.strokeStyle = colour(this.length > 20 && s % 5 ? "grid" : "second");
      const x = Math.round(this.x(s)) + 0.5;
      context.beginPath(); context.moveTo(x, 0); context.lineTo(x, bottom); context.stroke();
    }
    if (item?.window_start_s === undefined) return;
    context.strokeStyle = colour("edge");
    context.lineWidth = 2;
    for (const edge of [item.window_start_s, item.window_start_s + this.about.window_s]) {
      const x = Math.min(Math.max(this.x(edge), 1), this.width - 1);
      if (Math.abs(x - this.x(edge)) < 2) { context.beginPath(); context.moveTo(x, 0); context.lineTo(x, bottom); context.stroke(); }
    }
  }

  /** Draw a row, cut at the lines of the next rows and above the axis; tells whether it was cut. */
  drawTrace(context, k, { middles, high, bottom }) {
    const { page } = this, [, n] = page.arrays.values.shape, samples = page.arrays.values.values.subarray(k * n, (k + 1) * n);
    const perUv = (PX_PER_MM / this.gain) * (page.sides[k] === "ekg" ? EKG_SHARE : 1), middle = middles[k];
    const top = Math.max(0, middle - high), low = Math.min(bottom, middle + high);
    const place = (s) => ((page.start_s - this.start + s / page.sfreq) / this.length) * this.width;
    context.save();
    context.beginPath(); context.rect(0, top, this.width, low - top); context.clip();
    context.strokeStyle = colour(page.dead[k] ? "dead" : page.sides[k]);
    context.lineWidth = k === this.lane && this.time !== null ? 1.5 : 0.9;
    context.lineJoin = "round";
    context.beginPath();
    const step = Math.floor(n / this.width / 2);
    if (step < 2) {
      let pen = false;
      for (let s = 0; s < n; s++) {
        const v = samples[s];
        if (Number.isNaN(v)) { pen = false; continue; }
        if (pen) context.lineTo(place(s), middle + v * perUv); else context.moveTo(place(s), middle + v * perUv);
        pen = true;
      }
    } else {
      for (let s = 0; s < n; s += step) {
        let least = Infinity, most = -Infinity;
        for (let q = s; q < Math.min(s + step, n); q++) { if (samples[q] < least) least = samples[q]; if (samples[q] > most) most = samples[q]; }
        if (least > most) continue;
        context.moveTo(place(s), middle + least * perUv - 0.3); context.lineTo(place(s), middle + most * perUv + 0.3);
      }
    }
    context.stroke();
    context.restore();
    return samples.some((v) => middle + v * perUv < top || middle + v * perUv > low);
  }

  drawAxis(context, bottom) {
    context.fillStyle = colour("muted");
    context.strokeStyle = colour("muted");
    context.beginPath(); context.moveTo(0, bottom + 0.5); context.lineTo(this.width, bottom + 0.5); context.stroke();
    const every = [1, 2, 5, 10].find((s) => (this.width / this.length) * s > 42) ?? 20;
    for (let s = Math.ceil(this.start / every) * every; s <= this.start + this.length; s += every) {
      const x = this.x(s);
      context.textAlign = x < 14 ? "left" : x > this.width - 14 ? "right" : "center";
      context.fillText(`${s} s`, x, bottom + 14);
    }
  }

  drawBar(context, bottom) {
    const uv = BARS_UV.find((v) => (v * PX_PER_MM) / this.gain <= 60) ?? 5, high = (uv * PX_PER_MM) / this.gain;
    const x = this.width + 12, low = bottom / 2 + high / 2;
    context.strokeStyle = context.fillStyle = colour("ink");
    context.lineWidth = 2;
    context.beginPath(); context.moveTo(x, low - high); context.lineTo(x, low); context.stroke();
    context.textAlign = "center";
    context.fillText(`${uv}`, this.width + MARGIN / 2 + 6, low - high / 2);
    context.fillText("µV", this.width + MARGIN / 2 + 6, low - high / 2 + 13);
  }

  makeName(name, k, middle) {
    const { page, item } = this, label = element("li", page.sides[k], name);
    const flagged = name.split("-").filter((part) => item?.channels?.[part]);
    const costs = flagged.some((part) => item.channels[part].some(([flag]) => !this.about.harmless.includes(flag)));
    if (page.dead[k]) { label.classList.add("dead"); label.setAttribute("aria-label", `${name}, dead`); }
    if (flagged.length) {
      label.classList.add(costs ? "flagged" : "noted");
      label.title = flagged.map((part) => `${part}: ${item.channels[part].map(said).join(", ")}`).join("; ");
      label.setAttribute("aria-label", `${name}, flagged: ${label.title}`);
    }
    if (k === this.lane && this.time !== null) label.classList.add("chosen");
    label.style.top = `${middle}px`;
    return label;
  }

  drawScalograms() {
    const { item } = this, names = item?.outputs ?? [], high = this.band_(), canvas = at("scalograms");
    canvas.hidden = at("outputs").hidden = !names.length;
    if (!names.length) return;
    const [context] = sized(canvas, high * names.length);
    at("outputs").style.height = `${high * names.length}px`;
    context.fillStyle = colour("void");
    context.fillRect(0, 0, this.width, high * names.length);
    context.beginPath(); context.rect(0, 0, this.width, high * names.length); context.clip();
    const [, freqs, frames] = item.arrays.x.shape, left = this.x(item.window_start_s ?? 0), wide = (this.about.window_s / this.length) * this.width;
    names.forEach((name, k) => {
      const values = item.arrays.x.values.subarray(k * freqs * frames, (k + 1) * freqs * frames);
      context.drawImage(painted(values, freqs, frames, this.about.ramp), left, k * high, wide, high - 1);
    });
    if (high >= 30) this.drawHz(context, item.freqs, high);
    at("outputs").replaceChildren(...names.map((name, k) => {
      const label = element("li", "", name);
      label.style.top = `${(k + 0.5) * high}px`;
      return label;
    }));
    canvas.setAttribute("aria-label", `Scalograms of ${names.join(", ")}, ${item.freqs[0]} to ${item.freqs.at(-1)} Hz, on the same time axis.`);
  }

  drawHz(context, freqs, high) {
    const place = (hz) => { const k = freqs.findIndex((f) => f >= hz); return 1 - (k - (freqs[k] - hz) / (freqs[k] - (freqs[k - 1] ?? 0))) / (freqs.length - 1); };
    context.textAlign = "left";
    context.lineWidth = 3;
    context.strokeStyle = "#000a"; context.fillStyle = "#fff";
    for (const hz of [2, 8].filter((f) => f > freqs[0] && f < freqs.at(-1))) {
      const y = place(hz) * (high - 1) + 4;
      context.strokeText(`${hz} Hz`, 4, y); context.fillText(`${hz} Hz`, 4, y);
    }
  }

  drawMap() {
    const duration = Math.max(this.page?.duration_s ?? 0, this.start + this.length, 1), map = at("map");
    const set = (id, from, length) => { at(id).style.left = `${(100 * Math.max(0, from)) / duration}%`; at(id).style.width = `${(100 * length) / duration}%`; };
    const start = this.item?.window_start_s ?? 0;
    set("map-window", start, this.about.window_s);
    set("map-page", this.start, this.length);
    map.setAttribute("aria-valuemax", duration.toFixed(0));
    map.setAttribute("aria-valuenow", this.start.toFixed(0));
    map.setAttribute("aria-valuetext", `${this.start.toFixed(1)} s of ${duration.toFixed(1)} s; the window starts at ${start.toFixed(1)} s`);
    map.title = `${duration.toFixed(1)} s; dark: the window`;
  }

  // --- cursor, stretch and spectrum ---------------------------------------------------------------

  listen() {
    const board = at("board");
    const time = (event) => this.start + ((event.clientX - at("traces").getBoundingClientRect().left) / this.width) * this.length;
    board.addEventListener("pointermove", (event) => {
      if (!this.page && !this.item) return;
      this.time = Math.min(Math.max(time(event), this.start), this.start + this.length);
      const y = event.clientY - at("traces").getBoundingClientRect().top;
      this.overScalograms = y > this.geometry.bottom + AXIS ? y - this.geometry.bottom - AXIS : null;
      if (this.overScalograms === null && this.page) this.lane = nearest(this.geometry.middles, y);
      if (event.buttons === 1 && this.anchor !== null) this.stretch = [this.anchor, this.time].sort((a, b) => a - b);
      this.drawCursor();
    });
    board.addEventListener("pointerdown", (event) => { if (event.button === 0) { this.anchor = time(event); this.stretch = null; } });
    board.addEventListener("pointerup", () => {
      const long = this.stretch && this.stretch[1] - this.stretch[0] > 0.2;
      if (long) this.spectrum(); else this.stretch = null;
      this.anchor = null;
      this.drawCursor();
    });
    board.addEventListener("pointerleave", () => { this.time = null; this.drawCursor(); });
    at("map").addEventListener("click", (event) => {
      const box = at("map").getBoundingClientRect(), duration = this.page?.duration_s ?? 0;
      this.scroll(((event.clientX - box.left) / box.width) * duration - this.length / 2 - this.start);
    });
    addEventListener("resize", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Move the cursor by seconds, and rows. */
  move(seconds, rows) {
    if (!this.page) return;
    this.overScalograms = null;
    const from = this.time ?? this.start + this.length / 2;
    this.time = Math.min(Math.max(from + seconds, this.start), this.start + this.length - 1 / this.page.sfreq);
    this.lane = Math.min(Math.max(this.lane + rows, 0), this.page.names.length - 1);
    if (this.anchor !== null) this.stretch = [this.anchor, this.time].sort((a, b) => a - b);
    this.drawTraces();
    this.drawCursor();
  }

  setAnchor() {
    this.anchor = this.anchor === null ? this.time ?? this.start + this.length / 2 : null;
    this.time ??= this.anchor;
    if (this.anchor === null) this.stretch = null;
    this.drawCursor();
  }

  leaveCursor() {
    const was = this.time !== null || this.stretch !== null || !at("spectrum").hidden;
    this.time = this.anchor = this.stretch = null;
    at("spectrum").hidden = true;
    if (was) this.draw();
    return was;
  }

  drawCursor() {
    const left = at("traces").offsetLeft, line = at("cursor"), stretch = at("stretch");
    line.hidden = this.time === null;
    stretch.hidden = this.stretch === null;
    if (this.time !== null) line.style.left = `${left + this.x(this.time)}px`;
    if (this.stretch) { stretch.style.left = `${left + this.x(this.stretch[0])}px`; stretch.style.width = `${this.x(this.stretch[1]) - this.x(this.stretch[0])}px`; }
    at("readout").textContent = this.time === null ? "" : this.read();
  }

  read() {
    const { page, item, time } = this, into = item?.window_start_s === undefined ? "" : ` (window ${signed(time - item.window_start_s)} s)`;
    const marked = this.stretch ? ` · marked ${(this.stretch[1] - this.stretch[0]).toFixed(2)} s` : "";
    const when = `${time.toFixed(2)} s${into}`;
    if (this.overScalograms !== null && item?.arrays?.x) {
      const high = this.band_(), k = Math.floor(this.overScalograms / high), [n, freqs, frames] = item.arrays.x.shape;
      const frame = Math.floor(((time - item.window_start_s) / this.about.window_s) * frames);
      const f = Math.round((1 - (this.overScalograms - k * high) / high) * (freqs - 1));
      if (k < n && frame >= 0 && frame < frames) {
        const v = item.low + (item.arrays.x.values[(k * freqs + f) * frames + frame] / 255) * (item.high - item.low);
        return `${when} · ${item.outputs[k]} ${item.freqs[f].toFixed(1)} Hz · x ${v.toFixed(2)}${marked}`;
      }
    }
    if (!page) return when;
    const [, n] = page.arrays.values.shape, sample = Math.round((time - page.start_s) * page.sfreq);
    const v = page.arrays.values.values[this.lane * n + Math.min(Math.max(sample, 0), n - 1)];
    return `${when} · ${page.names[this.lane]} ${Number.isNaN(v) ? "no sample" : `${signed(v)} µV`}${marked}`;
  }

  /** Ask for the spectrum of the marked stretch, or of the page. */
  async spectrum() {
    if (!this.page) return;
    const [from, to] = this.stretch ?? [this.start, this.start + this.length];
    try {
      const found = await askJson(`spectrum/${this.pathOf(this.row, from, Math.max(Math.round((to - from) * 1000) / 1000, 0.05))}`);
      at("spectrum").hidden = false;
      this.drawSpectrum(found, from, to);
    } catch (error) { this.say(error.message); }
  }

  drawSpectrum({ names, freqs, power }, from, to) {
    const figure = at("spectrum"), canvas = figure.querySelector("canvas"), [context, width] = sized(canvas, 200);
    const all = power.filter(Boolean).flat(), high = Math.ceil(Math.max(...all) / 10) * 10, low = Math.max(Math.floor(Math.min(...all) / 10) * 10, high - 80);
    const right = freqs.at(-1), x = (hz) => 44 + ((width - 56) * hz) / right, y = (db) => 8 + (160 * (high - Math.max(db, low))) / Math.max(high - low, 1);
    context.fillStyle = colour("muted");
    context.strokeStyle = colour("grid");
    context.lineWidth = 1;
    for (let db = low; db <= high; db += high - low > 60 ? 20 : 10) { context.beginPath(); context.moveTo(44, y(db)); context.lineTo(width - 12, y(db)); context.stroke(); context.textAlign = "right"; context.fillText(db, 38, y(db) + 4); }
    for (let hz = 0; hz <= right; hz += 5) { context.textAlign = "center"; if (hz % 10 === 0) context.fillText(`${hz} Hz`, x(hz), 188); }
    const draw = (row, name, thick) => {
      if (!row) return;
      context.strokeStyle = colour(name); context.lineWidth = thick; context.beginPath();
      row.forEach((db, k) => (k ? context.lineTo(x(freqs[k]), y(db)) : context.moveTo(x(freqs[k]), y(db))));
      context.stroke();
    };
    power.forEach((row) => draw(row, "second", 1));
    const mine = power[this.lane];
    draw(mine, this.page.sides[this.lane], 2.2);
    const from1 = freqs.findIndex((hz) => hz >= 1), peak = !mine ? null : mine.indexOf(Math.max(...mine.slice(from1)));
    const text = `${names[this.lane]}, ${(to - from).toFixed(2)} s from ${from.toFixed(2)} s: ${peak === null ? "no spectrum, it has gaps" : `most power at ${freqs[peak].toFixed(1)} Hz`}. dB re 1 µV²/Hz; thin: the other rows.`;
    figure.querySelector("figcaption").textContent = text;
    canvas.setAttribute("aria-label", text);
  }

  // --- what is known of it ----------------------------------------------------------------------

  tell() {
    const { item, items, about, row } = this, box = at("about"), parts = [element("h2", "", items.id[row])];
    const heading = (text) => parts.push(element("h3", "", text));
    const line = (...texts) => { const p = element("p"); p.append(...texts); parts.push(p); return p; };
    if (about.marks) { heading(`Your mark (${about.marks.who})`); parts.push(this.judging()); }
    if (item) {
      line([item.patient && `Patient ${item.patient}`, item.window_start_s !== undefined && `window ${item.window_start_s}–${item.window_start_s + about.window_s} s`].filter(Boolean).join(" · "));
      if (item.problem) line(element("span", "flag", item.problem));
      if (item.reason) line(element("span", "flag", `Left out: ${item.reason}`));
      if (item.shares || item.predicted) { heading(item.shares ? `Votes: ${item.total}${item.predicted ? " · paler: prediction" : ""}` : "Prediction"); parts.push(this.bars(item)); }
      if (item.divergence !== undefined && item.divergence !== null && item.predicted && item.shares) line(`KL divergence ${item.divergence.toFixed(2)}${item.issue ? ` · rank ${item.issue} among the votes to look at again` : ""}`);
      if (item.grade) { heading("Grade"); line(swatch(about.grade_colours[about.grades.indexOf(item.grade)]), item.grade); }
      if (item.flags?.length) { heading("Flags"); parts.push(this.flags(item)); }
    }
    const others = (items.marks.get(row) ?? []).filter((mark) => !mark.own);
    if (others.length) { heading("Other readers"); for (const m of others) line(`${m.who}: ${[m.mark, m.votes, m.note].filter(Boolean).join(" · ")}`); }
    box.replaceChildren(...parts);
  }

  bars({ shares, predicted }) {
    const { about } = this, table = element("table");
    about.classes.forEach((name, k) => {
      const line = element("tr"), head = element("th", "", name), cell = element("td", "wide"), value = element("td");
      head.scope = "row";
      for (const [given, css] of [[shares, "bar"], [predicted, "bar predicted"]]) {
        if (!given?.[k]) continue;
        const bar = element("span", css);
        bar.style.width = `${100 * given[k]}%`;
        bar.style.background = about.class_colours[k];
        cell.append(bar);
      }
      value.textContent = [shares, predicted].filter(Boolean).map((given) => `${Math.round(100 * given[k])} %`).join(" · ");
      line.append(head, cell, value);
      table.append(line);
    });
    return table;
  }

  /** One line a flag, with its value or those of its electrodes; harmless ones last. */
  flags(item) {
    const box = element("ul"), { harmless } = this.about;
    const order = [...item.flags].sort((a, b) => harmless.includes(a[0]) - harmless.includes(b[0]));
    for (const [flag, value] of order) {
      const where = Object.entries(item.channels).flatMap(([name, flags]) => flags.filter(([f]) => f === flag).map(([, v]) => `${name} ${v}`.trim()));
      const line = element("li", harmless.includes(flag) ? "" : "flag", said([flag, ""]));
      line.append(element("span", "sub", ` ${where.join(", ") || value}${harmless.includes(flag) ? " (harmless)" : ""}`));
      box.append(line);
    }
    return box;
  }

  judging() {
    const box = element("div"), mark = this.items.markOf(this.row), row = element("div", "judge");
    for (const [name, text, key] of [["keep", "Keep", "y"], ["exclude", "Exclude", "x"], ["doubt", "Doubt", "d"]]) {
      const button = element("button", "", text);
      button.type = "button";
      button.dataset.do = name;
      button.setAttribute("aria-pressed", mark?.mark === name);
      button.setAttribute("aria-keyshortcuts", key);
      row.append(button);
    }
    for (const [name, text] of [["note", "Note…"], ["vote", "Votes…"], ["undo", "Undo"]]) {
      const button = element("button", "", text);
      button.type = "button";
      button.dataset.do = name;
      row.append(button);
    }
    box.append(row);
    if (mark?.votes) box.append(element("p", "", `Proposed: ${mark.votes.replaceAll(";", ", ").replaceAll("=", " ")}`));
    if (mark?.note) box.append(element("p", "", `“${mark.note}”`));
    return box;
  }
}

const said = ([flag, value]) => `${flag.replaceAll("_", " ")} ${value}`.trim();
const nearest = (places, y) => places.reduce((best, place, k) => (Math.abs(place - y) < Math.abs(places[best] - y) ? k : best), 0);
const signed = (v) => `${v < 0 ? "−" : "+"}${Math.abs(v).toFixed(v > -10 && v < 10 ? 2 : 1)}`;
