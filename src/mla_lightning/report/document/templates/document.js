// Checkboxes that show and hide the columns of a table.
for (const box of document.querySelectorAll("input[data-table]")) {
  box.addEventListener("change", () => {
    const cells = `#${box.dataset.table} [data-column="${box.dataset.column}"]`;
    for (const cell of document.querySelectorAll(cells)) cell.hidden = !box.checked;
  });
}
