/** Small pictures of the items under the filter: waveforms of the package over its scalograms. */

import { element, swatch } from "./list.js";
import { askArrays, Kept } from "./server.js";
import { painted } from "./view.js";

const WIDTH = 236, HEIGHT = 176, GAP = 10, PICTURE = [222, 136], BATCH = 24;

export class Tiles {
  constructor(list) {
    this.list = list;
    this.box = document.getElementById("pictures");
    this.kept = new Kept((path) => askArrays(path), 12);
    this.floor = element("div");
    this.box.append(this.floor);
    this.box.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()));
    addEventListener("resize", () => this.draw());
    list.changed.push(() => this.draw());
  }

  get across() { return Math.max(1, Math.floor((this.box.clientWidth - GAP) / (WIDTH + GAP))); }

  draw() {
    if (this.box.closest("section").hidden) return;
    const { shown } = this.list, { across } = this, high = HEIGHT + GAP;
    this.floor.style.height = `${Math.ceil(shown.length / across) * high + GAP}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / high) - 1) * across;
    const last = Math.min(shown.length, first + (Math.ceil(this.box.clientHeight / high) + 2) * across);
    const tiles = [];
    for (let k = first; k < last; k++) tiles.push(this.makeTile(k, across));
    this.floor.replaceChildren(...tiles);
  }

  makeTile(k, across) {
    const { items, shown } = this.list, i = shown[k], tile = element("div", "tile");
    tile.setAttribute("role", "option");
    tile.setAttribute("aria-selected", k === this.list.at);
    tile.style.width = `${WIDTH}px`;
    tile.style.left = `${GAP + (k % across) * (WIDTH + GAP)}px`;
    tile.style.top = `${GAP + Math.floor(k / across) * (HEIGHT + GAP)}px`;
    const title = element("p");
    if (items.class?.[i] >= 0) title.append(swatch(items.about.class_colours[items.class[i]]));
    const mark = items.markOf(i);
    title.append([items.id[i], items.grade && items.about.grades[items.grade[i]], mark?.mark].filter(Boolean).join(" · "));
    const canvas = element("canvas");
    tile.append(title, canvas);
    tile.setAttribute("aria-label", title.textContent);
    tile.addEventListener("click", () => { this.list.at = k; this.list.open(); });
    this.fill(canvas, k, i);
    return tile;
  }

  async fill(canvas, k, i) {
    const from = Math.floor(k / BATCH) * BATCH;
    const rows = Array.from(this.list.shown.slice(from, from + BATCH));
    const found = await this.kept.get(`thumbs?rows=${rows.join(",")}`).catch(() => null);
    if (!found || !canvas.isConnected) return;
    drawThumb(canvas, found.arrays[`w${i}`], found.arrays[`x${i}`], this.list.items.about.ramp);
  }

  step(by) {
    const moved = this.list.step(by);
    const top = Math.floor(this.list.at / this.across) * (HEIGHT + GAP);
    if (top < this.box.scrollTop || top > this.box.scrollTop + this.box.clientHeight - HEIGHT) this.box.scrollTop = top - HEIGHT / 2;
    this.draw();
    return moved;
  }
}

function drawThumb(canvas, wave, x, ramp) {
  const [width, height] = PICTURE, scale = devicePixelRatio || 1;
  canvas.width = width * scale; canvas.height = height * scale;
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const style = getComputedStyle(canvas);
  if (!wave && !x) { context.fillStyle = style.color; context.fillText("nothing in the package", 8, 20); return; }
  const high = wave && x ? height / 2 - 3 : height;
  if (wave) {
    const [n, , points] = wave.shape, lane = high / n, perUv = lane / 160;
    context.strokeStyle = style.color;
    context.lineWidth = 0.8;
    for (let r = 0; r < n; r++) {
      const middle = lane * (r + 0.5), base = r * 2 * points;
      context.save();
      context.beginPath(); context.rect(0, middle - lane, width, 2 * lane); context.clip();
      context.beginPath();
      for (let p = 0; p < points; p++) {
        const place = (p / points) * width;
        context.moveTo(place, middle + wave.values[base + p] * perUv - 0.4);
        context.lineTo(place, middle + wave.values[base + points + p] * perUv + 0.4);
      }
      context.stroke();
      context.restore();
    }
  }
  if (x) {
    const [n, freqs, frames] = x.shape, lane = high / n, top = height - high;
    for (let r = 0; r < n; r++) {
      const picture = painted(x.values.subarray(r * freqs * frames, (r + 1) * freqs * frames), freqs, frames, ramp);
      context.drawImage(picture, 0, top + r * lane, width, lane - 1);
    }
  }
}
