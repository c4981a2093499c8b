// The page's data: parsed once, decoded where it is looked at.

const report = JSON.parse(document.getElementById("data").textContent);
const find = (selector, root = document) => root.querySelector(selector);

/** A new element: properties, then children (text is only ever text). */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function bytes(text) {
  const raw = atob(text);
  const found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

const colors = bytes(report.lut);
const signedColors = bytes(report.signed_lut);

/** {h, w, values, signed} of a method's heatmap, values in 0 … 1, of signed ones 0.5 neutral; null where there is none. */
function heatmap(view, method) {
  const packed = view.maps[method];
  if (!packed) return null;
  const raw = bytes(packed[2]);
  const values = new Float32Array(packed[0] * packed[1]);
  for (let i = 0; i < values.length; i++) values[i] = (raw[2 * i] | (raw[2 * i + 1] << 8)) / 65535;
  return { h: packed[0], w: packed[1], values, signed: Boolean(packed[3]) };
}

/** A mask's pixels as 0 and 1, from the lengths of its runs. */
function maskPixels(number, size) {
  const pixels = new Uint8Array(size);
  let at = 0;
  let on = 0;
  for (const run of report.masks[number]) {
    if (on) pixels.fill(1, at, at + run);
    at += run;
    on = 1 - on;
  }
  return pixels;
}

/** Replace what is in `root` and keep the focus: on the same element, or on the one with the same id or data-key. */
function keepFocus(root, replace) {
  const had = root.contains(document.activeElement) ? document.activeElement : null;
  replace();
  if (!had || document.activeElement === had) return;
  const key = had.id || had.dataset.key;
  const again = had.isConnected ? had : [...root.querySelectorAll("[id], [data-key]")].find((e) => key && (e.id || e.dataset.key) === key);
  again?.focus({ preventScroll: true });
}

/** The last part of a path, which is what people call an image. */
const lastPart = (name) => name.split("/").pop() || name;
const short = (text, length = 80) => (text.length > length ? [...text].slice(0, length).join("") + "…" : text);
/** Text that may be broken where names are joined, as `breakable` in page.py. */
const breakable = (text) => (text.match(/[^_:=,/.-]*[_:=,/.-]|[^_:=,/.-]+/g) ?? []).flatMap((part) => [part, make("wbr")]);
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)}\u00a0%`);
const decimal = (value) => (value === null || value === undefined ? "–" : Number(value.toFixed(3)).toString());
