// Drawing on canvases: pictures, heat over them, objects around them, pixels gone from them.

/** Bilinear, as the figures are computed, scaled to 0 … 1 by its own extremes; of a signed map 0.5 stays neutral. */
function upsample(map, width, height) {
  const axis = (from, to) => {
    const low = new Int32Array(to);
    const high = new Int32Array(to);
    const weight = new Float32Array(to);
    for (let i = 0; i < to; i++) {
      const at = Math.max(0, ((i + 0.5) * from) / to - 0.5);
      low[i] = Math.min(from - 1, Math.floor(at));
      high[i] = Math.min(from - 1, low[i] + 1);
      weight[i] = at - low[i];
    }
    return [low, high, weight];
  };
  const [left, right, across] = axis(map.w, width);
  const [above, below, down] = axis(map.h, height);
  const large = new Float32Array(width * height);
  let least = Infinity;
  let most = -Infinity;
  for (let y = 0; y < height; y++) {
    const top = above[y] * map.w;
    const bottom = below[y] * map.w;
    for (let x = 0; x < width; x++) {
      const one = map.values[top + left[x]] * (1 - across[x]) + map.values[top + right[x]] * across[x];
      const two = map.values[bottom + left[x]] * (1 - across[x]) + map.values[bottom + right[x]] * across[x];
      const value = Math.fround(one * (1 - down[y]) + two * down[y]); // as it is stored, or extremes leave 0 … 1
      large[y * width + x] = value;
      if (value < least) least = value;
      if (value > most) most = value;
    }
  }
  if (map.signed) {
    const reach = Math.max(most - 0.5, 0.5 - least);
    least = 0.5 - reach;
    most = 0.5 + reach;
  }
  const span = most - least;
  for (let i = 0; i < large.length; i++) large[i] = span > 0 ? (large[i] - least) / span : 0;
  return large;
}

/** Prepare a canvas for a picture, enlarged by a whole factor where it is tiny; returns context and factor. */
function prepare(canvas, facts, least) {
  const factor = Math.max(1, Math.ceil(least / Math.max(facts.pw, facts.ph)));
  canvas.width = facts.pw * factor;
  canvas.height = facts.ph * factor;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = Math.max(facts.pw, facts.ph) >= 96; // tiny drawings keep their pixels
  return [context, factor];
}

/** The picture with heat and objects, as chosen. `least` is the side that tiny pictures are enlarged to. */
function paint(canvas, image, facts, view, { method, opacity, boxes, masks, least = 200 }) {
  const [context, factor] = prepare(canvas, facts, least);
  const { width, height } = canvas;
  context.drawImage(image, 0, 0, width, height);
  const map = opacity > 0 ? heatmap(view, method) : null;
  const mask = masks && view.mask !== null ? maskPixels(view.mask, facts.pw * facts.ph) : null;
  if (map || mask) {
    const frame = context.getImageData(0, 0, width, height);
    if (map) glow(frame.data, upsample(map, width, height), opacity, map.signed);
    if (mask) outline(frame.data, mask, facts, factor, width, height);
    context.putImageData(frame, 0, 0);
  }
  if (boxes) drawBoxes(context, view.boxes, width / facts.w, height / facts.h);
}

/** The project's overlay: the picture drained of most of its colour, the heat on top. */
function glow(pixels, heat, opacity, signed) {
  const table = signed ? signedColors : colors;
  const drained = 0.65 * Math.min(1, opacity / 0.65);
  for (let i = 0; i < heat.length; i++) {
    const color = 3 * Math.min(255, Math.floor(heat[i] * 256));
    const cover = opacity * (signed ? Math.abs(2 * heat[i] - 1) : 0.35 + 0.65 * heat[i]);
    const at = 4 * i;
    const grey = (drained * (pixels[at] + pixels[at + 1] + pixels[at + 2])) / 3;
    for (let c = 0; c < 3; c++) {
      pixels[at + c] = ((1 - drained) * pixels[at + c] + grey) * (1 - cover) + table[color + c] * cover;
    }
  }
}

function outline(pixels, mask, facts, factor, width, height) {
  const inside = (x, y) => {
    if (x < 0 || y < 0 || x >= width || y >= height) return 0;
    return mask[Math.floor(y / factor) * facts.pw + Math.floor(x / factor)];
  };
  const reach = Math.max(1, Math.round(width / 200));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = inside(x, y);
      const edge =
        inside(x - reach, y) !== here || inside(x + reach, y) !== here ||
        inside(x, y - reach) !== here || inside(x, y + reach) !== here;
      if (edge) pixels.fill(here ? 255 : 0, 4 * (y * width + x), 4 * (y * width + x) + 3);
    }
  }
}

function drawBoxes(context, boxes, across, down) {
  const line = Math.max(1, context.canvas.width / 150);
  for (const [color, thick] of [["#000", 2.4 * line], ["#fff", line]]) {
    context.strokeStyle = color;
    context.lineWidth = thick;
    for (const [left, top, right, bottom] of boxes) {
      context.strokeRect(left * across, top * down, (right - left) * across, (bottom - top) * down);
    }
  }
}

/** Pixel numbers in the order in which they go: the hottest first, or the coldest first. */
function removalOrder(heat, hottest) {
  const keys = new Float64Array(heat.length);
  for (let i = 0; i < heat.length; i++) {
    const value = Math.round((hottest ? 1 - heat[i] : heat[i]) * 2 ** 30);
    keys[i] = value * 2 ** 20 + (heat.length - 1 - i); // among equals the later goes first
  }
  keys.sort();
  const order = new Uint32Array(heat.length);
  for (let i = 0; i < order.length; i++) order[i] = heat.length - 1 - (keys[i] % 2 ** 20);
  return order;
}

/** The picture without the first `count` pixels of `order`. */
function paintRemoved(canvas, image, facts, order, count) {
  const [context] = prepare(canvas, facts, 0);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const frame = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < count; i++) frame.data.set(report.fill, 4 * order[i]);
  context.putImageData(frame, 0, 0);
}

function paintScale(canvas) {
  const context = canvas.getContext("2d");
  const frame = context.createImageData(256, 1);
  for (let i = 0; i < 256; i++) frame.data.set([colors[3 * i], colors[3 * i + 1], colors[3 * i + 2], 255], 4 * i);
  context.putImageData(frame, 0, 0);
}
