// Sends posters that are dropped, pasted or chosen, one by one, so that one
// that is refused does not take the others with it.
const zone = element.querySelector('.gf-drop');
const input = zone.querySelector('input');
const status = zone.querySelector('.gf-status');
let isBusy = false;

async function send(list) {
  const files = [...list];
  if (!files.length || isBusy) return;
  isBusy = true;
  zone.dataset.busy = '';
  const sent = [];
  for (const [number, file] of files.entries()) {
    status.textContent = files.length > 1
      ? `Sending ${number + 1} of ${files.length} …` : 'Sending …';
    const name = file.name || 'pasted.png';
    if (file.size > zone.dataset.maxBytes) {
      sent.push({name, error: 'file too large: it has '
        + `${file.size.toLocaleString('en')} bytes; at most `
        + `${Number(zone.dataset.maxBytes).toLocaleString('en')} are accepted`});
      continue;
    }
    try {
      const {path} = await upload(file);
      sent.push({name, path});
    } catch (error) {
      sent.push({name, error: String(error.message || error)});
    }
  }
  isBusy = false;
  delete zone.dataset.busy;
  status.textContent = '';
  input.value = '';
  trigger('upload', {files: sent});
}

input.addEventListener('change', () => send(input.files));
zone.addEventListener('dragover', (event) => {
  event.preventDefault();
  zone.dataset.over = '';
});
for (const name of ['dragleave', 'drop']) {
  zone.addEventListener(name, () => delete zone.dataset.over);
}
zone.addEventListener('drop', (event) => {
  event.preventDefault();
  send(event.dataTransfer.files);
});
document.addEventListener('paste', (event) => {
  if (event.clipboardData?.files.length) {
    event.preventDefault();
    send(event.clipboardData.files);
  }
});
