// A closer look at one image: picture and heatmap side by side, all methods, all epochs, values, and pixel removal.

const dialog = find("#detail");
let current = null;
const removal = { order: "morf", step: 0 };
const STRIP = 12;

function openDetail(image) {
  current = image;
  if (!dialog.open) dialog.showModal();
  showDetail();
  find(".body", dialog).scrollTop = 0;
  find("#close", dialog).focus({ preventScroll: true });
}

function step(by) {
  const next = order[order.indexOf(current) + by];
  if (!next) return;
  current = next;
  showDetail();
}

function showDetail() {
  const image = current;
  const view = viewOf(image);
  const scrolled = find(".body", dialog)?.scrollTop ?? 0;
  const across = [...dialog.querySelectorAll(".strip")].map((element) => element.scrollLeft);
  const at = order.indexOf(image);
  const button = (id, label, text, by) => {
    const made = make("button", { type: "button", id, "aria-label": label, title: label, disabled: !order[at + by] || at < 0 }, text);
    made.addEventListener("click", () => step(by));
    return made;
  };
  const close = make("button", { type: "button", id: "close", "aria-label": "Close", title: "Close (Esc)" }, "✕");
  close.addEventListener("click", () => dialog.close());
  const bar = make("div", { className: "bar" },
    button("previous", "Previous image (left arrow)", "←", -1),
    button("next", "Next image (right arrow)", "→", 1),
    make("h2", { id: "detail-name", dir: "auto", title: short(image.name, 500) }, short(lastPart(image.name), 300)),
    close);
  const body = make("div", { className: "body" });
  if (view) body.append(...[look(image, view), ...strips(image, view), removalPlayer(image, view, removal), ...figureTable(view)].filter(Boolean));
  else body.append(make("p", { className: "empty" }, `This image was not explained in ${report.frames[state.frame].label}.`));
  keepFocus(dialog, () => dialog.replaceChildren(bar, body));
  dialog.querySelectorAll(".scroll").forEach(fitTable);
  if (!dialog.contains(document.activeElement) || document.activeElement === dialog) close.focus({ preventScroll: true });
  bind(body);
  body.scrollTop = scrolled;
  dialog.querySelectorAll(".strip").forEach((element, number) => (element.scrollLeft = across[number] ?? 0));
}

/** The picture, the picture with heat, and what the model says. */
function look(image, view) {
  const stage = (id, caption, options, drawn = view) => {
    const canvas = make("canvas", { id, role: "img", "aria-label": caption });
    drawOn(canvas, image, drawn, options);
    return make("figure", { className: "stage" }, canvas, make("figcaption", {}, caption));
  };
  const outcome = outcomeOf(image, view);
  const fact = (label, help, ...value) => make("div", {}, make("dt", {}, label, why(help)), make("dd", { dir: "auto" }, ...value));
  const slider = make("input", { type: "range", id: "detail-opacity", min: 0, max: 1, step: 0.05, "data-bind": "opacity" });
  const checks = [["boxes", "Boxes", hasBoxes], ["masks", "Outlines", hasMasks]].filter(([, , has]) => has);
  const facts = make("dl", {},
    lastPart(image.name) === image.name ? null : fact("Image", "", short(image.name, 500)),
    image.truth.length ? fact("Shows", "What the data set says, and the probability that the model gives it.", labelsOf(image, view)) : null,
    fact("Model says", report.multilabel ? "Its most probable class, and those above 50 % that the image does not show." : "Its most probable class.", answersOf(view)),
    outcome ? fact("Verdict", "“Looks elsewhere”: the class is right, but the hottest point lies outside the object.", make("span", { className: `verdict ${outcome}` }, verdicts[outcome])) : null,
    fact("Heatmap of", "The class that the heatmap explains, and the probability that the model gives it.", `${short(view.explained, 500)} (${percent(view.p)})`),
    (!hasBoxes && !hasMasks) || view.boxes.length || view.mask !== null ? null : fact("Object", "", "No box or outline of this class is known here."));
  const pixels = report.pictures[image.picture];
  const shape = `${pixels.ph > 1.3 * pixels.pw ? " tall" : ""}${view.other?.maps[state.method] ? " both" : ""}`;
  return make("section", { className: `look${shape}` },
    stage("plain", "What the model saw", { opacity: 0 }),
    stage("hot", `Where it looked for ${named(view.explained, view.p)}, by ${short(report.methods[state.method].label)}`, {}),
    view.other?.maps[state.method] ? stage("other", `Where it looked for ${named(view.other.explained, view.other.p)}`, {}, view.other) : null,
    make("div", { className: "about" }, facts,
      views(image).length > 1 ? classChips(image) : null,
      make("div", { className: "field slider" }, make("span", {}, make("label", { htmlFor: "detail-opacity" }, "Heat"), make("output", { "data-show": "opacity" })), slider),
      make("div", { className: "checks" }, ...checks.map(([name, label]) => make("label", {}, make("input", { type: "checkbox", "data-bind": name }), ` ${label}`)))));
}

async function drawOn(canvas, image, view, options, least = 400) {
  const facts = report.pictures[image.picture];
  canvas.style.aspectRatio = `${facts.pw} / ${facts.ph}`;
  const decoded = await picture(image.picture);
  paint(canvas, decoded, facts, view, { ...drawOptions(), least, ...options });
}

/** All methods, and all epochs, of this image. */
function strips(image, view) {
  const found = [];
  if (report.methods.length > 1) {
    const thumbs = report.methods.map((method, number) =>
      thumb(image, view, { method: number }, short(method.label, 60), number === state.method, () => change("method", number)));
    found.push(strip("Every method", "The same image and class, explained by each method. Click one to choose it.", thumbs));
  }
  if (report.frames.length > 1) {
    const count = Math.min(STRIP, report.frames.length);
    const numbers = [...new Set([...Array(count).keys()].map((n) => Math.round((n * (report.frames.length - 1)) / (count - 1))))];
    const thumbs = numbers.map((number) => {
      const then = viewOf(image, number);
      const text = `${report.frames[number].label}${then ? `, ${percent(then.p)}` : ""}`;
      return thumb(image, then, {}, text, number === state.frame, () => change("frame", number));
    });
    found.push(strip("Through training", "The same image after other epochs, with the probability of the explained class. Click one to go there.", thumbs));
  }
  return found;
}

const strip = (title, help, thumbs) =>
  make("section", {}, make("h3", {}, title, why(help)), make("div", { className: "strip" }, ...thumbs));

function thumb(image, view, options, text, chosen, choose) {
  const button = make("button", { type: "button", className: "thumb", "aria-pressed": String(chosen), "data-key": text, title: text });
  if (view && view.maps[options.method ?? state.method]) {
    const canvas = make("canvas", { "aria-hidden": "true" });
    drawOn(canvas, image, view, options, 110);
    button.append(canvas);
  } else button.append(make("div", { className: "missing" }, "no heatmap"));
  button.append(make("span", { dir: "auto" }, ...breakable(text)));
  button.addEventListener("click", choose);
  return button;
}

/** All figures of this heatmap, method by method. */
function figureTable(view) {
  const rows = report.figures.map((figure, n) => [figure, view.figures.map((mine) => mine[n])]).filter(([, values]) => values.some((v) => v !== null));
  const title = make("h3", {}, "Figures of this image", why("A single image says little about a method; the table of all images says more."));
  if (!rows.length && !report.figures.length) return [];
  if (!rows.length) {
    const reason = view.boxes.length || view.mask !== null ? "No figure was measured for single images here." : "The object has no box or outline, so the heatmap cannot be compared with it.";
    return [make("section", {}, title, make("p", { className: "empty" }, reason))];
  }
  const head = make("tr", {}, make("th", { scope: "col" }, "Figure"), ...report.methods.map((m, n) => make("th", { scope: "col", className: n === state.method ? "chosen" : "" }, make("span", { className: "method" }, ...breakable(short(m.label, 60))))));
  const lines = rows.map(([figure, values]) => make("tr", {}, make("th", { scope: "row" }, figure.label, figure.higher_is_better === null ? "" : figure.higher_is_better ? " ↑" : " ↓", why(figure.help)),
    ...values.map((value, n) => make("td", { className: n === state.method ? "chosen" : "" }, value === null ? "–" : value.toFixed(3)))));
  const table = make("table", { className: "figures" }, make("thead", {}, head), make("tbody", {}, ...lines));
  return [make("section", {}, title, make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Figures of this image" }, table))];
}

dialog.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  // sliders, menus and scrolling tables use these keys themselves
  if (!by || event.target.closest("input, select, .scroll, .strip")) return;
  event.preventDefault();
  step(by);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => {
  const card = current && cards.get(current);
  current = null;
  dialog.replaceChildren();
  card?.open.focus();
});
