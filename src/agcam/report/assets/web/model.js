// The model and what runs it. A page that is opened as a file may not fetch; it may run scripts, so the folder's
// scripts hold their bytes as text.

const pieces = [];
globalThis.agcamPiece = (text) => pieces.push(text);

/** The bytes of a file of the folder, from its parts. */
async function assemble({ bytes: size, parts }, progress) {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    await runScript(part);
    const text = pieces.pop();
    const piece = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : bytes(text);
    whole.set(piece, at);
    at += piece.length;
    progress(piece.length);
  }
  return whole;
}

function runScript(src) {
  return new Promise((resolve, reject) => {
    const script = make("script", { src });
    script.addEventListener("load", () => (pieces.length ? resolve() : reject(incomplete(src))));
    script.addEventListener("error", () => reject(incomplete(src)));
    document.head.append(script);
    script.remove();
  });
}

const incomplete = (src) =>
  new Refused(`The file ${src} is missing or damaged. Please copy the whole folder, not this page alone, and try again.`);

/** Load everything; returns what looks at a photograph, one at a time. */
async function startModel(progress) {
  const files = report.files;
  const total = files.script.bytes + files.wasm.bytes + files.model.bytes;
  let done = 0;
  const step = (size) => progress((done += size), total);
  const script = await assemble(files.script, step);
  const wasm = await assemble(files.wasm, step);
  const model = await assemble(files.model, step);
  const blob = (content) => URL.createObjectURL(new Blob([content], { type: "text/javascript" }));
  const worker = new Worker(blob(report.worker));
  const ask = (message, moved = []) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => (data.error === undefined ? resolve(data) : reject(new Error(data.error)));
      worker.onerror = (event) => reject(new Error(event.message || "the worker did not start"));
      worker.postMessage(message, moved);
    });
  await ask({ script, wasm: wasm.buffer, model: model.buffer }, [wasm.buffer, model.buffer]);
  return (pixels) => ask({ pixels, size: report.image.size }, [pixels.buffer]);
}

/** Probabilities of all classes. */
function probabilities(logits) {
  if (report.multilabel) return Float64Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)));
  const most = logits.reduce((one, other) => Math.max(one, other));
  const powers = Float64Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = powers.reduce((one, other) => one + other);
  return powers.map((power) => power / sum);
}
