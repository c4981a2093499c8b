// A card for each photograph: the picture with heat, and the classes to choose from.

let opacity = 0.65;
const cards = new Map(); // by element: its photograph and what was found

/** Add a card that waits. */
function addCard(name) {
  const status = make("p", { className: "waiting", textContent: "Waiting" });
  const card = make(
    "article",
    { className: "card result" },
    make("div", { className: "picture" }),
    make(
      "div",
      { className: "found" },
      make("h3", { dir: "auto", title: name }, ...breakable(short(name))),
      status,
      make("div", { className: "actions" }, removal()),
    ),
  );
  find("#results").append(card);
  showToolbar();
  return card;
}

function removal() {
  const button = make("button", { type: "button", className: "remove" }, "Remove");
  button.addEventListener("click", () => {
    const card = button.closest(".card");
    cards.delete(card);
    card.remove();
    showToolbar();
    find("#choose").focus();
  });
  return button;
}

function showToolbar() {
  find("#tools").hidden = !find("#results").children.length;
}

function setStatus(card, text) {
  find(".waiting", card).textContent = text;
}

function refuseCard(card, text) {
  card.classList.add("refused");
  const status = find(".waiting", card);
  status.className = "problem";
  status.setAttribute("role", "alert");
  status.textContent = text;
}

/** Show the picture while the model still looks at it. */
function showPicture(card, photograph) {
  const canvas = make("canvas", { role: "img", "aria-label": "The photograph" });
  Object.assign(canvas, { width: photograph.view.width, height: photograph.view.height });
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(photograph.view, 0, 0);
  find(".picture", card).replaceChildren(canvas);
}

function showFound(card, photograph, found) {
  const shares = probabilities(found.logits);
  card.found = { ...found, probabilities: shares };
  cards.set(card, { photograph, found, chosen: 0 });
  const best = found.targets[0];
  const group = `classes-${++groups}`;
  const rows = found.targets.map((target, number) => {
    const radio = make("input", { type: "radio", name: group, value: String(number), checked: number === 0 });
    radio.addEventListener("change", () => {
      cards.get(card).chosen = number;
      drawCard(card);
    });
    const bar = make("span", { className: "bar-fill" });
    bar.style.width = `${100 * shares[target]}%`;
    return make(
      "label",
      { className: "class" },
      radio,
      make("span", { className: "class-name", dir: "auto", title: report.class_names[target] }, report.class_names[target]),
      make("output", {}, percent(shares[target])),
      make("span", { className: "bar-line", "aria-hidden": "true" }, bar),
    );
  });
  const list = make("fieldset", { className: "classes" }, make("legend", {}, "Show what spoke for"), ...rows);
  const others = report.class_names.length - rows.length;
  const left = 1 - found.targets.reduce((sum, target) => sum + shares[target], 0);
  const rest =
    others && !report.multilabel
      ? make("p", { className: "rest" }, `${others === 1 ? "1 other class" : `${others} other classes`}: ${percent(Math.max(0, left))}`)
      : null;
  const save = make("button", { type: "button" }, "Save picture");
  save.addEventListener("click", () => savePicture(card));
  const verdict = make("p", { className: "verdict", dir: "auto" }, `${short(report.class_names[best])}, ${percent(shares[best])}`);
  const note = photograph.transparent ? make("p", { className: "rest" }, "Transparent parts of this picture count as black.") : null;
  find(".waiting", card).replaceWith(...[verdict, list, rest, note].filter(Boolean));
  find(".remove", card).before(save);
  drawCard(card);
}
let groups = 0;

/** The part of a picture that the model saw, and how much of it the heatmap covers, in pixels of the picture. */
function seenPart(width, height) {
  const { resize, crop_pct: kept } = report.image;
  const side = Math.max(1, Math.min(width, height, nearest(Math.min(width, height) * kept)));
  const [w, h] = resize === "squash" ? [width, height] : [side, side];
  return { left: Math.floor((width - w) / 2), top: Math.floor((height - h) / 2), width: w, height: h };
}

function drawCard(card) {
  const { photograph, found, chosen } = cards.get(card);
  const canvas = find("canvas", card);
  const { width, height } = canvas;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(photograph.view, 0, 0);
  const name = report.class_names[found.targets[chosen]];
  canvas.setAttribute("aria-label", `The photograph; bright where it spoke for ${name}`);
  if (!(opacity > 0)) return;
  const seen = seenPart(width, height);
  const part = context.getImageData(seen.left, seen.top, seen.width, seen.height);
  const all = context.getImageData(0, 0, width, height);
  drain(all.data);
  context.putImageData(all, 0, 0);
  glow(part.data, placed(found, chosen, seen), opacity, false);
  context.putImageData(part, seen.left, seen.top);
}

/** A heatmap on the pixels of the part that the model saw; patches may end before it, or reach beyond. */
function placed({ heatmaps, h, w }, number, seen) {
  const map = { h, w, values: heatmaps.subarray(number * h * w, (number + 1) * h * w) };
  const [down, across] = report.extent.map((side) => side / report.image.size);
  if (down === 1 && across === 1) return upsample(map, seen.width, seen.height);
  const [width, height] = [Math.max(1, Math.round(seen.width * across)), Math.max(1, Math.round(seen.height * down))];
  const large = upsample(map, width, height);
  const heat = new Float32Array(seen.width * seen.height);
  for (let y = 0; y < Math.min(height, seen.height); y++) {
    heat.set(large.subarray(y * width, y * width + Math.min(width, seen.width)), y * seen.width);
  }
  return heat;
}

/** Take most of the color from what the model did not see, as from what lies under the heat. */
function drain(pixels) {
  const drained = 0.65 * Math.min(1, opacity / 0.65);
  for (let at = 0; at < pixels.length; at += 4) {
    const grey = (drained * (pixels[at] + pixels[at + 1] + pixels[at + 2])) / 3;
    for (let c = 0; c < 3; c++) pixels[at + c] = (1 - drained) * pixels[at + c] + grey;
  }
}

function savePicture(card) {
  const { found, chosen } = cards.get(card);
  const name = `${find("h3", card).title.replace(/\.[^.]*$/, "")}.${report.class_names[found.targets[chosen]]}.png`;
  find("canvas", card).toBlob((blob) => {
    const link = make("a", { href: URL.createObjectURL(blob), download: name.replace(/[^\p{L}\p{N} ._-]/gu, "_") });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
