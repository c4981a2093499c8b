// The gallery: a card for each image, in the chosen order, drawn when it comes into view.

const grid = find("#grid");
const cards = new Map();
let order = [];

const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const card = cards.get(target.image);
      card.near = isIntersecting;
      if (isIntersecting) refresh(card);
      else if (card.drawn) {
        clear(card); // a thousand drawn canvases are hundreds of megabytes
        card.drawn = "";
      }
    }
  },
  { rootMargin: "400px" },
);

// pictures of one shape stand in a grid, others in rows of one height, as wide as they are
const ratios = report.pictures.map(({ pw, ph }) => pw / ph);
const mixed = ratios.length > 0 && Math.max(...ratios) > 1.15 * Math.min(...ratios);
grid?.classList.toggle("mixed", mixed);

function makeCard(image) {
  const facts = report.pictures[image.picture];
  const canvas = make("canvas", { width: 0, height: 0 });
  canvas.style.aspectRatio = `${facts.pw} / ${facts.ph}`;
  const open = make("button", { type: "button", className: "open" }, canvas);
  open.addEventListener("click", () => openDetail(image));
  const caption = make("div", { className: "caption" });
  const ratio = facts.pw / facts.ph;
  const element = make("article", { className: "card" }, open, caption);
  element.image = image;
  if (mixed) element.style.width = `calc(var(--row) * ${Math.min(2.4, Math.max(0.56, ratio)).toFixed(3)})`;
  return { image, element, canvas, beside: null, open, caption, near: false, drawn: "" };
}

/** Draw and caption a card as chosen, unless it shows that already. */
async function refresh(card) {
  const view = viewOf(card.image);
  if (!view) return;
  const options = drawOptions();
  const key = JSON.stringify([state.frame, view.explained, options, state.sort]);
  if (card.drawn === key) return;
  card.drawn = key;
  describe(card, view);
  const image = await picture(card.image.picture);
  if (card.drawn === key) paintCard(card, image, view, options);
}

/** The picture with heat; of a mistaken image once more, with the heat of the other class. */
function paintCard(card, picture, view, options) {
  const facts = report.pictures[card.image.picture];
  paint(card.canvas, picture, facts, view, options);
  const both = Boolean(view.other?.maps[options.method]);
  card.open.classList.toggle("both", both);
  if (!both) {
    card.beside?.remove();
    card.beside = null;
    return;
  }
  card.beside ??= make("canvas");
  card.beside.style.aspectRatio = card.canvas.style.aspectRatio;
  card.open.append(card.beside);
  paint(card.beside, picture, facts, view.other, options);
}

function clear(card) {
  for (const canvas of [card.canvas, card.beside]) if (canvas) canvas.width = canvas.height = 0;
}

const drawOptions = () => ({ method: state.method, opacity: state.opacity, boxes: state.boxes, masks: state.masks });

function describe(card, view) {
  const { image } = card;
  const outcome = outcomeOf(image, view);
  const lines = [make("b", { dir: "auto", title: short(image.name, 500) }, short(lastPart(image.name), 200))];
  if (image.truth.length) lines.push(clamped(`Shows ${labelsOf(image, view)}`));
  lines.push(clamped(`Model says ${answersOf(view)}`));
  if (outcome) lines.push(make("p", { className: `verdict ${outcome}` }, verdicts[outcome]));
  const drawn = [view.explained, ...(view.other?.maps[state.method] ? [view.other.explained] : [])];
  if (drawn.length > 1) lines.push(clamped(`Heatmaps of ${short(drawn[0])} (left) and ${short(drawn[1])} (right)`));
  else if (view.predicted !== view.explained) lines.push(clamped(`Heatmap of ${short(view.explained)}, ${percent(view.p)}`));
  const metric = report.figures.findIndex((figure) => figure.name === state.sort);
  if (metric >= 0) lines.push(clamped(`${report.figures[metric].label}: ${decimal(view.figures[state.method][metric])}`));
  if (!view.maps[state.method]) lines.push(clamped("No heatmap by this method here"));
  if (views(image).length > 1) lines.push(classChips(image));
  keepFocus(card.caption, () => card.caption.replaceChildren(...lines));
  const label = [short(image.name), image.truth.length ? `shows ${image.truth.map((n) => short(n)).join(", ")}` : "", `model says ${short(view.predicted)}`, verdicts[outcome]];
  card.open.setAttribute("aria-label", `Look closer: ${label.filter(Boolean).join(", ")}`);
}

const named = (name, share) => (share === null || share === undefined ? short(name) : `${short(name)} ${percent(share)}`);
/** All classes of an image, each with the probability that the model gives it, where that is known. */
const labelsOf = (image, view) => image.truth.map((name, n) => named(name, view.shares[n])).join(", ");
/** The most probable class, and in data with several classes an image those that it does not show. */
const answersOf = (view) =>
  [named(view.predicted, view.predicted_p), ...view.also.filter(([name]) => name !== view.predicted).map(([name, p]) => named(name, p))].join(", ");

const clamped = (text) => make("p", { className: "clamp", dir: "auto" }, text);

/** Buttons for the explained classes of an image. */
function classChips(image) {
  const current = viewOf(image);
  const chips = views(image).map((view) => {
    const chip = make("button", { type: "button", "aria-pressed": String(view === current), "data-key": `class ${view.explained}`, dir: "auto", title: "Explain this class" }, short(view.explained));
    chip.addEventListener("click", () => {
      state.chosen.set(image, view.explained);
      change("chosen", state.chosen);
    });
    return chip;
  });
  return make("div", { className: "chips", role: "group", "aria-label": "Explained class" }, ...chips);
}

function fits(image) {
  const view = viewOf(image);
  if (!view) return false;
  if (!image.name.toLowerCase().includes(state.search.trim().toLowerCase())) return false;
  if (state.cls && !image.truth.includes(state.cls) && view.predicted !== state.cls) return false;
  const outcome = outcomeOf(image, view);
  return state.outcome === "all" || outcome === state.outcome || (state.outcome === "right" && outcome === "reason");
}

/** What an image is sorted by: a number, a text, or null. */
function sortKey(image) {
  if (state.sort === "order") return image.index;
  if (state.sort === "name") return image.name;
  const view = viewOf(image);
  if (state.sort === "probability") return view.p;
  return view.figures[state.method][report.figures.findIndex((figure) => figure.name === state.sort)] ?? null;
}

function arrange() {
  const keys = new Map();
  const chosen = report.images.filter(fits);
  for (const image of chosen) keys.set(image, sortKey(image));
  const sign = state.descending ? -1 : 1;
  chosen.sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  });
  const moved = chosen.length !== order.length || chosen.some((image, at) => image !== order[at]);
  order = chosen;
  for (const image of order) {
    if (!cards.has(image)) {
      const card = makeCard(image);
      cards.set(image, card);
      seen.observe(card.element);
    }
  }
  if (moved) keepFocus(grid, () => grid.replaceChildren(...order.map((image) => cards.get(image).element)));
  const total = report.images.length;
  const here = report.images.filter((image) => viewOf(image)).length;
  const missing = here < total ? ` (${total - here} not explained in ${report.frames[state.frame].label})` : "";
  find("#count").textContent = `${order.length.toLocaleString("en")} of ${here.toLocaleString("en")} images${missing}`;
  find("#nothing").hidden = order.length > 0;
  redraw();
}

/** Draw every card of the gallery at once, as paper has no coming into view. */
function drawAll() {
  for (const image of order) {
    const [card, view] = [cards.get(image), viewOf(image)];
    if (card.drawn && card.canvas.width) continue;
    describe(card, view);
    const picture = loaded[image.picture];
    if (picture.complete) paintCard(card, picture, view, drawOptions());
  }
}

/** Give back the canvases that only paper needed. */
function clearFar() {
  for (const card of cards.values()) if (!card.near) clear(card);
}

addEventListener("beforeprint", drawAll);
addEventListener("afterprint", clearFar);

let waiting = false;
/** Draw the cards in view again, once a frame at most. */
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    for (const image of order) if (cards.get(image).near) refresh(cards.get(image));
  });
}

grid?.addEventListener("keydown", (event) => {
  if (!event.target.matches?.(".open") || !event.key.startsWith("Arrow")) return;
  const all = [...grid.querySelectorAll(".open")];
  const at = all.indexOf(event.target);
  const top = (button) => button.getBoundingClientRect().top;
  const columns = Math.max(1, all.findIndex((button) => top(button) > top(all[0]) + 1)) || all.length;
  const next = at + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  if (all[next]) {
    event.preventDefault();
    all[next].focus();
  }
});
