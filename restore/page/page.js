"use strict";
for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input");
  const move = () => slider.style.setProperty("--at", `${range.value}%`);
  range.addEventListener("input", move);
  move(); // a browser may keep the old place when the page is read again
}
for (const choice of document.querySelectorAll(".choice")) {
  const slider = choice.parentElement.querySelector(".slider");
  for (const button of choice.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      for (const other of choice.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
      for (const image of slider.querySelectorAll(".after")) image.hidden = image.dataset.label !== button.dataset.label;
      slider.querySelector(".right").textContent = button.dataset.label;
    });
  }
}
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.querySelectorAll("th")];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of headings) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const x = value(a), y = value(b), difference = Number(x) - Number(y);
      return Number.isNaN(difference) ? x.localeCompare(y) : difference;
    };
    const rows = [...table.tBodies[0].rows].sort(compare);
    if (!ascending) rows.reverse();
    table.tBodies[0].append(...rows);
  }));
}
