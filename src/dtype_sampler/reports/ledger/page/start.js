/* ---- Start ---- */

function drawLegend() {
  const entries = [];
  if (byCost()) {
    const step = (i) => make("span", { class: "cell", "data-state": "passed", "data-cost": i, "aria-hidden": "true" });
    entries.push("The stronger, the longer:", ...COSTS.map(({ text }, i) => [step(i), text]), [step("unknown"), "never measured"]);
  } else {
    const ago = (days) => new Date(now - days * DAY).toISOString();
    const steps = [0, 1, 7, 30].map((days) => chip("passed", ago(days)));
    const told = (state, text) => baseline && isNew(state) ? `${text}, which is new` : text;
    entries.push(...Object.entries(STATES).map(([state, { text }]) => [chip(state), told(state, text)]));
    entries.push("The fainter, the older:", ...AGES.map((step, i) => [steps[i], step.text]));
  }
  $("legend").replaceChildren(...entries.map((entry) => make("li", {}, ...[entry].flat())));
}

function startMap() {
  for (const device of devices) $("device").append(make("option", { value: device }, device));
  $("device-label").hidden = devices.length < 2;
  $("colour-label").hidden = $("sort-seconds").hidden = !measured;
  listen();
  listenToPanel();
  showView();
  // What was sent is what is to be seen.
  if (address) $("map").scrollIntoView();
}

$("generated").textContent = moment(report.generated).replace(/ \(.*/, "");
if (runs.length) $("runs").addEventListener("toggle", drawRuns);
else $("runs-section").hidden = true;
new ResizeObserver(drawChart).observe($("chart"));
if ($("map")) startMap();
