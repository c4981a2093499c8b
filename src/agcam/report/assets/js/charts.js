// Line charts as SVG: axes, a line for each method, a legend that hides lines and reads values.

const SVG = "http://www.w3.org/2000/svg";
// far apart from each other, and seen on light and on dark paper; what comes after them is dashed
const PALETTE = [
  "#0173B5", "#CF5D03", "#01BA06", "#FA0AFD", "#B0286D", "#8B9D6C", "#025BFE",
  "#FB0045", "#D177ED", "#A3A502", "#BC94AB", "#01A9B5", "#11720F", "#87522E",
];
const DASHES = ["", "7 3", "2 3"];
const WIDE = 420;
const HIGH = 240;
const EDGE = { left: 44, right: 14, top: 10, bottom: 42 };

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** About `count` round numbers between low and high. */
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}

/** A chart: `element`, `highlight(label)` draws a line thick, `mark(x)` draws an upright line. */
function lineChart(chart) {
  const values = chart.lines.flatMap((line) => line.y).filter((y) => y !== null);
  const places = chart.lines.flatMap((line) => line.x);
  const [left, right] = [Math.min(...places), Math.max(...places)];
  const [low, high] = chart.unit ? [0, 1] : [Math.min(0, ...values), Math.max(...values)];
  const x = (at) => EDGE.left + ((at - left) / (right - left || 1)) * (WIDE - EDGE.left - EDGE.right);
  const y = (at) => HIGH - EDGE.bottom - ((at - low) / (high - low || 1)) * (HIGH - EDGE.top - EDGE.bottom);
  const svg = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${chart.title}. The numbers follow.` });
  for (const at of ticks(low, high)) {
    svg.append(
      draw("line", { class: "rule", x1: EDGE.left, x2: WIDE - EDGE.right, y1: y(at), y2: y(at) }),
      draw("text", { class: "axis", x: EDGE.left - 6, y: y(at) + 4, "text-anchor": "end" }, decimal(at)),
    );
  }
  for (const at of ticks(left, right, 6).filter((at) => !chart.epochs || Number.isInteger(at))) {
    svg.append(draw("text", { class: "axis", x: x(at), y: HIGH - EDGE.bottom + 16, "text-anchor": "middle" }, decimal(at)));
  }
  const middle = (EDGE.left + WIDE - EDGE.right) / 2;
  svg.append(draw("text", { class: "axis", x: middle, y: HIGH - 4, "text-anchor": "middle" }, chart.x));
  const now = upright("now", svg);
  const cursor = upright("cursor", svg);
  const lines = chart.lines.map((line, at) => {
    const known = report.methods.findIndex((method) => method.label === line.label);
    const number = known < 0 ? at : known; // a method has one color in all charts
    const steps = line.y.map((value, i) =>
      value === null ? "" : `${i === 0 || line.y[i - 1] === null ? "M" : "L"}${x(line.x[i]).toFixed(1)},${y(value).toFixed(1)}`,
    );
    const path = draw("path", { d: steps.join(""), ...stroke(line, number) });
    svg.append(path);
    return { ...line, path, ...legendEntry(line, number, path) };
  });
  readOut(svg, lines, (at) => left + ((at - EDGE.left) / (WIDE - EDGE.left - EDGE.right)) * (right - left), (at) => place(cursor, at, x));
  const element = make("figure", { className: "chart" }, svg, make("div", { className: "legend" }, ...lines.map((line) => line.button)), numbers(chart));
  if (chart.title) element.prepend(make("h3", {}, chart.title, why(chart.help)));
  return {
    element,
    highlight: (label) => lines.forEach((line) => line.path.classList.toggle("thick", line.label === label)),
    mark: (at) => place(now, at === null || at < left || at > right ? null : at, x),
  };
}

function stroke(line, number) {
  if (line.control) return { class: "control", stroke: number % 2 ? "gray" : "darkgray" };
  return { stroke: PALETTE[number % PALETTE.length], "stroke-dasharray": DASHES[Math.floor(number / PALETTE.length) % 3] };
}

function upright(name, svg) {
  const line = draw("line", { class: name, y1: EDGE.top, y2: HIGH - EDGE.bottom, visibility: "hidden" });
  svg.append(line);
  return line;
}

function place(line, at, x) {
  line.setAttribute("visibility", at === null ? "hidden" : "visible");
  if (at !== null) for (const end of ["x1", "x2"]) line.setAttribute(end, x(at));
}

function legendEntry(line, number, path) {
  const sample = draw("svg", { viewBox: "0 0 20 8", "aria-hidden": "true" }, draw("path", { d: "M0,4L20,4", ...stroke(line, number) }));
  const value = make("output");
  const button = make("button", { type: "button", "aria-pressed": "true", title: "Show or hide this line" }, sample, make("span", { dir: "auto" }, short(line.label, 60)), value);
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    path.setAttribute("visibility", shown ? "visible" : "hidden");
  });
  return { button, value };
}

/** Values under the pointer, in the legend. */
function readOut(svg, lines, unscale, showCursor) {
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = unscale(((event.clientX - box.left) / box.width) * WIDE);
    const nearest = lines.flatMap((line) => line.x).reduce((best, x) => (Math.abs(x - at) < Math.abs(best - at) ? x : best), Infinity);
    showCursor(Number.isFinite(nearest) ? nearest : null);
    for (const line of lines) line.value.textContent = decimal(line.y[line.x.indexOf(nearest)]);
  });
  svg.addEventListener("pointerleave", () => {
    showCursor(null);
    for (const line of lines) line.value.textContent = "";
  });
}

/** The same as a table, made when it is opened. */
function numbers(chart) {
  const details = make("details", { className: "numbers" }, make("summary", {}, "Numbers"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const places = [...new Set(chart.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    const head = make("tr", {}, make("th", { scope: "col" }, chart.x), ...chart.lines.map((line) => make("th", { scope: "col" }, short(line.label, 60))));
    const rows = places.map((at) =>
      make("tr", {}, make("th", { scope: "row" }, decimal(at)), ...chart.lines.map((line) => make("td", {}, decimal(line.y[line.x.indexOf(at)])))),
    );
    details.append(make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, head, ...rows)));
  });
  return details;
}
