// Sorts a table by the column whose heading is pressed.
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
    // What is not defined comes last, either way.
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

// A poster that is pressed shows where the network looked, and back again.
document.addEventListener('click', (event) => {
  const button = event.target.closest('.card button');
  if (button) {
    const isShown = button.getAttribute('aria-pressed') === 'true';
    button.setAttribute('aria-pressed', String(!isShown));
  }
});

// A genre that is linked to is opened; on paper all of them are.
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
