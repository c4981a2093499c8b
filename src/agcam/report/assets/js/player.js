// Remove pixels by the heatmap's rank, and show the probability from the image's measured curve.

const ORDERS = { morf: "hottest pixels first", lerf: "coldest pixels first" };
const measured = () => Object.keys(ORDERS).filter((name) => report.curves.some((curve) => curve.name === name));

/** The player of one view; `which` remembers order and step from image to image. */
function removalPlayer(image, view, which) {
  if (!measured().length) return null; // nobody asked for it
  const curves = view.curves[state.method] ?? {};
  const map = heatmap(view, state.method);
  const title = make("h3", {}, "Take pixels away", why(
    "If the heatmap is right about what the model uses, the probability falls at once when the hottest pixels are removed, and stays high when the coldest are. Removed pixels take the mean color. The probabilities were measured with the model, in steps of a tenth of the picture.",
  ));
  const missing = emptyPlayer(map, curves);
  if (missing) return make("section", {}, title, make("p", { className: "empty" }, missing));
  if (!curves[which.order]) which.order = Object.keys(ORDERS).find((name) => curves[name]);

  const facts = report.pictures[image.picture];
  const heat = upsample(map, facts.pw, facts.ph);
  const orders = {};
  const canvas = make("canvas", { className: Math.max(facts.pw, facts.ph) < 128 ? "pixels" : "", role: "img" });
  const slider = make("input", { type: "range", id: "removed", min: 0, max: 10, step: 1 });
  const said = make("p", { role: "status", id: "removed-text" });
  const play = make("button", { type: "button", className: "play", "aria-label": "Play the removal" }, "▶");
  const last = () => curves[which.order].length - 1;
  const lines = Object.keys(ORDERS).filter((name) => curves[name]).map((name) => ({
    label: ORDERS[name],
    x: curves[name].map((_, step) => step / (curves[name].length - 1)),
    y: curves[name],
    control: false,
  }));
  const chart = lineChart({ title: "", help: "", x: "share of pixels removed", unit: true, lines });

  const showStep = async () => {
    const share = which.step / last();
    const removed = Math.floor(heat.length * share + 1e-9);
    const probability = curves[which.order][which.step];
    orders[which.order] ??= removalOrder(heat, which.order === "morf");
    slider.value = which.step;
    chart.mark(share);
    chart.highlight(ORDERS[which.order]);
    const pixels = which.order === "morf" ? "hottest" : "coldest";
    said.textContent =
      which.step === 0
        ? `With the whole picture, the model gives ${short(view.explained)} ${percent(probability)}.`
        : `Without the ${percent(share)} ${pixels} pixels, the model gives ${short(view.explained)} ${percent(probability)} (${percent(curves[which.order][0])} with the whole picture).`;
    slider.setAttribute("aria-valuetext", `${percent(share)} removed, probability ${percent(probability)}`);
    canvas.setAttribute("aria-label", `The picture without its ${percent(share)} ${pixels} pixels`);
    const decoded = await picture(image.picture);
    paintRemoved(canvas, decoded, facts, orders[which.order], removed);
  };
  const go = (step) => {
    which.step = step;
    showStep();
  };
  const choices = Object.keys(ORDERS).filter((name) => curves[name]).map((name) => {
    const choice = make("button", { type: "button", "aria-pressed": String(name === which.order), "data-order": name }, ORDERS[name]);
    choice.addEventListener("click", () => {
      which.order = name;
      for (const other of choices) other.setAttribute("aria-pressed", String(other === choice));
      showStep();
    });
    return choice;
  });
  slider.max = last();
  which.step = Math.min(which.step, last());
  slider.addEventListener("input", () => go(Number(slider.value)));
  player(play, () => which.step, go, last, 600);
  showStep();
  const controls = make("div", { className: "controls" },
    make("div", { className: "choice", role: "group", "aria-label": "Which pixels go first" }, ...choices),
    make("div", { className: "row" }, play, make("label", { htmlFor: "removed" }, "Removed"), slider),
    said, chart.element);
  return make("section", {}, title, make("div", { className: "player" }, make("figure", { className: "stage" }, canvas), controls));
}

function emptyPlayer(map, curves) {
  if (!map) return "This method has no heatmap for this image, so there is no order in which to remove pixels.";
  if (Object.keys(ORDERS).some((name) => curves[name])) return "";
  return "The curve of this image was not measured by this method.";
}
