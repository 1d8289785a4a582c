/* ---- Heat map: what people do ---- */

let timer = 0;
function filterChanged() {
  closedInFilter = new Set();
  scroller.scrollTop = 0;
  refresh();
}
$("filter").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(filterChanged, 120);
});
for (const id of ["show", "device"]) $(id).addEventListener("change", filterChanged);
$("sort").addEventListener("change", () => {
  scroller.scrollTop = 0;
  refresh();
});
// A name of the first table leads to its tests.
$("first")?.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  $("filter").value = link.dataset.name === "." ? "" : link.dataset.name;
  $("show").value = "all";
  $("device").value = devices.length > 1 ? link.dataset.device : "";
  filterChanged();
  $("map").scrollIntoView();
  $("filter").focus({ preventScroll: true });
});
$("colour").addEventListener("change", () => {
  $("map").dataset.colour = $("colour").value;
  drawLegend();
  redraw();
});
$("open-all").addEventListener("click", () => foldAll(false));
$("close-all").addEventListener("click", () => foldAll(true));
scroller.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || $("panel").open) return;
  if (event.target.matches("input, textarea")) return;
  event.preventDefault();
  $("filter").focus();
  $("filter").select();
});

function enter() {
  const { group, test } = items[active.row];
  if (!test) toggle(group);
  else if (test.byLabel.has(labels[active.column])) openPanel(test, test.byLabel.get(labels[active.column]));
}

body.addEventListener("click", (event) => {
  const row = event.target.closest("[data-row]");
  const cell = event.target.closest("[data-column]");
  if (!row || !cell) return;
  activate(Number(row.dataset.row), Number(cell.dataset.column));
  focusActive();
  enter();
});

body.addEventListener("focusin", (event) => {
  const row = Number(event.target.closest("[data-row]").dataset.row);
  const column = Number(event.target.dataset.column);
  if (row !== active.row || column !== active.column && items[row].test) activate(row, column);
});

body.addEventListener("keydown", (event) => {
  if (event.altKey || event.metaKey) return;
  let { row, column } = active;
  const { group, test } = items[row];
  const [end, lastColumn] = [items.length - 1, labels.length - 1];
  const page = Math.max(1, Math.floor(scroller.clientHeight / rowHeight) - 2);
  const folded = !test && folds().has(group.key);
  switch (event.key) {
    case "ArrowUp": row -= 1; break;
    case "ArrowDown": row += 1; break;
    case "PageUp": row -= page; break;
    case "PageDown": row += page; break;
    case "Home": if (event.ctrlKey) row = 0; column = 0; break;
    case "End": if (event.ctrlKey) row = end; column = lastColumn; break;
    case "ArrowLeft":
      if (test) column -= 1;
      else if (!folded) { event.preventDefault(); toggle(group); return; }
      break;
    case "ArrowRight":
      if (test) column += 1;
      else if (folded) { event.preventDefault(); toggle(group); return; }
      break;
    case "Enter": case " ": event.preventDefault(); enter(); return;
    default: return;
  }
  event.preventDefault();
  activate(Math.min(end, Math.max(0, row)), Math.min(lastColumn, Math.max(0, column)));
  focusActive();
});
