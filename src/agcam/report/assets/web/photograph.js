// A photograph from its file: read as the command reads it, or refused in words.

const MOST_PIXELS = 100e6; // as in io/images.py
const VIEW = 1280; // the longest side of what is shown

/** An error whose message is meant for the reader. */
class Refused extends Error {}

async function openPhotograph(file) {
  const url = URL.createObjectURL(file);
  try {
    const image = Object.assign(new Image(), { src: url });
    try {
      await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
    } catch {
      throw new Refused(unreadable(file));
    }
    const { naturalWidth: width, naturalHeight: height } = image;
    if (!width || !height || file.type === "image/svg+xml") throw new Refused(unreadable(file));
    if (width * height > MOST_PIXELS) {
      throw new Refused(
        `This picture has ${Math.round((width * height) / 1e6)} megapixels, the limit is ${MOST_PIXELS / 1e6}. Please reduce it.`,
      );
    }
    return await decode(file);
  } finally {
    URL.revokeObjectURL(url);
  }
}

function unreadable(file) {
  if (!file.size) return "This file is empty.";
  if (/\.(tiff?|hei[cf]|cr[23]|nef|arw|dng|raw)$/i.test(file.name)) {
    return "This browser cannot read such pictures. Please save it as JPEG or PNG first.";
  }
  return "This is not a picture that this browser can read, or it is damaged. JPEG, PNG and WebP are fine.";
}

/** {width, height, pixels, transparent, view}: the model's square as bytes, and a reduced picture to look at. */
async function decode(file) {
  // colors as they lie in the file, upright: what the command gives the model
  const how = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, how);
  } catch {
    throw new Refused(unreadable(file));
  }
  try {
    const { width, height } = bitmap;
    let transparent = false;
    const rows = (y, count) => {
      const context = canvasOf(width, count);
      context.drawImage(bitmap, 0, -y);
      const { data } = context.getImageData(0, 0, width, count);
      for (let i = 3; i < data.length && !transparent; i += 4) transparent = data[i] < 255;
      return data;
    };
    const pixels = resizePhotograph(width, height, rows, report.image);
    const scale = Math.min(1, VIEW / Math.max(width, height));
    const view = canvasOf(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    view.imageSmoothingQuality = "high";
    view.fillRect(0, 0, view.canvas.width, view.canvas.height); // black, as the model gets what is transparent
    view.drawImage(bitmap, 0, 0, view.canvas.width, view.canvas.height);
    return { width, height, pixels, transparent, view: view.canvas };
  } finally {
    bitmap.close();
  }
}

function canvasOf(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  return canvas.getContext("2d", { willReadFrequently: true });
}
