// Runs the model beside the page, so that the page stays awake.

let runtime = null;
let session = null;

async function start({ script, wasm, model }) {
  runtime = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  Object.assign(runtime.env.wasm, { wasmBinary: wasm, numThreads: 1 }); // files have no threads that share memory
  session = await runtime.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  return { ready: true };
}

async function look({ pixels, size }) {
  const images = new runtime.Tensor("uint8", pixels, [1, size, size, 3]);
  const { logits, targets, heatmaps } = await session.run({ images });
  const [, , h, w] = heatmaps.dims;
  return { logits: logits.data, targets: [...targets.data].map(Number), heatmaps: heatmaps.data, h, w };
}

addEventListener("message", async ({ data }) => {
  try {
    postMessage(await (session ? look(data) : start(data)));
  } catch (error) {
    postMessage({ error: String(error?.message ?? error) });
  }
});
