/* ---- Start ---- */

for (const device of devices) $("device").append(make("option", { value: device }, device));
$("device-label").hidden = devices.length < 2;
$("grid").style.setProperty("--labels", labels.length);
$("grid").setAttribute("aria-colcount", labels.length + 1);
$("head").append(make("div", { role: "columnheader", class: "corner" }, "Test"), ...labels.map((label) => {
  const [prefix, name] = label.startsWith("torch.") ? ["torch.", label.slice(6)] : ["", label];
  const head = make("div", { role: "columnheader", "data-label": label, title: label });
  if (prefix) head.append(make("span", { class: "prefix" }, prefix));
  // A long name may break where its parts end: float8_|e4m3|fnuz, complex|128, float16,|int8.
  name.split(/(?<=[_,])|(?<=[a-z])(?=\d+$)|(?<=\d)(?=[a-z]+$)/).forEach((part, i) => head.append(...(i ? [make("wbr"), part] : [part])));
  return head;
}));
function drawLegend() {
  const entries = [];
  if (byCost()) {
    const step = (i) => make("span", { class: "cell", "data-state": "passed", "data-cost": i, "aria-hidden": "true" });
    entries.push("The stronger, the longer:", ...COSTS.map(({ text }, i) => [step(i), text]), [step("unknown"), "never measured"]);
  } else {
    const ago = (days) => new Date(now - days * DAY).toISOString();
    const steps = [0, 1, 7, 30].map((days) => chip("passed", ago(days)));
    entries.push(...Object.entries(STATES).map(([state, { text }]) => [chip(state), text]));
    entries.push("The fainter, the older:", ...AGES.map((step, i) => [steps[i], step.text]));
  }
  $("legend").replaceChildren(...entries.map((entry) => make("li", {}, ...[entry].flat())));
}
drawLegend();
$("colour-label").hidden = $("sort-seconds").hidden = !measured;
new ResizeObserver(redraw).observe(scroller);
refresh();
