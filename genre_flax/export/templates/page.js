// The page: takes a poster, and shows its genres.

import {BadFileError, decode} from './decode.js';
import * as ort from './onnxruntime/ort.wasm.bundle.min.mjs';

const NUM_NAMED = 3;
const find = (id) => document.getElementById(id);

// The network and what is to be known of it.
async function load() {
  const config = await (await get('config.json')).json();
  ort.env.logLevel = 'error';
  // More threads would need headers that few hosts send.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = {
    wasm: new URL(
      'onnxruntime/ort-wasm-simd-threaded.wasm', import.meta.url).href,
  };
  const network = await (await get('model.onnx')).arrayBuffer();
  const session = await ort.InferenceSession.create(
    new Uint8Array(network), {executionProviders: ['wasm']});
  return {config, session};
}

async function get(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} is missing (${response.status})`);
  return response;
}

// [{genre, score}] of a file, the likeliest first.
async function nameGenres({config, session}, file) {
  const {image_width: width, image_height: height, genres} = config;
  const pixels = await decode(file, width, height);
  const images = new ort.Tensor(
    'uint8', new Uint8Array(pixels.buffer), [1, height, width, 3]);
  const results = await session.run({images});
  const {scores, logits} = {
    scores: results.scores.data, logits: results.logits.data};
  // By the logits: scores that are nearly 1 are equal in 32 bits.
  return genres
    .map((genre, i) => ({genre, score: scores[i], logit: logits[i]}))
    .sort((a, b) => b.logit - a.logit);
}

const percent = (score) =>
  score > 0 && score < 0.01 ? '< 1 %' : `${Math.round(100 * score)} %`;

// Names are put in as text, whatever they hold.
function toItem({genre, score}) {
  const item = document.createElement('li');
  for (const [kind, text] of [['name', genre], ['score', percent(score)]]) {
    const part = document.createElement('span');
    part.className = kind;
    part.textContent = text;
    item.append(part);
  }
  const bar = document.createElement('div');
  bar.className = 'bar';
  bar.ariaHidden = 'true';
  const share = document.createElement('span');
  bar.append(share);
  item.append(bar);
  // Once it is in the page, so that it grows.
  requestAnimationFrame(() =>
    share.style.setProperty('--share', `${100 * score}%`));
  return item;
}

// What only those hear who do not see the rest is said after the text.
function say(text, unseen = '') {
  const more = document.createElement('span');
  more.className = 'unseen';
  more.textContent = unseen;
  find('status').replaceChildren(text, more);
}

function complain(text) {
  find('error').textContent = text;
}

function show(named) {
  find('named').replaceChildren(...named.slice(0, NUM_NAMED).map(toItem));
  const others = named.slice(NUM_NAMED);
  find('others').replaceChildren(...others.map(toItem));
  find('more').hidden = others.length === 0;
  find('more').querySelector('summary').textContent =
    `${others.length} other genre${others.length === 1 ? '' : 's'}`;
}

function clear() {
  show([]);
  const image = find('poster');
  URL.revokeObjectURL(image.src);
  image.removeAttribute('src');
  image.hidden = true;
  find('place').classList.remove('full');
  find('invitation').lastElementChild.textContent =
    'or drop it here, or paste it';
}

function showPoster(file) {
  const image = find('poster');
  image.src = URL.createObjectURL(file);
  image.alt = `The poster ${file.name}`;
  image.hidden = false;
  find('place').classList.add('full');
  find('invitation').lastElementChild.textContent =
    'Choose, drop or paste another one';
}

let latest = 0;

async function take(network, file) {
  const number = ++latest;
  complain('');
  clear();
  say('Looking at the poster');
  try {
    const named = await nameGenres(await network, file);
    if (number !== latest) return; // Another one was given meanwhile.
    showPoster(file);
    show(named);
    say(
      named.length > NUM_NAMED ? 'The three likeliest genres' : 'Its genres',
      `: ${named.slice(0, NUM_NAMED)
        .map(({genre, score}) => `${genre} ${percent(score)}`).join(', ')}`);
  } catch (error) {
    if (number !== latest) return;
    say('');
    complain(
      error instanceof BadFileError
        ? error.message
        : `The poster could not be looked at: ${error.message}`);
  }
}

function listen(network) {
  const input = find('file');
  input.addEventListener('change', () => {
    if (input.files.length) take(network, input.files[0]);
    input.value = ''; // So that the same file may be chosen again.
  });
  document.addEventListener('paste', (event) => {
    const files = event.clipboardData.files;
    if (files.length) take(network, files[0]);
    else complain('There is no image in the clipboard.');
  });
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    find('place').classList.add('over');
  });
  document.addEventListener('dragleave', () =>
    find('place').classList.remove('over'));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    find('place').classList.remove('over');
    const files = event.dataTransfer.files;
    if (files.length) take(network, files[0]);
    else complain('That was no file; save the image, and drop the file.');
  });
}

// The network, its scores and its limits, in a line.
function describe({network, step, genres, scores}) {
  const parts = [
    `Network ${network.name}, step ${step}, ${genres.length} genres.`];
  if (Number.isFinite(scores?.hit_at_3?.value)) {
    const {value, low, high, constant_baseline: baseline} = scores.hit_at_3;
    parts.push(
      `At least one of the three is right for ${percent(value)}`
      + (low === null ? '' : ` (${percent(low)} to ${percent(high)})`)
      + ` of ${scores.num_examples} posters of the split ${scores.split};`
      + ` without looking at them, for ${percent(baseline)}.`);
  }
  parts.push(
    'A poster says little of a film: take it for what such posters usually'
    + ' stand for.');
  return parts.join(' ');
}

async function start() {
  say('Loading the network');
  const network = load();
  listen(network);
  try {
    find('about').textContent = describe((await network).config);
    if (latest === 0) say('Ready. A poster that you give stays on this device.');
  } catch (error) {
    say('');
    complain(`The network could not be loaded: ${error.message}`);
  }
}

start();
