/* ---- Heat map: what is shown. An item is a group or a test; only those in view are elements. ---- */

const scroller = $("scroller");
const body = $("rows");
const OVERSCAN = 8;
// With many tests the groups are the overview; with few, nobody wants to open them.
let closed = new Set(tests.length > 200 ? tests.map((test) => test.module) : []);
let closedInFilter = new Set();
let items = [];
let drawn = new Map();
let active = { row: 0, column: 0 };
let rowHeight = 32;

const wanted = () => ({ text: $("filter").value.trim().toLowerCase(), show: $("show").value, device: $("device").value });
const filtering = () => Object.values(wanted()).some((value) => value && value !== "all");
// What a filter finds is shown, also where the group was closed before.
const folds = () => (filtering() ? closedInFilter : closed);

function refresh() {
  const { text, show, device } = wanted();
  const found = tests.filter((test) => test.lower.includes(text)
    && (show === "all" || test[show] > 0 || (show === "failing" && test.suspect > 0)) && (!device || test.device === device));
  const groups = new Map();
  for (const test of found) {
    if (!groups.has(test.module)) groups.set(test.module, { key: test.module, tests: [], covered: 0, total: 0, failing: 0, suspect: 0, never: 0, oldest: Infinity, seconds: null });
    const group = groups.get(test.module);
    group.tests.push(test);
    for (const name of ["covered", "total", "failing", "suspect", "never"]) group[name] += test[name];
    group.oldest = Math.min(group.oldest, test.oldest);
    if (typeof test.seconds === "number") group.seconds = (group.seconds ?? 0) + test.seconds;
  }
  const compare = ORDERS[$("sort").value];
  const before = items[active.row];
  items = [];
  for (const group of [...groups.values()].sort(compare)) {
    items.push({ group });
    if (!folds().has(group.key)) items.push(...group.tests.sort(compare).map((test) => ({ test, group })));
  }
  // The place in the grid stays on the same test, or else on its group.
  const same = items.findIndex((item) => before?.test && item.test === before.test);
  const group = items.findIndex((item) => before && !item.test && item.group.key === before.group.key);
  active = { row: Math.max(0, same >= 0 ? same : group), column: same >= 0 ? active.column : 0 };
  $("count").textContent = found.length
    ? `${found.length.toLocaleString("en")} of ${plural(tests.length, "test")} in ${plural(groups.size, "module")}`
    : "No test fits. Clear the filter to see all.";
  $("grid").setAttribute("aria-rowcount", items.length + 1);
  scroller.hidden = !items.length;
  redraw();
}

function redraw() {
  const focused = body.contains(document.activeElement);
  rowHeight = parseFloat(getComputedStyle(body).getPropertyValue("--row"));
  scroller.style.setProperty("--head", `${$("head").offsetHeight}px`);
  scroller.style.setProperty("--view", `${scroller.clientWidth}px`);
  body.replaceChildren();
  drawn = new Map();
  body.style.height = `${items.length * rowHeight}px`;
  draw();
  if (focused) focusActive();
}

function draw() {
  const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - OVERSCAN);
  const last = Math.min(items.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / rowHeight) + OVERSCAN);
  // The row of the active cell stays: it is where Tab leads, and may have the focus.
  const needed = new Set(items.length ? [active.row] : []);
  for (let i = first; i < last; i += 1) needed.add(i);
  for (const [i, element] of drawn) {
    if (!needed.has(i)) {
      element.remove();
      drawn.delete(i);
    }
  }
  // Backwards, so that each finds its successor in place: readers follow the order of elements.
  let next = null;
  for (const i of [...needed].sort((a, b) => b - a)) {
    if (!drawn.has(i)) {
      drawn.set(i, makeRow(i));
      body.insertBefore(drawn.get(i), next);
    }
    next = drawn.get(i);
  }
}

function makeRow(i) {
  const { group, test } = items[i];
  const element = test ? testRow(test) : groupRow(group);
  element.setAttribute("role", "row");
  element.setAttribute("aria-rowindex", i + 2);
  element.dataset.row = i;
  element.style.top = `${i * rowHeight}px`;
  if (i === active.row) cellIn(element, active.column).tabIndex = 0;
  return element;
}

function statistics(one, several) {
  const parts = make("span", { class: "stats" });
  if (byCost()) {
    parts.append(lasting(one.seconds));
    parts.title = "with all its dtypes";
    return parts;
  }
  if (one.failing && several) parts.append(make("span", { class: "bad" }, `${one.failing} failing`), " · ");
  if (one.suspect && several) parts.append(make("span", { class: "bad" }, `${one.suspect} suspect`), " · ");
  if (one.never && several) parts.append(`${one.never} never ran · `);
  parts.append(several && one.total ? percentText(100 * share(one)) : `${one.covered}/${one.total}`);
  parts.title = `${one.covered} of ${plural(one.total, "cell")} covered`;
  return parts;
}

function groupRow(group) {
  const open = !folds().has(group.key);
  return make("div", { class: "group", "aria-level": 1, "aria-expanded": String(open) },
    make("div", { role: "gridcell", tabindex: -1, "aria-colspan": labels.length + 1, "data-column": 0 },
      make("div", { class: "inner" },
        make("span", { class: "chevron", "aria-hidden": "true" }),
        make("b", { class: "clip", title: group.key }, make("bdi", { dir: "ltr" }, group.key)),
        make("span", { class: "muted nowrap" }, plural(group.tests.length, "test")),
        statistics(group, true))));
}

// Of a test with several dtype arguments, whose cells are combinations.
const singlesText = (test) => (test.arguments ?? []).map((values, i) =>
  `\nargument ${i + 1}: ${values.filter((one) => one.covered).length} of ${plural(values.length, "dtype")} covered in a combination`).join("");

function testRow(test) {
  const row = make("div", { class: "test-row", "aria-level": 2 },
    make("div", { class: "test", role: "rowheader", title: test.key + singlesText(test) },
      make("span", { class: "clip" }, make("bdi", { dir: "ltr" }, test.name)),
      devices.length > 1 ? make("span", { class: "muted" }, test.device) : null,
      statistics(test, false)));
  labels.forEach((label, column) => {
    const known = test.byLabel.get(label);
    const at = known && known.state === known.cell.last_verdict ? known.cell.last_verdict_at : null;
    const seconds = known?.cell.seconds;
    const takes = typeof seconds === "number" ? `, takes ${lasting(seconds)}` : "";
    const words = known ? `${label}: ${stateText(known.state)}${at ? ` ${longAge(at)}` : ""}${takes}` : `${label}: not declared`;
    const cell = make("div", {
      class: "cell", role: "gridcell", tabindex: -1, "data-column": column, "aria-label": words, title: words,
      "data-state": known?.state, "data-age": at && ageStep(at), "aria-haspopup": known && "dialog",
      "data-cost": byCost() && known ? costStep(seconds) : null,
    });
    if (known) cell.append(make("span", { class: "mark" }, (STATES[known.state] ?? { mark: "?" }).mark));
    const beside = byCost() ? takes && lasting(seconds) : at && shortAge(at);
    if (beside) cell.append(make("span", { class: "age" }, beside));
    row.append(cell);
  });
  return row;
}

function cellIn(row, column) {
  return row.querySelector(`[data-column="${column}"]`) ?? row.querySelector("[data-column]");
}

function activate(row, column) {
  const old = drawn.get(active.row);
  if (old) cellIn(old, active.column).tabIndex = -1;
  active = { row, column };
  draw();
  cellIn(drawn.get(row), column).tabIndex = 0;
}

function focusActive() {
  cellIn(drawn.get(active.row), active.column).focus();
}

function toggle(group) {
  if (!folds().delete(group.key)) folds().add(group.key);
  refresh();
}

function foldAll(close) {
  const keys = close ? tests.map((test) => test.module) : [];
  if (filtering()) closedInFilter = new Set(keys);
  else closed = new Set(keys);
  refresh();
}
