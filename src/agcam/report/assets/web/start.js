// Start: load the model, take photographs one after the other.

let looking = Promise.resolve(); // the photographs before
const model = startModel(showProgress);

function showProgress(done, total) {
  find("#loading progress").value = done / total;
  find("#loading span").textContent =
    done < total ? `Loading the model, ${Math.round(done / 1e6)} of ${Math.round(total / 1e6)} MB` : "Preparing the model";
}

model.then(
  () => {
    find("#loading").hidden = true;
    document.documentElement.dataset.model = "ready";
  },
  (error) => {
    find("#loading").hidden = true;
    find("#broken").hidden = false;
    find("#broken").textContent = words(error);
    document.documentElement.dataset.model = "broken";
  },
);

function words(error) {
  if (error instanceof Refused) return error.message;
  const known = /memory|allocation|bad_alloc|RangeError/i.test(String(error))
    ? " It may need more memory than this browser gives: close other pages, or export it with --precision int8."
    : " A current Chrome, Edge, Firefox or Safari is needed.";
  return `The model does not run here (${short(String(error?.message ?? error), 200)}).${known}`;
}

function take(files) {
  for (const file of files) {
    const card = addCard(file.name);
    looking = looking.then(() => lookAt(card, file));
  }
}

async function lookAt(card, file) {
  if (!card.isConnected) return;
  try {
    setStatus(card, "Reading");
    const photograph = await openPhotograph(file);
    showPicture(card, photograph);
    setStatus(card, "Looking");
    const found = await (await model)(photograph.pixels);
    if (card.isConnected) showFound(card, photograph, found);
  } catch (error) {
    refuseCard(card, words(error));
  }
}

function startDropping() {
  const area = find("#drop");
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, change === null ? 0 : depth + change);
    area.classList.toggle("over", depth > 0);
  };
  // the whole page takes them: a browser would leave it for a picture that is dropped beside the area
  addEventListener("dragenter", (event) => carries(event) && mark(1));
  addEventListener("dragleave", (event) => carries(event) && mark(-1));
  addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    mark(null);
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => take(event.clipboardData?.files ?? []));
  find("#choose").addEventListener("change", ({ target }) => {
    take(target.files);
    target.value = ""; // or the same file could not be chosen again
  });
}

function startTools() {
  paintScale(find("#scale"));
  const slider = find("#opacity");
  const show = () => {
    opacity = Number(slider.value);
    find("#opacity-value").textContent = percent(opacity);
    slider.setAttribute("aria-valuetext", percent(opacity));
  };
  slider.addEventListener("input", () => {
    show();
    for (const card of cards.keys()) drawCard(card);
  });
  find("#clear").addEventListener("click", () => {
    cards.clear();
    find("#results").replaceChildren();
    showToolbar();
    find("#choose").focus();
  });
  show();
}

startTheme();
startDropping();
startTools();
