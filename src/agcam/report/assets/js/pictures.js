// Pictures are decoded when they come into view; the latest ones are kept. All are loaded, still packed, with the page:
// printing waits for nothing, so what it draws must be there.

const loaded = report.pictures.map(({ src }) => Object.assign(new Image(), { src }));

const kept = new Map();
const KEPT = 150;

/** The decoded picture of this number. */
function picture(number) {
  let found = kept.get(number);
  kept.delete(number);
  if (!found) {
    const image = loaded[number];
    found = image.decode().then(() => image);
  }
  kept.set(number, found);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return found;
}
