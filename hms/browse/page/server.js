/** What is asked of the server: JSON, and pages in one piece of JSON and arrays. */

const TYPES = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array };

async function answered(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the viewer does not answer: it was stopped; what was confirmed is saved");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let problem = text;
  try { problem = JSON.parse(text).problem ?? text; } catch { /* words that are no JSON */ }
  throw new Error(problem);
}

export const askJson = async (path, options) => (await answered(path, options)).json();

export async function askArrays(path, options) {
  const buffer = await (await answered(path, options)).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const arrays = {};
  for (const { name, shape, type } of told.arrays) {
    const size = shape.reduce((a, b) => a * b, 1), Kind = TYPES[type];
    arrays[name] = { shape, values: new Kind(buffer, at, size) };
    at += Math.ceil((size * Kind.BYTES_PER_ELEMENT) / 4) * 4;
  }
  return { ...told, arrays };
}

export const sendMark = (row, mark) => askJson(`marks/${row}`, {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(mark),
});

/** Keeps the last few answers by what was asked, so that going back asks for nothing. */
export class Kept {
  constructor(ask, most) { this.ask = ask; this.most = most; this.known = new Map(); }

  get(path) {
    const found = this.known.get(path) ?? this.ask(path);
    this.known.delete(path);
    this.known.set(path, found);
    found.catch(() => { if (this.known.get(path) === found) this.known.delete(path); });
    while (this.known.size > this.most) this.known.delete(this.known.keys().next().value);
    return found;
  }
}
