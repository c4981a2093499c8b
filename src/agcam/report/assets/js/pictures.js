// Pictures are decoded when they come into view; the latest ones are kept.

const kept = new Map();
const KEPT = 150;

/** The decoded picture of this number. */
function picture(number) {
  let found = kept.get(number);
  kept.delete(number);
  if (!found) {
    const image = new Image();
    image.src = report.pictures[number].src;
    found = image.decode().then(() => image);
  }
  kept.set(number, found);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return found;
}
