/* ---- Chart ---- */

function svg(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function drawChart() {
  const points = runs.filter((run) => typeof run.percent === "number");
  if (!points.length) {
    $("chart").replaceChildren(make("p", { class: "muted" }, "No run with a known coverage yet."));
    return;
  }
  const [width, height, left, right, top, bottom] = [Math.max(240, $("chart").clientWidth), 180, 44, 14, 8, 24];
  const x = (i) => left + (points.length === 1 ? 0.5 : i / (points.length - 1)) * (width - left - right);
  const y = (percent) => top + (1 - percent / 100) * (height - top - bottom);
  const [first, last] = [points[0], points.at(-1)];
  const words = points.length === 1
    ? `Coverage was ${percentText(last.percent)} after run ${last.number}.`
    : `Coverage went from ${percentText(first.percent)} after run ${first.number} to ${percentText(last.percent)} after run ${last.number}.`;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
  for (const percent of [0, 25, 50, 75, 100]) {
    root.append(svg("line", { class: "rule", x1: left, x2: width - right, y1: y(percent), y2: y(percent) }));
    root.append(svg("text", { x: left - 6, y: y(percent) + 4, "text-anchor": "end" }, `${percent} %`));
  }
  root.append(svg("polyline", { class: "curve", points: points.map((run, i) => `${x(i)},${y(run.percent)}`).join(" ") }));
  const ticks = Math.min(points.length, Math.max(2, Math.floor(width / 110)));
  const labelled = new Set(Array.from({ length: ticks }, (_, i) => Math.round(i * (points.length - 1) / Math.max(1, ticks - 1))));
  for (const i of labelled) {
    const anchor = points.length === 1 ? "middle" : i === 0 ? "start" : i === points.length - 1 ? "end" : "middle";
    root.append(svg("text", { x: x(i), y: height - 6, "text-anchor": anchor }, `run ${points[i].number}`));
  }
  const step = (width - left - right) / Math.max(1, points.length - 1);
  if (points.length <= 400) {
    points.forEach((run, i) => {
      if (points.length <= 60 || i === points.length - 1) {
        root.append(svg("circle", { class: "dot", cx: x(i), cy: y(run.percent), r: 3.5 }));
      }
      const hit = svg("rect", { class: "hit", x: x(i) - step / 2, y: top, width: step, height: height - top - bottom });
      hit.append(svg("title", {}, `Run ${run.number}: ${percentText(run.percent)}, seed ${run.seed}, ${moment(run.started)}`));
      root.append(hit);
    });
  }
  $("chart").replaceChildren(root);
}

const NEWEST = 200;
function drawRuns() {
  if ($("runs").querySelector("table")) return;
  const rows = runs.slice(-NEWEST).reverse().map((run) => make("tr", {},
    make("td", {}, String(run.number)),
    make("td", {}, typeof run.percent === "number" ? percentText(run.percent) : "–"),
    make("td", {}, moment(run.started)),
    make("td", {}, String(run.seed)),
    make("td", {}, run.strategy ?? "–"),
    make("td", { class: "mono", title: run.commit }, shortCommit(run.commit)),
    make("td", {}, run.host || "–"),
    make("td", {}, Object.entries(run.counts ?? {}).map(([outcome, n]) => `${n} ${outcome}`).join(", ") || (run.ended ? "–" : "not ended"))));
  if (runs.length > NEWEST) $("runs").append(make("p", { class: "muted" }, `The newest ${NEWEST} of ${plural(runs.length, "run")}.`));
  $("runs").append(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Runs" }, table(
    ["Run", "Coverage", "Started", "Seed", "Strategy", "Commit", "Host", "Cells"], rows)));
}

function table(heads, rows) {
  return make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows));
}
