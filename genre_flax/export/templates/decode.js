// Decodes image files, with the limits and the steps of genre_flax.

import {draft, resize} from './resize.js';

const MAX_BYTES = 2 ** 28;
const MAX_PIXELS = 2 ** 26;

// An error of a file, with a message for the user.
export class FileError extends Error {}

// The pixels of an image file, resized: uint8 [height, width, 3].
export async function decode(file, width, height) {
  const format = await detectFormat(file);
  const bitmap = await open(file);
  try {
    let picture = toPicture(bitmap);
    if (format === 'JPEG') picture = draft(picture, width, height);
    return resize(picture, width, height).data;
  } finally {
    bitmap.close();
  }
}

// The format, by the first bytes of the file.
async function detectFormat(file) {
  if (file.size === 0) throw new FileError('The file is empty.');
  if (file.size > MAX_BYTES) {
    throw new FileError('The file is too large; the limit is 256 MB.');
  }
  const head = new Uint8Array(await file.slice(0, 64).arrayBuffer());
  const text = String.fromCharCode(...head);
  if (text.startsWith('\xff\xd8\xff')) return 'JPEG';
  if (text.startsWith('\x89PNG\r\n\x1a\n')) return 'PNG';
  if (text.startsWith('RIFF') && text.slice(8, 12) === 'WEBP') return 'WebP';
  if (/^GIF8[79]a/.test(text)) return 'GIF';
  if (/^(\xef\xbb\xbf)?\s*<(!doctype )?html/i.test(text)) {
    throw new FileError('The file is a web page, not an image.');
  }
  throw new FileError('Unknown format; expected JPEG, PNG, WebP or GIF.');
}

// The decoded image, upright, without color conversion.
async function open(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {
      colorSpaceConversion: 'none',
      imageOrientation: 'from-image',
      premultiplyAlpha: 'none',
    });
  } catch {
    throw new FileError('The image is damaged or too large.');
  }
  if (bitmap.width * bitmap.height > MAX_PIXELS) {
    bitmap.close();
    throw new FileError('The image is too large; the limit is 64 megapixels.');
  }
  return bitmap;
}

// {width, height, data} of an image, composed on white.
function toPicture(bitmap) {
  const {width, height} = bitmap;
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', {willReadFrequently: true});
  if (!context) {
    throw new FileError('The image is too large for this browser.');
  }
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8ClampedArray(3 * width * height);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    data[to++] = rgba[from];
    data[to++] = rgba[from + 1];
    data[to++] = rgba[from + 2];
  }
  return {width, height, data};
}
