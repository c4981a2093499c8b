// Start: fill the controls, hide those without a use and say why, connect everything.

const everyView = (test) => report.images.some((image) => image.frames.some((all) => all?.some(test)));
const hasBoxes = everyView((view) => view.boxes.length > 0);
const hasMasks = everyView((view) => view.mask !== null);
state.boxes = hasBoxes;

function options(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => make("option", { value: String(value) }, short(text, 70))));
}

function startControls() {
  const collator = new Intl.Collator("en", { numeric: true });
  const classes = new Set(report.images.flatMap((image) => image.truth));
  for (const image of report.images) for (const all of image.frames) for (const view of all ?? []) classes.add(view.predicted);
  options(find("#method"), report.methods.map((method, number) => [number, method.control ? `${method.label} (control)` : method.label]));
  options(find("#class"), [["", "all"], ...[...classes].sort(collator.compare).map((name) => [name, name])]);
  const everyone = [["order", "place in the data set"], ["name", "name"], ["probability", "probability of the explained class"]];
  options(find("#sort"), [...everyone, ...report.figures.map((figure) => [figure.name, figure.label])]);
  find("#frame").max = report.frames.length - 1;
  if (report.multilabel) {
    find("#outcome-why").dataset.why += " Images here show several classes: “right” means that the model gives the explained class more than 50 %.";
  }
  const truth = report.images.some((image) => image.truth.length);
  const useful = { methods: report.methods.length > 1, frames: report.frames.length > 1, classes: classes.size > 1, truth, boxes: hasBoxes, masks: hasMasks };
  for (const field of document.querySelectorAll("[data-only]")) field.hidden = !useful[field.dataset.only];
  if (!hasBoxes && !hasMasks) {
    find("#absent").hidden = !truth; // where nothing is known of the images, nobody asked
    find("#absent").textContent = "These data have no boxes or outlines, so nothing is compared with the object, and no image is “right for the wrong reason”.";
    find('#outcome [value="reason"]').disabled = true;
  }
  bind(document);
}

function startGallery() {
  startControls();
  paintScale(find("#scale"));
  const direction = find("#direction");
  direction.addEventListener("click", () => {
    const label = state.descending ? "Lowest first" : "Highest first";
    direction.textContent = state.descending ? "↑" : "↓";
    direction.setAttribute("aria-label", label);
    direction.title = label;
    change("descending", !state.descending);
  });
  find("#reset").addEventListener("click", () => {
    change("cls", "");
    change("outcome", "all");
    change("search", "");
  });
  player(find("#play-epochs"), () => state.frame, (frame) => change("frame", frame), () => report.frames.length - 1);
  onChange((name, done) => {
    const arranges = ["method", "frame", "cls", "outcome", "search", "sort", "descending", "chosen"].includes(name);
    // while a slider is dragged cards keep their places
    if (arranges && done) arrange();
    else redraw();
    if (!current) return;
    if (["method", "frame", "chosen"].includes(name)) showDetail();
    else if (viewOf(current)) {
      drawOn(find("#hot"), current, viewOf(current), {});
      if (find("#other")) drawOn(find("#other"), current, viewOf(current).other, {});
    }
    if (["boxes", "masks"].includes(name)) drawOn(find("#plain"), current, viewOf(current), { opacity: 0 });
  });
  arrange();
}

function startCharts() {
  const charts = report.charts.map((chart) => [chart, lineChart(chart)]);
  find("#charts").append(...charts.map(([, made]) => made.element));
  const follow = () => {
    for (const [chart, made] of charts) {
      made.highlight(report.methods[state.method]?.label);
      if (chart.epochs) made.mark(report.frames[state.frame]?.epoch ?? null);
    }
  };
  onChange(follow);
  follow();
}

startTheme();
if (report.charts.length) startCharts();
if (report.images.length) startGallery();
fitTables();
