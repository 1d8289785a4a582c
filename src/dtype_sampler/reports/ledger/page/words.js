/* ---- What the page is told, and in which words it says it ---- */

const $ = (id) => document.getElementById(id);
const report = JSON.parse($("report").textContent);
// Of the labels as the report has them, one after the other: the order of columns, and what
// `--dtype-only` is to be given for those that need more than their own text.
const extra = JSON.parse($("extra").textContent);
const runs = report.runs ?? [];
const runByNumber = new Map(runs.map((run) => [run.number, run]));
const DAY = 86400e3;
const now = Date.parse(report.generated) || Date.now();
const collator = new Intl.Collator("en", { numeric: true });

// What the failures come to against a baseline; nothing where there is none.
const baseline = report.summary.baseline;
const STATES = {
  passed: { mark: "✓", text: "passed" },
  failed: { mark: "✗", text: "failed" },
  ...(baseline && { known: { mark: "k", text: "failed, as is known" } }),
  crashed: { mark: "!", text: "crashed" },
  suspect: { mark: "?", text: "one of several did not pass, not known which" },
  xfailed: { mark: "x", text: "failed as expected" },
  xpassed: { mark: "X", text: "passed, though it should have failed" },
  skipped: { mark: "s", text: "skipped" },
  unsupported: { mark: "u", text: "unsupported" },
  "not-reached": { mark: "…", text: "chosen, but not reached" },
  never: { mark: "–", text: "never ran" },
};
const AGES = [
  { below: DAY, text: "less than a day" },
  { below: 7 * DAY, text: "less than a week" },
  { below: 30 * DAY, text: "less than 30 days" },
  { below: Infinity, text: "older" },
];

const COSTS = [
  { below: 0.01, text: "less than 10 ms" },
  { below: 0.1, text: "less than 100 ms" },
  { below: 1, text: "less than 1 s" },
  { below: 10, text: "less than 10 s" },
  { below: Infinity, text: "more" },
];

// Everything from the report becomes text here, never markup.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
// No rounding up to 100 %: it means that nothing is left.
const count = (n) => n.toLocaleString("en");
// As in the terminal: seven digits, and the `+` of a tree with changes that were not committed.
const shortCommit = (commit) => commit ? commit.slice(0, 7) + (commit.endsWith("+") ? "+" : "") : "–";
const percentText = (x) => `${(x < 100 ? Math.min(x, 99.9) : x).toFixed(1)} %`;

function shortAge(at) {
  const minutes = Math.max(0, now - Date.parse(at)) / 60e3;
  if (minutes < 60) return `${Math.floor(minutes)}m`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)}h`;
  const days = Math.floor(minutes / 1440);
  return days < 100 ? `${days}d` : days < 730 ? `${Math.floor(days / 7)}w` : `${Math.floor(days / 365)}y`;
}

function longAge(at) {
  const age = shortAge(at);
  const unit = { m: "minute", h: "hour", d: "day", w: "week", y: "year" }[age.at(-1)];
  return age === "0m" ? "just now" : `${plural(parseInt(age, 10), unit)} ago`;
}

// As the plugin's own words for it.
function lasting(seconds) {
  if (seconds === null || seconds === undefined) return "unknown";
  const whole = Math.round(seconds);
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  if (whole >= 3600) return `${Math.floor(whole / 3600)}h${two(whole % 3600 / 60)}m`;
  if (whole >= 60) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (seconds >= 9.95) return `${whole} s`;
  if (seconds >= 0.9995) return `${seconds.toFixed(1)} s`;
  const millis = 1000 * seconds;
  return millis >= 9.95 ? `${millis.toFixed(0)} ms` : millis >= 0.1 ? `${millis.toFixed(1)} ms` : "< 0.1 ms";
}
const costStep = (seconds) => typeof seconds === "number" ? COSTS.findIndex((step) => seconds < step.below) : "unknown";

function moment(at) {
  if (!at) return "never";
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return at;
  return `${date.toISOString().slice(0, 16).replace("T", " ")} UTC (${longAge(at)})`;
}

// What a cell shows: the last verdict, and other outcomes only where there is none.
const stateOf = (cell) => cell.state === "suspect" ? "suspect" : cell.known ? "known" : cell.last_verdict ?? cell.last_outcome ?? "never";
const isNew = (state) => state === "failed" || state === "crashed";
const isFailing = (state) => isNew(state) || state === "known";
const neverRan = (state) => state === "never" || state === "not-reached";
const ageStep = (at) => AGES.findIndex((step) => now - Date.parse(at) < step.below);

function chip(state, at = null) {
  const known = STATES[state] ?? { mark: "?" };
  return make("span", { class: "cell", "data-state": state, "data-age": at && ageStep(at), "aria-hidden": "true" },
    make("span", { class: "mark" }, known.mark));
}
const stateText = (state) => STATES[state]?.text ?? String(state);
