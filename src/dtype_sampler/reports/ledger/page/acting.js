/* ---- Heat map: what people do ---- */

function toggle(group) {
  const { other } = fold();
  if (!other.delete(group.key)) other.add(group.key);
}

function fromTheTop() {
  folds.found = { all: "open", other: new Set() };
  scroller.scrollTop = 0;
  scroller.scrollLeft = 0;
  refresh();
}

// Sets the controls that are named, and all others that choose tests as they usually are.
function choose(values) {
  for (const name of ["filter", "show", "device"]) $(name).value = values[name] ?? CONTROLS[name];
  fromTheTop();
  keepView({ step: true });
}

function lookAt(values) {
  choose(values);
  $("map").scrollIntoView();
  $("filter").focus({ preventScroll: true });
}

function colourBy() {
  $("map").dataset.colour = $("colour").value;
  drawLegend();
}

// The cell that the address names is opened, and one that it does not name is closed.
function showView() {
  const cell = takeView();
  colourBy();
  scroller.scrollTop = 0;
  scroller.scrollLeft = 0;
  refresh();
  $("lost").hidden = true;
  opened = null;
  if (panel.open) panel.close();
  if (!cell) return;
  const test = testAt(cell.key, cell.device);
  const known = test?.byLabel.get(cell.label);
  $("lost").hidden = known !== undefined;
  if (!known) return;
  reveal(test, cell.label);
  openPanel(test, known);
}

function foldAll(all) {
  Object.assign(fold(), { all, other: new Set() });
  refresh();
  keepView({ step: false });
}

function enter() {
  const { group, test } = items[active.row];
  if (!test) {
    toggle(group);
    refresh();
    keepView({ step: false });
    return;
  }
  openCell(test, labels[active.column]);
}

function openCell(test, label) {
  const known = test.byLabel.get(label);
  if (!known) return;
  openPanel(test, known);
  keepView({ step: true, spare: true });
}

function moved(event) {
  if (event.altKey || event.metaKey) return;
  let { row, column } = active;
  const { group, test } = items[row];
  const [end, lastColumn] = [items.length - 1, labels.length - 1];
  const page = Math.max(1, Math.floor(scroller.clientHeight / rowHeight) - 2);
  const folded = !test && !isOpen(group);
  switch (event.key) {
    case "ArrowUp": row -= 1; break;
    case "ArrowDown": row += 1; break;
    case "PageUp": row -= page; break;
    case "PageDown": row += page; break;
    case "Home": if (event.ctrlKey) row = 0; column = 0; break;
    case "End": if (event.ctrlKey) row = end; column = lastColumn; break;
    case "ArrowLeft":
      if (test) column -= 1;
      else if (!folded) { event.preventDefault(); enter(); return; }
      break;
    case "ArrowRight":
      if (test) column += 1;
      else if (folded) { event.preventDefault(); enter(); return; }
      break;
    case "Enter": case " ": event.preventDefault(); enter(); return;
    default: return;
  }
  event.preventDefault();
  activate(Math.min(end, Math.max(0, row)), Math.min(lastColumn, Math.max(0, column)));
  focusActive();
}

function listen() {
  let timer = 0;
  // One step for all that is typed in one go.
  let typing = false;
  $("filter").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      fromTheTop();
      keepView({ step: !typing });
      typing = document.activeElement === $("filter");
    }, 120);
  });
  for (const end of ["change", "blur"]) $("filter").addEventListener(end, () => { typing = false; });
  for (const id of ["show", "device"]) {
    $(id).addEventListener("change", () => {
      fromTheTop();
      keepView({ step: true });
    });
  }
  $("sort").addEventListener("change", () => {
    scroller.scrollTop = 0;
    refresh();
    keepView({ step: true });
  });
  $("colour").addEventListener("change", () => {
    colourBy();
    resized();
    keepView({ step: true });
  });
  $("open-all").addEventListener("click", () => foldAll("open"));
  $("close-all").addEventListener("click", () => foldAll("closed"));

  // A number of the summary leads to its cells, a name of the first table to its tests.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-show], #first a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const { name, device, show } = link.dataset;
    lookAt(show ? { show } : { filter: name === "." ? "" : name, device: devices.length > 1 ? device : "" });
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || panel.open) return;
    if (event.target.matches("input, textarea")) return;
    event.preventDefault();
    $("filter").focus();
    $("filter").select();
  });

  body.addEventListener("click", (event) => {
    const row = event.target.closest("[data-row]");
    const cell = event.target.closest("[data-column], .sum");
    const named = event.target.closest(".attention");
    if (named && row) {
      activate(Number(row.dataset.row), Math.max(0, labels.indexOf(named.dataset.label)));
      // Its column may be one of those that don't fit.
      openCell(items[active.row].test, named.dataset.label);
      return;
    }
    if (!row || !cell) return;
    activate(Number(row.dataset.row), Number(cell.dataset.column ?? 0));
    focusActive();
    enter();
  });
  body.addEventListener("focusin", (event) => {
    const row = Number(event.target.closest("[data-row]").dataset.row);
    const column = Number(event.target.dataset.column);
    if (row !== active.row || column !== active.column && items[row].test) activate(row, column);
  });
  body.addEventListener("keydown", moved);
  scroller.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  new ResizeObserver(resized).observe(scroller);

  // Back and forward, and an address that somebody has changed by hand.
  addEventListener("hashchange", () => {
    if (location.hash.slice(1) === address) return;
    typing = false;
    clearTimeout(timer);
    showView();
  });
}
