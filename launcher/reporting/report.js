"use strict";
(() => {
  const table = document.querySelector("#runs table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const said = document.querySelector("#said");
  const search = document.querySelector("#search");
  const boxes = [...document.querySelectorAll("input[name=status]")];

  const value = (row, column) => {
    const text = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const number = Number(text);
    return text === "" || Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) =>
    a === b ? 0 : a === "" ? 1 : b === "" ? -1
      : typeof a === "number" && typeof b === "number" ? a - b
        : String(a).localeCompare(String(b), undefined, { numeric: true });

  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const column = head.cellIndex;
      const sorted = [...rows].sort((a, b) => {
        const [one, two] = [value(a, column), value(b, column)];
        const order = compare(one, two);
        return one === "" || two === "" ? order : down ? -order : order; // what has no value stays last
      });
      body.append(...sorted);
      said.textContent = `sorted by ${button.textContent.trim()}, ${down ? "largest" : "smallest"} first`;
    });
  }

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(wanted.has(row.dataset.status) && words.every((word) => text.includes(word)));
      count += row.hidden ? 0 : 1;
    }
    for (const figure of document.querySelectorAll("figure[data-row]"))
      figure.hidden = document.getElementById(figure.dataset.row).hidden;
    said.textContent = `${count} of ${rows.length} rows`;
  };
  search.addEventListener("input", filter);
  for (const box of boxes) box.addEventListener("change", filter);
  const form = document.querySelector("#filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  document.querySelector("#all").addEventListener("click", () => {
    form.reset();
    filter();
  });
  form.hidden = false; // without a script there is nothing to filter with
})();
