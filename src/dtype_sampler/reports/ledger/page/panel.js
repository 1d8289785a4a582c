/* ---- The panel of one cell ---- */

const panel = $("panel");

// As the plugin's own replay lines: double quotes, which all shells take, where they will do.
function quoted(text) {
  return /["$`\\!%]/.test(text) ? `'${text.replaceAll("'", `'"'"'`)}'` : `"${text}"`;
}
const shellWord = (text) => (/^[\w.,:/@+=-]+$/.test(text) ? text : quoted(text));

// What `--dtype-only` takes to mean this label and no other one of the test.
const exact = new Map(extra.exact.map(([pool, names]) => [JSON.stringify(pool), names]));
const exactName = (test, label) => exact.get(JSON.stringify(test.cells.map((cell) => cell.label)))?.[label] ?? label;

// A test key is no node id where it leaves out a dtype among other parameters, which is known once
// any of the test's cells ran. The function always is one.
function ranAs(test) {
  const end = test.key.indexOf("[", test.key.indexOf("::"));
  if (end < 0 || !test.key.endsWith("]") || test.cells.some((cell) => cell.nodeid === test.key)) return test.key;
  return test.key.slice(0, end);
}

function replayCommand(test, cell) {
  const nodeid = cell.nodeid ?? ranAs(test);
  const words = ["pytest", quoted(nodeid)];
  if (cell.seed !== null && cell.seed !== undefined) words.push(`--dtype-seed=${cell.seed}`);
  // The item of one dtype is named by its node id alone.
  if (!(nodeid.endsWith("]") && nodeid !== test.key)) words.push(`--dtype-only=${shellWord(exactName(test, cell.label))}`);
  // Without it, a replay is for the accelerator of the machine that it runs on, or else for cpu.
  if (devices.length > 1 || test.device !== "cpu") words.push(`--dtype-device=${shellWord(test.device)}`);
  // A baseline may be in the configuration: a replay is to fail.
  if (baseline && !neverRan(stateOf(cell))) words.push("--dtype-baseline=none");
  return words.join(" ");
}

// Since when the baseline knows a failure.
function sinceText({ run, at, commit, exact }) {
  const since = `since run ${run}${exact ? "" : " or before"} of the baseline ${baseline.name}`;
  return `${since}, ${moment(at)}${commit ? `, commit ${shortCommit(commit)}` : ""}`;
}

function openPanel(test, { cell, state }) {
  opened = { test, cell };
  const command = replayCommand(test, cell);
  const wider = !cell.nodeid && ranAs(test) !== test.key;
  const code = make("code", { id: "command" }, command);
  const copy = make("button", { type: "button", class: "primary", id: "copy" }, "Copy");
  const said = make("span", { role: "status", class: "muted" });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      said.textContent = "Copied.";
    } catch {
      // No clipboard for this page: then the text is ready for the keys that copy.
      getSelection().selectAllChildren(code);
      said.textContent = "Selected: press Ctrl+C or Cmd+C to copy.";
    }
  });
  const close = make("button", { type: "button", id: "close" }, "Close");
  close.addEventListener("click", () => panel.close());

  const facts = make("dl", { class: "facts" });
  const fact = (name, value) => facts.append(make("dt", {}, name), make("dd", {}, value));
  fact("Device", cell.device ?? test.device ?? "–");
  if (cell.one_of?.length > 1) fact("One of these did not pass", cell.one_of.join(", "));
  fact("Last verdict", cell.last_verdict ? `${stateText(cell.last_verdict)}, ${moment(cell.last_verdict_at)}` : "none yet");
  if (cell.last_outcome && cell.last_outcome !== cell.last_verdict) fact("Last outcome", stateText(cell.last_outcome));
  fact("Last passed", moment(cell.last_passed_at));
  fact("Last failed", moment(cell.last_failed_at));
  if (cell.failure) fact("In which way", [cell.failure.types.join(" + "), cell.failure.message].filter(Boolean).join(": "));
  if (cell.known) fact("Known", sinceText(cell.known));
  fact("Verdict in", plural(cell.runs ?? 0, "run"));
  if (measured) {
    const guess = typeof cell.expected_seconds === "number" ? `, about ${lasting(cell.expected_seconds)} is expected` : "";
    fact("Takes", typeof cell.seconds === "number" ? lasting(cell.seconds) : `unknown${guess}`);
    fact("The test besides", lasting(test.rest_seconds));
  }
  fact("Covered", cell.covered ? "yes" : cell.state === "stale" ? "no, the last verdict is too old" : "no");
  if (cell.seed !== null && cell.seed !== undefined) fact("Seed", String(cell.seed));
  if (cell.commit) fact("Commit", make("code", {}, cell.commit));

  $("panel-body").replaceChildren(...[
    make("header", {},
      make("h2", { id: "panel-title" }, chip(state, cell.last_verdict_at), `${cell.label}: ${stateText(state)}`),
      close),
    make("p", { class: "key mono" }, test.key),
    facts,
    make("h3", {}, neverRan(state) ? "Run it" : "Replay it"),
    make("div", { class: "command" }, make("pre", {}, code), copy),
    said,
    wider ? make("p", { class: "muted" }, "This runs the function with all its other parameters: the name of this one item is known once it has run.") : null,
    make("h3", {}, "History"),
    pastOf(cell.history ?? []),
  ].filter((part) => part !== null));
  if (!panel.open) panel.showModal();
  copy.focus();
}

function pastOf(entries) {
  if (!entries.length) return make("p", { class: "muted" }, "The ledger keeps no run of this cell.");
  // The place says which run it was, where several have this number.
  const rows = entries.map(([number, outcome, place]) => {
    const run = place === undefined ? runByNumber.get(number) : runs[place];
    return make("tr", {},
      make("td", {}, String(number)),
      make("td", {}, chip(outcome, run?.started), stateText(outcome)),
      make("td", {}, run ? moment(run.started) : "–"),
      make("td", {}, run ? String(run.seed) : "–"),
      make("td", { class: "mono", title: run?.commit }, shortCommit(run?.commit)));
  });
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "History" },
    table(["Run", "Outcome", "When", "Seed", "Commit"], rows));
}

function listenToPanel() {
  // On the backdrop the target is the dialog itself: its content fills it.
  panel.addEventListener("click", (event) => {
    if (event.target === panel) panel.close();
  });
  panel.addEventListener("close", () => {
    // One that the history has opened in its place stays.
    if (panel.open) return;
    opened = null;
    keepView({ step: false });
    // This is told a while after it was closed: who types by then is not to be interrupted.
    if (document.activeElement !== $("filter")) focusActive();
  });
}
