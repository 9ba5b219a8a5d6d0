// Choosing of methods in all figures at once, values under the pointer, sorting and filtering of runs.
const named = [...document.querySelectorAll("[data-column-name]")];
if (innerWidth < 640) for (const part of document.querySelectorAll(".columns")) part.open = false;
for (const chooser of document.querySelectorAll(".columns")) {
  const boxes = [...chooser.querySelectorAll("input")];
  const show = () => {
    const selected = new Set(boxes.filter(box => box.checked).map(box => box.value));
    for (const element of named)
      element.classList.toggle("dimmed", !selected.has(element.dataset.columnName));
  };
  const choose = (name, isChosen) => {
    for (const element of named)
      if (element.dataset.columnName === name) element.classList.toggle("chosen", isChosen);
  };
  for (const box of boxes) {
    box.addEventListener("change", show);
    for (const [event, isChosen] of [["focus", true], ["blur", false]])
      box.addEventListener(event, () => choose(box.value, isChosen));
    box.parentElement.addEventListener("pointerenter", () => choose(box.value, true));
    box.parentElement.addEventListener("pointerleave", () => choose(box.value, false));
  }
  for (const button of chooser.querySelectorAll("button"))
    button.addEventListener("click", () => {
      for (const box of boxes) box.checked = button.value === "all";
      show();
    });
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  document.addEventListener("pointermove", event => {
    const element = event.target.closest?.("[data-column-name]");
    const name = element?.dataset.columnName;
    if (name !== tip.dataset.name) {
      if (tip.dataset.name) choose(tip.dataset.name, false);
      if (name) choose(name, true);
      tip.dataset.name = name ?? "";
    }
    tip.hidden = !name;
    if (!name) return;
    (document.querySelector("dialog[open]") ?? document.body).append(tip);
    tip.textContent = element.querySelector("title")?.textContent ?? name;
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - 200)}px`;
    tip.style.top = `${event.clientY + 14}px`;
  });
}
for (const table of document.querySelectorAll("#runs table")) {
  const bodies = [...table.tBodies];
  const filter = document.createElement("input");
  filter.type = "search";
  filter.placeholder = "filter rows, such as mla failed";
  filter.setAttribute("aria-label", "filter rows");
  table.parentElement.before(filter);
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const row of table.querySelectorAll("tbody tr:has(td)"))
      row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  });
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.textContent = head.textContent || "name";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      for (const body of bodies) {
        const rows = [...body.rows].filter(row => row.cells.length > 1);
        const text = row => row.cells[place]?.textContent ?? "";
        rows.sort((a, b) => text(a).localeCompare(text(b), "en", {numeric: true}) * (up ? 1 : -1));
        body.append(...rows);
      }
    });
  });
}
// Folded figures are opened when a link leads to them.
addEventListener("hashchange", () => {
  const folded = document.querySelector(location.hash || "#none")?.closest("details");
  if (folded) folded.open = true;
});
