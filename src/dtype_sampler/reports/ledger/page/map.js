/* ---- Heat map: what is shown. An item is a group or a test; only those in view are elements. ---- */

const scroller = $("scroller");
const body = $("rows");
const OVERSCAN = 8;
// In pixels: what a cell needs at least, what it is given where there is room, and at most.
const CELL = { least: 44, leastByCost: 60, fair: 64, most: 84 };
const leastCell = () => (byCost() ? CELL.leastByCost : CELL.least);
let found = [];
let items = [];
let labels = [];
let drawn = new Map();
let active = { row: 0, column: 0 };
let rowHeight = 32;

// What is looked for in each case: a test is shown that has such a cell.
const LOOKED_FOR = {
  all: () => true,
  failing: (state) => isFailing(state) || state === "suspect",
  new: (state) => isNew(state) || state === "suspect",
  known: (state) => state === "known",
  suspect: (state) => state === "suspect",
  never: neverRan,
};

function refresh() {
  const { text, show, device } = wanted();
  const looked = LOOKED_FOR[show];
  found = tests.filter((test) => test.lower.includes(text) && (!device || test.device === device)
    && (show === "all" || test.states.some(looked)));
  const compare = ORDERS[$("sort").value];
  const [before, label] = [items[active.row], labels[active.column]];
  const groups = grouped(found).sort(compare);
  items = [];
  for (const group of groups) {
    items.push({ group });
    if (isOpen(group)) items.push(...group.tests.sort(compare).map((test) => ({ test, group })));
  }
  labels = columnsInUse();
  // The place in the grid stays on the same test, or else on its group.
  const same = items.findIndex((item) => before?.test && item.test === before.test);
  const group = items.findIndex((item) => before && !item.test && item.group.key === before.group.key);
  active = { row: Math.max(0, same >= 0 ? same : group), column: same >= 0 ? Math.max(0, labels.indexOf(label)) : 0 };
  $("count").textContent = found.length
    ? `${count(found.length)} of ${plural(tests.length, "test")} in ${plural(groups.length, "module")}`
    : "No test fits. Clear the filter to see all.";
  $("grid").setAttribute("aria-rowcount", items.length + 1);
  $("of-groups").hidden = !items.some((item, i) => !item.test && !items[i + 1]?.test);
  scroller.hidden = !items.length;
  drawHead();
  redraw();
}

// Just the columns that a test declares which is shown. Where they don't fit, and certain cells are
// looked for, those with such a cell: none of them may lie off to the right.
function columnsInUse() {
  const { show } = wanted();
  const having = (looked) => {
    const used = new Set(found.flatMap((test) => test.cells.filter((_, i) => looked(test.states[i])).map((cell) => cell.label)));
    return columns.filter((one) => used.has(one));
  };
  const all = having(() => true);
  const { room, least } = sizes();
  const fit = show === "all" || least + all.length * leastCell() <= room;
  const some = fit ? all : having(LOOKED_FOR[show]);
  $("narrowed").hidden = some.length === all.length;
  $("narrowed").textContent = `Shown are the ${plural(some.length, "column")} with such a cell: not all ${all.length} fit here.`;
  return some;
}

function drawHead() {
  $("grid").style.setProperty("--labels", labels.length);
  $("grid").setAttribute("aria-colcount", labels.length + 1);
  $("head").replaceChildren(make("div", { role: "columnheader", class: "corner" }, "Test"), ...labels.map((label) => {
    const all = label.split(",").every((part) => part.startsWith("torch."));
    const [prefix, name] = all ? ["torch.", label.replaceAll("torch.", "")] : ["", label];
    const head = make("div", { role: "columnheader", "data-label": label, title: label });
    if (prefix) head.append(make("span", { class: "prefix" }, prefix));
    // A long name may break where its parts end: float8_|e4m3|fnuz, complex|128, float16,|int8.
    name.split(/(?<=[_,])|(?<=[a-z])(?=\d+$)|(?<=\d)(?=[a-z]+$)/).forEach((part, i) => head.append(...(i ? [make("wbr"), part] : [part])));
    return head;
  }));
}

function sizes() {
  const room = $("map").clientWidth ? scroller.clientWidth || $("count").clientWidth : 0;
  const narrow = getComputedStyle(body).getPropertyValue("--stacked").trim() === "1";
  return { room, narrow, least: narrow ? 0 : Math.min(320, 0.45 * room) };
}

// As many columns as fit: first names get shorter, then cells narrower; only then it scrolls.
function layOut() {
  const { room, narrow, least } = sizes();
  const n = Math.max(1, labels.length);
  const most = narrow ? 0 : 480;
  const pinned = Math.max(least, Math.min(most, room - n * CELL.fair));
  const cell = Math.max(leastCell(), Math.min(narrow ? room : CELL.most, Math.floor(100 * (room - pinned) / n) / 100));
  scroller.style.setProperty("--pinned", `${pinned}px`);
  scroller.style.setProperty("--cell", `${cell}px`);
  scroller.classList.toggle("cramped", (narrow ? room : room - n * cell) < 560);
  scroller.classList.toggle("tight", cell < 60);
  scroller.classList.toggle("tightest", cell < 53);
  scroller.classList.toggle("snug", cell < 80);
  scroller.classList.toggle("overflows", pinned + n * cell > room + 1);
  scroller.style.setProperty("--head", `${$("head").offsetHeight}px`);
  scroller.style.setProperty("--view", `${room}px`);
}

// The width is another: other columns may fit.
function resized() {
  const label = labels[active.column];
  const now_ = columnsInUse();
  if (now_.join() !== labels.join()) {
    labels = now_;
    active.column = Math.max(0, labels.indexOf(label));
    drawHead();
  }
  redraw();
}

function redraw() {
  const focused = body.contains(document.activeElement);
  rowHeight = parseFloat(getComputedStyle(body).getPropertyValue("--row"));
  body.style.height = `${items.length * rowHeight}px`;
  layOut();
  body.replaceChildren();
  drawn = new Map();
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
  const bad = (n, state, words) => parts.append(make("span", { class: "bad", "data-of": state, "data-short": `${STATES[state].mark}\u202f${count(n)}` },
    make("span", { class: "full" }, `${count(n)} ${words}`)), " · ");
  if (several) {
    const allCrashed = news(one) === one.crashed;
    if (news(one)) bad(news(one), allCrashed ? "crashed" : "failed", allCrashed ? "crashed" : baseline ? "new" : "failing");
    if (one.suspect) bad(one.suspect, "suspect", "suspect");
    if (one.known) bad(one.known, "known", "known");
    // Where the row says it by dtype, once is enough.
    if (one.never) parts.append(make("span", { class: "never" }, `${one.never} never ran · `));
  }
  parts.append(several && one.total ? percentText(100 * share(one)) : `${one.covered}/${one.total}`);
  parts.title = `${one.covered} of ${plural(one.total, "cell")} covered`;
  return parts;
}

function groupRow(group) {
  const open = isOpen(group);
  const name = make("div", { class: "name", role: open ? "gridcell" : "rowheader", tabindex: -1, "aria-colspan": open ? labels.length + 1 : null, "data-column": 0 },
    make("div", { class: "inner" },
      make("span", { class: "chevron", "aria-hidden": "true" }),
      make("b", { class: "clip", title: group.key }, make("bdi", { dir: "ltr" }, group.key)),
      make("span", { class: "muted nowrap tests" }, plural(group.tests.length, "test")),
      statistics(group, true)));
  const row = make("div", { class: `group ${open ? "open" : "closed"}`, "aria-level": 1, "aria-expanded": String(open) }, name);
  if (!open) row.append(...labels.map((label) => dtypeOfGroup(label, dtypesOf(group).get(label))));
  return row;
}

// All that a closed group has of one dtype: the worst of it, and the share that is covered.
function dtypeOfGroup(label, sum) {
  if (!sum) return make("div", { class: "sum", role: "gridcell", "aria-label": `${label}: not declared` });
  const state = worstOf(sum);
  const percent = sum.total ? `${Math.floor(100 * share(sum))} %` : "";
  const parts = [
    [news(sum) - sum.crashed, "failed"], [sum.crashed, "crashed"], [sum.known, baseline && STATES.known.text], [sum.suspect, "suspect"], [sum.never, "never ran"],
    ...[...sum.other].map(([other, n]) => [n, stateText(other)]),
  ].filter(([n]) => n).map(([n, words]) => `${count(n)} ${words}`);
  const words = `${label}: ${parts.join(", ")}${percent && `; ${percent} covered`}`;
  const step = byCost() ? costStep(sum.seconds) : null;
  const cell = make("div", { class: "sum", role: "gridcell", "data-state": state, "data-cost": step, title: words, "aria-label": words });
  cell.style.setProperty("--share", `${state === "partly" ? 4 + Math.round(24 * share(sum)) : 56}%`);
  const marked = (mark, n, of = "") => cell.append(make("span", { class: `mark ${of}` }, mark), make("span", { class: `number ${of}` }, count(n)));
  if (byCost()) {
    cell.append(lasting(sum.seconds));
    return cell;
  }
  const bad = sum.failing + sum.suspect;
  if (news(sum)) marked(STATES[state].mark, news(sum));
  else if (sum.suspect) marked(STATES.suspect.mark, sum.suspect);
  if (sum.known) marked(STATES.known.mark, sum.known, news(sum) || sum.suspect ? "second" : "");
  // Two of them, at most, have room side by side; the words name all.
  if (sum.never && !cell.querySelector(".second")) marked(STATES.never.mark, sum.never, bad ? "second" : "");
  if (!bad && !sum.never) {
    if (sum.other.has("skipped") && state === "partly") marked(STATES.skipped.mark, sum.other.get("skipped"));
    else cell.append(make("span", { class: "mark" }, (STATES[state] ?? STATES.passed).mark));
  }
  if (percent) cell.append(make("span", { class: "age" }, percent));
  return cell;
}

// Of a test with several dtype arguments, whose cells are combinations.
const singlesText = (test) => (test.arguments ?? []).map((values, i) =>
  `\nargument ${i + 1}: ${values.filter((one) => one.covered).length} of ${plural(values.length, "dtype")} covered in a combination`).join("");

// Which dtypes of a test want attention, for where their columns may be out of view.
function attention(test) {
  const bad = [...test.byLabel].filter(([, { state }]) => isFailing(state) || state === "suspect")
    .sort(([, a], [, b]) => (a.state === "known") - (b.state === "known"));
  if (!bad.length) return null;
  const [label, { state }] = bad[0];
  const more = bad.length > 1 ? ` +${bad.length - 1}` : "";
  return make("span", { class: "attention bad", "data-of": state, "data-label": label }, `${STATES[state].mark} ${label.replace("torch.", "")}${more}`);
}

function testRow(test) {
  const row = make("div", { class: "test-row", "aria-level": 2 },
    make("div", { class: "test", role: "rowheader", title: test.key + singlesText(test) },
      make("span", { class: "clip" }, make("bdi", { dir: "ltr" }, test.name)),
      devices.length > 1 ? make("span", { class: "muted" }, test.device) : null,
      attention(test),
      statistics(test, false)));
  labels.forEach((label, column) => {
    const known = test.byLabel.get(label);
    const at = known && (known.state === known.cell.last_verdict || known.state === "known") ? known.cell.last_verdict_at : null;
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
  if (items.length) cellIn(drawn.get(active.row), active.column).focus();
}

// Leads to a cell that may be in a closed group, or far down.
function reveal(test, label) {
  const group = { key: test.module };
  if (!isOpen(group)) {
    toggle(group);
    refresh();
  }
  const row = items.findIndex((item) => item.test === test);
  if (row < 0) return;
  scroller.scrollTop = Math.max(0, row * rowHeight - scroller.clientHeight / 3);
  activate(row, Math.max(0, labels.indexOf(label)));
}
