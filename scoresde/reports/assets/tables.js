"use strict";
for (const table of document.querySelectorAll(".sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  // Rows without a number stay at the end in both directions.
  const compare = (column, sign) => (a, b) => {
    const [one, other] = [a, b].map((row) => row.cells[column]);
    const [x, y] = [one, other].map((cell) => cell.querySelector("data"));
    if (x && y) return sign * (Number(x.value) - Number(y.value));
    if (x || y) return x ? -1 : 1;
    return sign * one.textContent.localeCompare(other.textContent, "en", { numeric: true });
  };
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const next = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const one of headings) one.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", next);
      body.append(...[...body.rows].sort(compare(column, next === "ascending" ? 1 : -1)));
      window.say(`Sorted by ${heading.textContent.trim()}, ${next}`);
    });
  });
}
