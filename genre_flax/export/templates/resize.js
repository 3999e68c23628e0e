// Pillow's way of making pictures smaller, number by number: what the network
// was trained on is what it is to be shown. A picture is {width, height, data},
// data with three bytes a pixel.

// Bits behind the point of Pillow's weights.
const PRECISION = 2 ** 22;

// Pillow's `resize(size, BILINEAR, reducing_gap=2.0)` of one side after the
// other, such that fewer pixels are between them.
export function resize(picture, width, height) {
  const across = (one) => squeeze(one, width);
  const down = (one) => turn(squeeze(turn(one), height));
  return picture.width * height <= width * picture.height
    ? across(down(picture))
    : down(across(picture));
}

// What suffices of a JPEG that a decoder could give at a half, a quarter or an
// eighth, as libjpeg does for Pillow's `draft`.
export function draft(picture, width, height) {
  const scale = Math.min(
    Math.floor(picture.width / width), Math.floor(picture.height / height));
  const factor = [8, 4, 2].find((one) => scale >= one) ?? 1;
  return reduce(picture, factor, factor);
}

// Pillow's `reduce((across, down))`: the means of blocks.
export function reduce(picture, across, down) {
  if (across === 1 && down === 1) return picture;
  const width = Math.ceil(picture.width / across);
  const height = Math.ceil(picture.height / down);
  const data = new Uint8ClampedArray(3 * width * height);
  for (let y = 0; y < height; y++) {
    const bottom = Math.min(picture.height, (y + 1) * down);
    for (let x = 0; x < width; x++) {
      const right = Math.min(picture.width, (x + 1) * across);
      const count = (right - x * across) * (bottom - y * down);
      // A mean without a division, rounded as Pillow rounds it.
      const share = Math.floor(2 ** 24 / count);
      for (let channel = 0; channel < 3; channel++) {
        let sum = count >> 1;
        for (let row = y * down; row < bottom; row++) {
          for (let column = x * across; column < right; column++) {
            sum += picture.data[3 * (row * picture.width + column) + channel];
          }
        }
        data[3 * (y * width + x) + channel] =
          Math.floor((sum * share) / 2 ** 24);
      }
    }
  }
  return {width, height, data};
}

// Rows of a picture with a triangle filter to `width` pixels.
function squeeze(whole, width) {
  const factor = Math.floor(whole.width / width / 2) || 1;
  const picture = reduce(whole, factor, 1);
  // In pixels of the reduced picture, whose last one may be cut.
  const scale = whole.width / factor / width;
  const support = Math.max(scale, 1);
  const data = new Uint8ClampedArray(3 * width * picture.height);
  for (let x = 0; x < width; x++) {
    const center = (x + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(picture.width, Math.trunc(center + support + 0.5));
    const weights = weigh(first, last, center, support);
    for (let y = 0; y < picture.height; y++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = PRECISION / 2;
        let place = 3 * (y * picture.width + first) + channel;
        for (const weight of weights) {
          sum += weight * picture.data[place];
          place += 3;
        }
        data[3 * (y * width + x) + channel] = Math.floor(sum / PRECISION);
      }
    }
  }
  return {width, height: picture.height, data};
}

// The weights of the pixels from `first` to before `last`, as whole numbers.
function weigh(first, last, center, support) {
  const weights = [];
  let sum = 0;
  for (let pixel = first; pixel < last; pixel++) {
    const distance = Math.abs((pixel - center + 0.5) * (1 / support));
    weights.push(Math.max(0, 1 - distance));
    sum += weights.at(-1);
  }
  return weights.map((one) => Math.trunc(0.5 + (one / sum) * PRECISION));
}

// Rows as columns.
function turn({width, height, data}) {
  const turned = new Uint8ClampedArray(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 3; channel++) {
        turned[3 * (x * height + y) + channel] =
          data[3 * (y * width + x) + channel];
      }
    }
  }
  return {width: height, height: width, data: turned};
}
