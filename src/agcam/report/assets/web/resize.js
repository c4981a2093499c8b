// Resizing as the command does it, which is OpenCV's: canvases have filters of their own, and so would probabilities.

/** The whole number nearest to a value; of two the even one. */
function nearest(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/** How a photograph becomes what the model takes: its size then, where the model's square lies in it, and the filter. */
function plan(width, height, input) {
  const { size, resize, shorter, interpolation } = input;
  if (resize === "squash") {
    const smaller = size < width || size < height;
    const filter = !smaller ? interpolation : size <= width && size <= height ? "area" : "mixed";
    return { width: size, height: size, left: 0, top: 0, filter };
  }
  const scale = shorter / Math.min(width, height);
  const to = [width, height].map((side) => Math.max(1, nearest(side * scale)));
  const [left, top] = to.map((side) => Math.floor((side - size) / 2));
  return { width: to[0], height: to[1], left, top, filter: scale < 1 ? "area" : interpolation };
}

/** What each of the pixels `start` … `start + count` of `to` is made of: pixels of `from` and their weights. */
function weigh(from, to, start, count, filter) {
  const scale = 1 / (to / from); // rounded as there
  const inside = (at) => Math.min(from - 1, Math.max(0, at));
  const found = [];
  for (let i = start; i < start + count; i++) {
    if (filter === "area") found.push(weighArea(i * scale, scale, from));
    else if (filter === "nearest") found.push({ pixels: [inside(Math.floor(i * scale))], weights: [1] });
    else {
      let at = (i + 0.5) * scale - 0.5;
      if (filter === "mixed") {
        // one side shrinks while the other grows: OpenCV takes two neighbors, placed like areas
        const low = Math.floor(i * scale);
        const rest = i + 1 - (low + 1) / scale;
        at = low + (rest <= 0 ? 0 : rest - Math.floor(rest));
      }
      const low = Math.floor(at);
      const weights = filter === "bicubic" ? cubic(at - low) : [1 - (at - low), at - low];
      const first = filter === "bicubic" ? low - 1 : low;
      found.push({
        pixels: weights.map((_, tap) => inside(first + tap)),
        weights: weights.map((weight) => nearest(weight * 2048) / 2048), // of 11 bits, as there
      });
    }
  }
  return found;
}

function weighArea(begin, scale, from) {
  const end = begin + scale;
  const cell = Math.min(scale, from - begin);
  const last = Math.min(Math.floor(end), from - 1);
  const first = Math.min(Math.ceil(begin), last);
  const pixels = [];
  const weights = [];
  const add = (pixel, share) => {
    pixels.push(pixel);
    weights.push(share / cell);
  };
  if (first - begin > 1e-3) add(first - 1, first - begin);
  for (let pixel = first; pixel < last; pixel++) add(pixel, 1);
  if (end - last > 1e-3) add(last, Math.min(end - last, 1, cell));
  return { pixels, weights };
}

function cubic(at) {
  const sharp = -0.75;
  const near = (x) => ((sharp + 2) * x - (sharp + 3)) * x * x + 1;
  const far = (x) => ((sharp * x - 5 * sharp) * x + 8 * sharp) * x - 4 * sharp;
  const three = [far(at + 1), near(at), near(1 - at)];
  return [...three, 1 - three[0] - three[1] - three[2]];
}

/** The model's square of a photograph, (size, size, 3) bytes. `rows(y, count)` gives RGBA of some rows. */
function resizePhotograph(width, height, rows, input) {
  const { size } = input;
  const to = plan(width, height, input);
  const across = weigh(width, to.width, to.left, size, to.filter);
  const down = weigh(height, to.height, to.top, size, to.filter);
  const first = Math.min(...down.map((each) => Math.min(...each.pixels)));
  const count = Math.max(...down.map((each) => Math.max(...each.pixels))) - first + 1;
  const narrow = new Float32Array(count * size * 3);
  const strip = Math.max(1, Math.floor(2 ** 22 / width));
  for (let y = 0; y < count; y += strip) {
    const taken = Math.min(strip, count - y);
    const pixels = rows(first + y, taken);
    for (let row = 0; row < taken; row++) {
      for (let x = 0; x < size; x++) {
        const each = across[x];
        let [red, green, blue] = [0, 0, 0];
        for (let tap = 0; tap < each.pixels.length; tap++) {
          const at = 4 * (row * width + each.pixels[tap]);
          red += each.weights[tap] * pixels[at];
          green += each.weights[tap] * pixels[at + 1];
          blue += each.weights[tap] * pixels[at + 2];
        }
        narrow.set([red, green, blue], 3 * ((y + row) * size + x));
      }
    }
  }
  // averages of four pixels, which OpenCV adds as whole numbers, round upwards
  const halves = to.filter === "area" && width === 2 * to.width && height === 2 * to.height;
  const made = new Uint8ClampedArray(size * size * 3);
  for (let y = 0; y < size; y++) {
    for (let i = 0; i < size * 3; i++) {
      let value = 0;
      for (let tap = 0; tap < down[y].pixels.length; tap++) {
        value += down[y].weights[tap] * narrow[(down[y].pixels[tap] - first) * size * 3 + i];
      }
      made[y * size * 3 + i] = halves ? Math.floor(value + 0.5) : nearest(value);
    }
  }
  return new Uint8Array(made.buffer);
}
