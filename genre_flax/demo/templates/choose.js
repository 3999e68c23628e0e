// Tells which button of a list was chosen, by what its attribute KEY says.
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-KEY]');
  if (!button) return;
  for (const other of element.querySelectorAll('button[data-KEY]')) {
    other.setAttribute('aria-pressed', other === button);
  }
  trigger('select', {index: Number(button.dataset.KEY)});
});
