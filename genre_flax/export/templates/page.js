// Predicts the genres of a poster that the user selects, drops or pastes.

import {FileError, decode} from './decode.js';
import * as ort from './onnxruntime/ort.wasm.bundle.min.mjs';

const TOP_K = 3;
const element = (id) => document.getElementById(id);

async function fetchFile(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} is missing (${response.status})`);
  return response;
}

// The network and its config.
async function loadModel() {
  const config = await (await fetchFile('config.json')).json();
  ort.env.logLevel = 'error';
  // Threads need headers that few static hosts send.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = {
    wasm: new URL(
      'onnxruntime/ort-wasm-simd-threaded.wasm', import.meta.url).href,
  };
  const network = await (await fetchFile('model.onnx')).arrayBuffer();
  const session = await ort.InferenceSession.create(
    new Uint8Array(network), {executionProviders: ['wasm']});
  return {config, session};
}

// [{genre, score}] of an image file, in descending order.
async function predict({config, session}, file) {
  const {image_width: width, image_height: height, genres} = config;
  const pixels = await decode(file, width, height);
  const images = new ort.Tensor(
    'uint8', new Uint8Array(pixels.buffer), [1, height, width, 3]);
  const {scores, logits} = await session.run({images});
  // Sorted by logits: scores close to 1 are equal in float32.
  return genres
    .map((genre, i) => (
      {genre, score: scores.data[i], logit: logits.data[i]}))
    .sort((a, b) => b.logit - a.logit);
}

const percent = (score) =>
  score > 0 && score < 0.01 ? '< 1 %' : `${Math.round(100 * score)} %`;

function span(className, text = '') {
  const created = document.createElement('span');
  created.className = className;
  created.textContent = text; // Genres are text, never HTML.
  return created;
}

function toItem({genre, score}) {
  const item = document.createElement('li');
  const bar = span('bar');
  item.append(span('genre', genre), span('score', percent(score)), bar);
  // In the next frame, so that the transition starts from 0.
  requestAnimationFrame(() =>
    bar.style.setProperty('--share', `${100 * score}%`));
  return item;
}

// Shows a status; `details` are for screen readers only.
function showStatus(text, details = '') {
  element('status').replaceChildren(text, span('screen-reader', details));
}

function showError(text) {
  element('error').textContent = text;
}

function showPredictions(predictions) {
  element('top3').replaceChildren(...predictions.slice(0, TOP_K).map(toItem));
  const others = predictions.slice(TOP_K);
  element('others').replaceChildren(...others.map(toItem));
  element('more').hidden = others.length === 0;
}

function showPoster(file) {
  const image = element('poster');
  URL.revokeObjectURL(image.src);
  image.hidden = !file;
  element('upload').classList.toggle('full', !!file);
  if (!file) return;
  image.src = URL.createObjectURL(file);
  image.alt = `Poster ${file.name}`;
}

let lastRequest = 0;

async function handleFile(model, file) {
  const request = ++lastRequest;
  showError('');
  showPredictions([]);
  showPoster(null);
  showStatus('Predicting genres');
  try {
    const predictions = await predict(await model, file);
    if (request !== lastRequest) return; // Superseded by another file.
    showPoster(file);
    showPredictions(predictions);
    const top = predictions.slice(0, TOP_K);
    showStatus(
      `Top-${top.length} predictions`,
      `: ${top.map(({genre, score}) => `${genre} ${percent(score)}`)
        .join(', ')}`);
  } catch (error) {
    if (request !== lastRequest) return;
    showStatus('');
    showError(
      error instanceof FileError
        ? error.message
        : `The prediction failed: ${error.message}`);
  }
}

function addListeners(model) {
  const input = element('file');
  const upload = element('upload');
  input.addEventListener('change', () => {
    if (input.files.length) handleFile(model, input.files[0]);
    input.value = ''; // Allows to select the same file again.
  });
  document.addEventListener('paste', (event) => {
    const files = event.clipboardData.files;
    if (files.length) handleFile(model, files[0]);
    else showError('The clipboard contains no image.');
  });
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    upload.classList.add('over');
  });
  document.addEventListener('dragleave', () =>
    upload.classList.remove('over'));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    upload.classList.remove('over');
    const files = event.dataTransfer.files;
    if (files.length) handleFile(model, files[0]);
    else showError('Only files can be dropped; save the image first.');
  });
}

// A summary of the network and its metrics.
function describe({network, step, genres, metrics, is_image_alone: isAlone}) {
  const parts = [
    `Network ${network.name}, step ${step}, ${genres.length} genres.`];
  if (isAlone) parts.push('The text on the poster is not read.');
  const hit = metrics?.hit_at_3;
  if (Number.isFinite(hit?.value)) {
    const interval = hit.low === null
      ? '' : ` (${percent(hit.low)} to ${percent(hit.high)})`;
    parts.push(
      `The top-3 predictions contain a correct genre for ${percent(hit.value)}`
      + `${interval} of ${metrics.num_examples} posters of the split`
      + ` ${metrics.split}; those of the constant baseline for`
      + ` ${percent(hit.constant_baseline)}.`);
  }
  parts.push('A poster says little about a film; predictions are often wrong.');
  return parts.join(' ');
}

async function start() {
  showStatus('Loading the network');
  const model = loadModel();
  addListeners(model);
  try {
    element('about').textContent = describe((await model).config);
    if (lastRequest === 0) showStatus('Ready');
  } catch (error) {
    showStatus('');
    showError(`The network could not be loaded: ${error.message}`);
  }
}

start();
