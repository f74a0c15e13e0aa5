"use strict";
// The page is complete without this: a filter for the config keys and a button that copies the spec.
const filter = document.getElementById("filter");
if (filter) {
  const rows = [...document.querySelectorAll("#keys tbody tr")];
  filter.hidden = rows.length < 12;
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(words);
  });
}
const copy = document.getElementById("copy");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.querySelector(".spec code").textContent);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
}
