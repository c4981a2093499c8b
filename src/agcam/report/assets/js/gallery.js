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
        card.canvas.width = card.canvas.height = 0; // a thousand drawn canvases are hundreds of megabytes
        card.drawn = "";
      }
    }
  },
  { rootMargin: "400px" },
);

function makeCard(image) {
  const facts = report.pictures[image.picture];
  const canvas = make("canvas", { width: 0, height: 0 });
  canvas.style.aspectRatio = `${facts.pw} / ${facts.ph}`;
  const open = make("button", { type: "button", className: "open" }, canvas);
  open.addEventListener("click", () => openDetail(image));
  const caption = make("div", { className: "caption" });
  const element = make("article", { className: "card" }, open, caption);
  element.image = image;
  return { image, element, canvas, open, caption, near: false, drawn: "" };
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
  if (card.drawn === key) paint(card.canvas, image, report.pictures[card.image.picture], view, options);
}

const drawOptions = () => ({ method: state.method, opacity: state.opacity, boxes: state.boxes, masks: state.masks });

function describe(card, view) {
  const { image } = card;
  const outcome = outcomeOf(image, view);
  const lines = [make("b", { dir: "auto", title: short(image.name, 500) }, short(lastPart(image.name), 200))];
  if (image.truth.length) lines.push(clamped(`Shows ${image.truth.map((name) => short(name)).join(", ")}`));
  const same = view.predicted === view.explained;
  lines.push(clamped(`Model says ${short(view.predicted)}${same ? `, ${percent(view.p)}` : ""}`));
  if (outcome) lines.push(make("p", { className: `verdict ${outcome}` }, verdicts[outcome]));
  if (!same) lines.push(clamped(`Heatmap of ${short(view.explained)}, ${percent(view.p)}`));
  const metric = report.figures.findIndex((figure) => figure.name === state.sort);
  if (metric >= 0) lines.push(clamped(`${report.figures[metric].label}: ${decimal(view.figures[state.method][metric])}`));
  if (!view.maps[state.method]) lines.push(clamped("No heatmap by this method here"));
  if (views(image).length > 1) lines.push(classChips(image));
  keepFocus(card.caption, () => card.caption.replaceChildren(...lines));
  const label = [short(image.name), image.truth.length ? `shows ${image.truth.map((n) => short(n)).join(", ")}` : "", `model says ${short(view.predicted)}`, verdicts[outcome]];
  card.open.setAttribute("aria-label", `Look closer: ${label.filter(Boolean).join(", ")}`);
}

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
    if (picture.complete) paint(card.canvas, picture, report.pictures[image.picture], view, drawOptions());
  }
}

/** Give back the canvases that only paper needed. */
function clearFar() {
  for (const card of cards.values()) if (!card.near) card.canvas.width = card.canvas.height = 0;
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
