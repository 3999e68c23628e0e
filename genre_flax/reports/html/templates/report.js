// Sorts a table by a column when its heading is clicked.
for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => {
    const heading = button.closest('th');
    const table = heading.closest('table');
    const isText = heading.cellIndex === 0;
    const before = heading.getAttribute('aria-sort');
    const isUp = before ? before === 'descending' : isText;
    for (const other of table.querySelectorAll('th')) {
      other.removeAttribute('aria-sort');
    }
    heading.setAttribute('aria-sort', isUp ? 'ascending' : 'descending');
    const key = (row) => row.cells[heading.cellIndex].dataset.value;
    // Undefined values come last in both orders.
    const number = (row) => (key(row) === '' ? NaN : Number(key(row)));
    const order = (a, b) => {
      if (isText) return (isUp ? 1 : -1) * key(a).localeCompare(key(b));
      const [x, y] = [number(a), number(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) {
        return Number.isNaN(x) - Number.isNaN(y);
      }
      return isUp ? x - y : y - x;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(order));
  });
}

// A click on a poster shows or hides its attribution map.
document.addEventListener('click', (event) => {
  const button = event.target.closest('.card button');
  if (button) {
    const isShown = button.getAttribute('aria-pressed') === 'true';
    button.setAttribute('aria-pressed', String(!isShown));
  }
});

// A link to a genre opens its details; printing opens all of them.
const openLinked = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.tagName === 'DETAILS') target.open = true;
};
addEventListener('hashchange', openLinked);
openLinked();
addEventListener('beforeprint', () => {
  for (const details of document.querySelectorAll('details')) {
    details.open = true;
  }
});
