"use strict";
// The page is complete without this: a filter over all tables, and heads that sort their column.
const filter = document.getElementById("filter");
const verdict = document.getElementById("verdict");
const tables = [...document.querySelectorAll("table.sortable")];

function number(text) {
  const plain = text.replace(/[,%\s]/g, "");
  return plain !== "" && Number.isFinite(Number(plain)) ? Number(plain) : null;
}

// Numbers come before words, and what is empty last, in whichever direction.
function compare(a, b, sign) {
  if ((a === "") !== (b === "")) return a === "" ? 1 : -1;
  const [x, y] = [number(a), number(b)];
  if (x !== null && y !== null) return sign * (x - y);
  if ((x === null) !== (y === null)) return x === null ? 1 : -1;
  return sign * a.localeCompare(b);
}

function sortBy(table, column, head) {
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const text = (row) => row.cells[column].textContent.trim();
  const rows = [...table.tBodies[0].rows].sort((a, b) => compare(text(a), text(b), sign));
  table.tBodies[0].append(...rows);
}

function show() {
  const words = filter.value.toLowerCase().split(/\s+/);
  for (const table of tables) {
    let kept = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      const right = !verdict.value || row.dataset.verdict === verdict.value;
      row.hidden = !(right && words.every((word) => text.includes(word)));
      kept += row.hidden ? 0 : 1;
    }
    const all = table.tBodies[0].rows.length;
    table.closest("section").querySelector(".count").textContent = kept < all ? `${kept} of ${all}` : `${all}`;
  }
}

for (const label of document.querySelectorAll("label.filter")) label.hidden = false;
filter.addEventListener("input", show);
verdict.addEventListener("change", show);
for (const table of tables) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sortBy(table, column, head));
  });
}
show();
