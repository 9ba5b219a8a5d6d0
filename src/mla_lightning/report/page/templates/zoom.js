// A figure in the whole window: wheel and drag, or the keys + - and the arrows, show a part of it.
const viewer = document.createElement("dialog");
viewer.className = "viewer";
viewer.innerHTML = `<header><strong></strong><span>Wheel or + and −: zoom. Drag or arrows: move.</span>
<button type="button" value="reset">whole figure</button>
<button type="button" value="close">close</button></header><div></div>`;
document.body.append(viewer);
const stage = viewer.querySelector("div");
let shown = null; // the figure's SVG, where it came from, and its whole view
const view = () => shown.svg.viewBox.baseVal;
const setView = (x, y, width, height) =>
  shown.svg.setAttribute("viewBox", [x, y, width, height].join(" "));
const reset = () => setView(...shown.whole);
const zoom = (factor, x, y) => {
  const now = view();
  const [, , fullWidth, fullHeight] = shown.whole;
  const width = Math.min(fullWidth, Math.max(fullWidth / 40, now.width * factor));
  const height = width * fullHeight / fullWidth;
  const place = (start, extent, old, part, full) =>
    Math.min(full - extent, Math.max(0, start + (old - extent) * part));
  setView(place(now.x, width, now.width, x, fullWidth),
    place(now.y, height, now.height, y, fullHeight), width, height);
};
const move = (x, y) => {
  const now = view();
  const [, , fullWidth, fullHeight] = shown.whole;
  setView(Math.min(fullWidth - now.width, Math.max(0, now.x + x * now.width)),
    Math.min(fullHeight - now.height, Math.max(0, now.y + y * now.height)), now.width, now.height);
};
for (const figure of document.querySelectorAll("figure[data-figure]")) {
  const svg = figure.querySelector("svg");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.textContent = "enlarge";
  button.setAttribute("aria-label", `enlarge ${figure.dataset.figure}`);
  figure.firstElementChild.append(button);
  button.addEventListener("click", () => {
    const {x, y, width, height} = svg.viewBox.baseVal;
    shown = {svg, home: svg.parentElement, whole: [x, y, width, height]};
    viewer.querySelector("strong").textContent = figure.dataset.figure;
    stage.append(svg);
    viewer.showModal();
  });
}
viewer.addEventListener("close", () => {
  reset();
  shown.home.append(shown.svg);
});
viewer.addEventListener("click", event => {
  if (event.target.value === "reset") reset();
  if (event.target.value === "close") viewer.close();
});
stage.addEventListener("wheel", event => {
  event.preventDefault();
  const box = shown.svg.getBoundingClientRect();
  zoom(event.deltaY < 0 ? 0.8 : 1.25, (event.clientX - box.x) / box.width,
    (event.clientY - box.y) / box.height);
}, {passive: false});
stage.addEventListener("pointerdown", event => stage.setPointerCapture(event.pointerId));
stage.addEventListener("pointermove", event => {
  if (!event.buttons) return;
  const box = shown.svg.getBoundingClientRect();
  move(-event.movementX / box.width, -event.movementY / box.height);
});
viewer.addEventListener("keydown", event => {
  const keys = {
    "+": () => zoom(0.8, 0.5, 0.5), "-": () => zoom(1.25, 0.5, 0.5), ArrowLeft: () => move(-0.1, 0),
    ArrowRight: () => move(0.1, 0), ArrowUp: () => move(0, -0.1), ArrowDown: () => move(0, 0.1),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
