"use strict";

// Sorting: a click on a head, or Enter or space there, sorts by its column; again, the other way round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}

function sortBy(head) {
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = head.closest("table").tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(a.cells[head.cellIndex], b.cells[head.cellIndex]));
  body.append(...(descending ? rows.reverse() : rows));
}

function compare(a, b) {
  const [x, y] = [a, b].map((cell) => Number((cell.dataset.value ?? "NaN").replace("inf", "Infinity")));
  if (Number.isNaN(x) || Number.isNaN(y)) return a.textContent.localeCompare(b.textContent);
  return x < y ? -1 : x > y ? 1 : 0;
}

// Filtering: rows and columns of other methods, rows and figures of other data sets are hidden.
const data = document.getElementById("data");
const methods = document.getElementById("methods");
for (const input of [data, methods]) input.addEventListener("change", filter);

function filter() {
  const unchecked = [...methods.querySelectorAll("input:not(:checked)")].map((input) => input.value);
  for (const element of document.querySelectorAll("[data-data], [data-method]")) {
    const other = data.value && element.dataset.data && element.dataset.data !== data.value;
    element.hidden = Boolean(other) || unchecked.includes(element.dataset.method);
  }
}

// What is wider than its place scrolls, and says on which side there is more.
function mark(box) {
  const hidden = box.scrollWidth - box.clientWidth - box.scrollLeft;
  box.classList.toggle("before", box.scrollLeft > 1);
  box.classList.toggle("after", hidden > 1);
}

const boxes = [...document.querySelectorAll(".scroll")];
const resized = new ResizeObserver(() => boxes.forEach(mark));
for (const box of boxes) {
  box.addEventListener("scroll", () => mark(box), { passive: true });
  resized.observe(box);
  resized.observe(box.firstElementChild);
}

// Zooming: as large as the window, and by a click on it as large as it is.
const enlarged = document.getElementById("enlarged");
const frame = enlarged.querySelector(".frame");
for (const button of document.querySelectorAll(".zoom")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img");
    Object.assign(frame.querySelector("img"), { src: image.src, alt: image.alt });
    frame.classList.remove("actual");
    enlarged.showModal();
  });
}
frame.addEventListener("click", () => frame.classList.toggle("actual"));
document.getElementById("close").addEventListener("click", () => enlarged.close());

filter(); // a browser keeps the choices over a reload
