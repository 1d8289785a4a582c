/* ---- Heat map: what there is ---- */

const declared = [...new Set(report.tests.flatMap((test) => test.cells.map((cell) => cell.label)))];
const columns = extra.columns.map((place) => declared[place]);

const nothing = () => ({ covered: 0, total: 0, failing: 0, known: 0, crashed: 0, suspect: 0, never: 0, other: new Map(), seconds: null });

// Adds a cell to what is counted of a test, or of one dtype of a group. Returns whether it counts.
function add(sum, cell, state) {
  sum.failing += isFailing(state) ? 1 : 0;
  sum.known += state === "known" ? 1 : 0;
  sum.crashed += state === "crashed" ? 1 : 0;
  sum.suspect += state === "suspect" ? 1 : 0;
  if (typeof cell.seconds === "number") sum.seconds = (sum.seconds ?? 0) + cell.seconds;
  if (neverRan(state)) sum.never += 1;
  else if (!isFailing(state) && state !== "suspect") sum.other.set(state, (sum.other.get(state) ?? 0) + 1);
  // Nobody can cover what the device does not support. A window of time (`state`) may leave out
  // an older verdict that is shown all the same.
  if (!(cell.counts ?? (cell.state ?? state) !== "unsupported")) return false;
  sum.total += 1;
  sum.covered += cell.covered ? 1 : 0;
  return true;
}

const tests = report.tests.map((test) => {
  const cut = test.key.indexOf("::");
  const sum = nothing();
  let oldest = Infinity;
  const byLabel = new Map();
  const states = test.cells.map(stateOf);
  test.cells.forEach((cell, i) => {
    const state = states[i];
    byLabel.set(cell.label, { cell, state });
    if (add(sum, cell, state)) oldest = Math.min(oldest, cell.last_verdict_at ? Date.parse(cell.last_verdict_at) : -Infinity);
  });
  return {
    ...sum, ...test, oldest, states, byLabel,
    module: cut < 0 ? test.key : test.key.slice(0, cut),
    name: cut < 0 ? test.key : test.key.slice(cut + 2),
    lower: test.key.toLowerCase(),
  };
});
const measured = tests.some((test) => test.cells.some((cell) => typeof cell.seconds === "number"));
const devices = [...new Set(tests.map((test) => test.device))].sort();
const testAt = (key, device) => tests.find((test) => test.key === key && (test.device === device || device === null));
// How many fail in a way that no baseline knows.
const news = (one) => one.failing - one.known;
const share = (one) => (one.total ? one.covered / one.total : 1);

function grouped(found) {
  const groups = new Map();
  for (const test of found) {
    let group = groups.get(test.module);
    if (!group) groups.set(test.module, group = { ...nothing(), key: test.module, tests: [], oldest: Infinity });
    group.tests.push(test);
    for (const name of ["covered", "total", "failing", "known", "crashed", "suspect", "never"]) group[name] += test[name];
    group.oldest = Math.min(group.oldest, test.oldest);
    if (typeof test.seconds === "number") group.seconds = (group.seconds ?? 0) + test.seconds;
  }
  return [...groups.values()];
}

// Of each dtype, all cells of a group together. Counted when it is first shown: there may be many.
function dtypesOf(group) {
  if (group.byLabel) return group.byLabel;
  group.byLabel = new Map();
  for (const test of group.tests) {
    for (const [label, { cell, state }] of test.byLabel) {
      if (!group.byLabel.has(label)) group.byLabel.set(label, nothing());
      add(group.byLabel.get(label), cell, state);
    }
  }
  return group.byLabel;
}

// The state that stands for several: what wants attention first.
function worstOf(sum) {
  if (news(sum)) return news(sum) > sum.crashed ? "failed" : "crashed";
  if (sum.suspect) return "suspect";
  if (sum.known) return "known";
  if (sum.never) return sum.covered ? "partly" : "never";
  if (sum.covered < sum.total) return "partly";
  // None is better than another here; the most frequent says most.
  return ["passed", ...[...sum.other.keys()].sort((a, b) => sum.other.get(b) - sum.other.get(a))].find((state) => sum.other.has(state));
}

/* ---- In which order ---- */

const byName = (a, b) => collator.compare(a.key, b.key) || collator.compare(a.device ?? "", b.device ?? "");
// -Infinity minus itself is NaN, so no differences here.
const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const ORDERS = {
  worst: (a, b) => order(news(b), news(a)) || order(b.suspect, a.suspect) || order(b.known, a.known) || order(share(a), share(b)) || order(a.oldest, b.oldest) || byName(a, b),
  name: byName,
  coverage: (a, b) => order(share(a), share(b)) || byName(a, b),
  oldest: (a, b) => order(a.oldest, b.oldest) || order(b.never, a.never) || byName(a, b),
  seconds: (a, b) => order(b.seconds ?? -1, a.seconds ?? -1) || byName(a, b),
};
