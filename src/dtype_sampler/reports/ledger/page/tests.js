/* ---- Heat map: what there is ---- */

if (!$("map")) return;

const declared = [...new Set(report.tests.flatMap((test) => test.cells.map((cell) => cell.label)))];
const labels = JSON.parse($("columns").textContent).map((place) => declared[place]);

function tally(states, cells) {
  const sum = { covered: 0, total: 0, failing: 0, suspect: 0, never: 0, oldest: Infinity };
  cells.forEach((cell, i) => {
    const state = states[i];
    sum.failing += isFailing(state) ? 1 : 0;
    sum.suspect += state === "suspect" ? 1 : 0;
    // Nobody can cover what the device does not support. A window of time (`state`) may leave out
    // an older verdict that is shown all the same.
    if (!(cell.counts ?? (cell.state ?? state) !== "unsupported")) return;
    sum.total += 1;
    sum.covered += cell.covered ? 1 : 0;
    sum.never += neverRan(state) ? 1 : 0;
    sum.oldest = Math.min(sum.oldest, cell.last_verdict_at ? Date.parse(cell.last_verdict_at) : -Infinity);
  });
  return sum;
}

const tests = report.tests.map((test) => {
  const cut = test.key.indexOf("::");
  const states = test.cells.map(stateOf);
  return {
    ...test, ...tally(states, test.cells),
    module: cut < 0 ? test.key : test.key.slice(0, cut),
    name: cut < 0 ? test.key : test.key.slice(cut + 2),
    lower: test.key.toLowerCase(),
    byLabel: new Map(test.cells.map((cell, i) => [cell.label, { cell, state: states[i] }])),
  };
});
const measured = tests.some((test) => test.cells.some((cell) => typeof cell.seconds === "number"));
const byCost = () => $("colour").value === "cost";
const devices = [...new Set(tests.map((test) => test.device))].sort();
const share = (one) => (one.total ? one.covered / one.total : 1);

const byName = (a, b) => collator.compare(a.key, b.key) || collator.compare(a.device ?? "", b.device ?? "");
// -Infinity minus itself is NaN, so no differences here.
const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const ORDERS = {
  name: byName,
  coverage: (a, b) => order(share(a), share(b)) || byName(a, b),
  oldest: (a, b) => order(a.oldest, b.oldest) || order(b.never, a.never) || byName(a, b),
  failing: (a, b) => order(b.failing, a.failing) || order(b.suspect, a.suspect) || byName(a, b),
  seconds: (a, b) => order(b.seconds ?? -1, a.seconds ?? -1) || byName(a, b),
};
