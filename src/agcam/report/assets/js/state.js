// The choices, and the controls that show and change them. A control names its choice by data-bind.

const state = {
  method: 0,
  frame: Math.max(0, report.frames.length - 1),
  opacity: 0.65,
  boxes: true,
  masks: false,
  cls: "",
  outcome: "all",
  search: "",
  sort: "order",
  descending: false,
  chosen: new Map(), // by image: the explained class that was asked for
};
const listeners = [];
const onChange = (listener) => listeners.push(listener);

function change(name, value, done = true) {
  state[name] = value;
  for (const control of document.querySelectorAll(`[data-bind="${name}"]`)) show(control);
  showOutputs();
  for (const listener of listeners) listener(name, done);
}

function show(control) {
  const value = state[control.dataset.bind];
  if (control.type === "checkbox") control.checked = value;
  else control.value = String(value);
}

function showOutputs() {
  const text = { opacity: percent(state.opacity), frame: report.frames[state.frame]?.label ?? "" };
  for (const output of document.querySelectorAll("[data-show]")) output.textContent = text[output.dataset.show];
  for (const slider of document.querySelectorAll('[type="range"][data-bind]')) {
    slider.setAttribute("aria-valuetext", text[slider.dataset.bind] ?? slider.value);
  }
}

/** Connect the controls in `root` to the state. */
function bind(root) {
  for (const control of root.querySelectorAll("[data-bind]")) {
    const name = control.dataset.bind;
    const numeric = control.type === "range" || name === "method";
    const value = () => (control.type === "checkbox" ? control.checked : numeric ? Number(control.value) : control.value);
    show(control);
    control.addEventListener("input", () => change(name, value(), control.type !== "range"));
    if (control.type === "range") control.addEventListener("change", () => change(name, value()));
  }
  showOutputs();
}

/** The views of an image in the chosen epoch; an empty list where the epoch does not have it. */
const views = (image, frame = state.frame) => image.frames[frame] ?? [];

/** The view of the explained class that was asked for, else of the class that is filtered by, else the first. */
function viewOf(image, frame = state.frame) {
  const all = views(image, frame);
  const asked = state.chosen.get(image) ?? state.cls;
  return all.find((view) => view.explained === asked) ?? all[0] ?? null;
}

/** "right", "wrong", "reason" (right, but the peak lies outside the object), or "" where the truth is unknown.
 *  Where images show several classes, right means that the explained class, if present, gets more than one half. */
function outcomeOf(image, view, method = state.method) {
  if (!image.truth.length) return "";
  const present = image.truth.includes(view.explained);
  const right = report.multilabel ? view.p > 0.5 === present : image.truth.includes(view.predicted);
  if (!right) return "wrong";
  if (report.multilabel && !present) return "right";
  return view.hits[method] === false ? "reason" : "right";
}
const verdicts = { right: "✓ right", wrong: "✗ wrong", reason: "◎ right, but looks elsewhere", "": "" };

/** Steps through a range of numbers until its end; returns a function that starts and stops. */
function player(button, read, write, last, pause = 700) {
  const [start, stop] = [button.getAttribute("aria-label"), "Stop"];
  let timer = null;
  const halt = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶";
    button.setAttribute("aria-label", start);
  };
  button.addEventListener("click", () => {
    if (timer !== null) return halt();
    if (read() >= last()) write(0);
    button.textContent = "❚❚";
    button.setAttribute("aria-label", stop);
    timer = setInterval(() => {
      if (button.isConnected && read() < last()) write(read() + 1);
      if (!button.isConnected || read() >= last()) halt();
    }, pause);
  });
  return halt;
}
