// Pillow's resizing, bit for bit, since the network was trained with it. A
// picture is {width, height, data} with three bytes per pixel.

// Pillow's weights are integers with 22 fractional bits.
const PRECISION = 2 ** 22;

// Pillow's `resize(size, BILINEAR, reducing_gap=2.0)`, one side after the
// other, in the order with fewer pixels in between.
export function resize(picture, width, height) {
  const horizontally = (source) => resizeRows(source, width);
  const vertically = (source) =>
    transpose(resizeRows(transpose(source), height));
  return picture.width * height <= width * picture.height
    ? horizontally(vertically(picture))
    : vertically(horizontally(picture));
}

// Reduces a JPEG by 2, 4 or 8, as libjpeg does for Pillow's `draft`.
export function draft(picture, width, height) {
  const scale = Math.min(
    Math.floor(picture.width / width), Math.floor(picture.height / height));
  const factor = [8, 4, 2].find((candidate) => scale >= candidate) ?? 1;
  return reduce(picture, factor, factor);
}

// Pillow's `reduce((xFactor, yFactor))`: the means of blocks.
export function reduce(picture, xFactor, yFactor) {
  if (xFactor === 1 && yFactor === 1) return picture;
  const width = Math.ceil(picture.width / xFactor);
  const height = Math.ceil(picture.height / yFactor);
  const data = new Uint8ClampedArray(3 * width * height);
  for (let y = 0; y < height; y++) {
    const bottom = Math.min(picture.height, (y + 1) * yFactor);
    for (let x = 0; x < width; x++) {
      const right = Math.min(picture.width, (x + 1) * xFactor);
      const count = (right - x * xFactor) * (bottom - y * yFactor);
      // Pillow multiplies by a rounded reciprocal instead of dividing.
      const reciprocal = Math.floor(2 ** 24 / count);
      for (let channel = 0; channel < 3; channel++) {
        let sum = count >> 1;
        for (let row = y * yFactor; row < bottom; row++) {
          for (let column = x * xFactor; column < right; column++) {
            sum += picture.data[3 * (row * picture.width + column) + channel];
          }
        }
        data[3 * (y * width + x) + channel] =
          Math.floor((sum * reciprocal) / 2 ** 24);
      }
    }
  }
  return {width, height, data};
}

// Resizes all rows to `width` pixels with a triangle filter.
function resizeRows(original, width) {
  const factor = Math.floor(original.width / width / 2) || 1;
  const picture = reduce(original, factor, 1);
  // In pixels of the reduced picture, whose last block may be incomplete.
  const scale = original.width / factor / width;
  const support = Math.max(scale, 1);
  const data = new Uint8ClampedArray(3 * width * picture.height);
  for (let x = 0; x < width; x++) {
    const center = (x + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(picture.width, Math.trunc(center + support + 0.5));
    const weights = filterWeights(first, last, center, support);
    for (let y = 0; y < picture.height; y++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = PRECISION / 2;
        let index = 3 * (y * picture.width + first) + channel;
        for (const weight of weights) {
          sum += weight * picture.data[index];
          index += 3;
        }
        data[3 * (y * width + x) + channel] = Math.floor(sum / PRECISION);
      }
    }
  }
  return {width, height: picture.height, data};
}

// The integer weights of the pixels in [first, last).
function filterWeights(first, last, center, support) {
  const weights = [];
  let sum = 0;
  for (let pixel = first; pixel < last; pixel++) {
    const distance = Math.abs((pixel - center + 0.5) * (1 / support));
    weights.push(Math.max(0, 1 - distance));
    sum += weights.at(-1);
  }
  return weights.map((weight) =>
    Math.trunc(0.5 + (weight / sum) * PRECISION));
}

function transpose({width, height, data}) {
  const transposed = new Uint8ClampedArray(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        transposed[3 * (x * height + y) + channel] =
          data[3 * (y * width + x) + channel];
      }
    }
  }
  return {width: height, height: width, data: transposed};
}
