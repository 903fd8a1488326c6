// What is drawn: a chart for every element with data-chart, from the reports in
// #drawn. How it gets onto the page is in plot.js.
"use strict";
(() => {
  const { runs, events } = JSON.parse(document.getElementById("drawn").textContent);
  for (const run of runs) {
    run.series ||= []; // null where there is none
    // What is left when nothing is sent any more may come within milliseconds:
    // a point of its own would look as if the run had broken down.
    const last = run.series.at(-1);
    if (last && last.t_s > 0 && last.t_s >= run.duration_s && last.length_s < 0.1) run.series.pop();
  }
  const two = runs.length > 1;

  // The x of a second is its middle: what is drawn there was counted around it.
  const middles = (run) => run.series.map((s) => s.t_s + s.length_s / 2);
  const end = runs.flatMap((run) => run.series.map((s) => s.t_s + s.length_s)).reduce((a, b) => Math.max(a, b), 0);

  // Lines of the first run have one colour, those of the second another.
  const label = (text, i) => two ? `${"AB"[i]} ${text}` : text;
  const either = (first, second) => (i) => i === 0 ? first : second;
  const main = either("response", "second"), beside = either("service", "second-service");
  const fill = two ? undefined : 14; // percent; two areas would hide each other

  // joined puts lines that have different x on one.
  function joined(parts) {
    const lines = parts.flatMap((part) => part.lines);
    const tables = parts.map((part) => [part.x, ...part.lines.map((line) => line.values)]);
    return { lines, data: tables.length > 1 ? uPlot.join(tables) : tables[0] };
  }

  // A curve ends at its largest value, which one request in all of them had.
  function curve(latency, line) {
    const last = Math.log10(latency.count);
    const points = latency.curve.map(([percentile, us]) => [Math.min(rarity(percentile), last), us]);
    const kept = points.filter(([x], i) => i === 0 || x > points[i - 1][0]);
    kept[kept.length - 1][1] = latency.max;
    return { x: kept.map(([x]) => x), lines: [{ ...line, values: kept.map(([, us]) => us) }] };
  }

  function percentiles() {
    const parts = [];
    runs.forEach((run, i) => {
      if (run.response_time_us) parts.push(curve(run.response_time_us, { label: label("response time", i), colour: main(i), width: 2.5 }));
      if (run.service_time_us) parts.push(curve(run.service_time_us, { label: label("service time", i), colour: beside(i), width: 1.5, dash: two ? [6, 4] : undefined }));
    });
    const waiting = !two && parts.length === 2; // what lies between the two curves
    return { ...joined(parts), x: "percentile", y: "duration", bands: waiting ? [[1, 2, "response", 10]] : [] };
  }

  // overTime has lines that make(run, i) gives for each run.
  function overTime(y, make) {
    const parts = runs.map((run, i) => ({ x: middles(run), lines: make(run, i) })).filter((part) => part.x.length > 0);
    return { ...joined(parts), x: "time", y, end, events };
  }

  const perSecond = (run, count) => run.series.map((s) => count(s) / s.length_s);

  function throughput() {
    return overTime("rate", (run, i) => {
      const lines = [{ label: label("responses", i), colour: main(i), width: 2, fill, values: perSecond(run, (s) => s.responses) }];
      const { ramp_from: from, rate_per_s: to } = run.load;
      if (to > 0) {
        const asked = middles(run).map((t) => t < run.duration_s ? from + (to - from) * t / run.duration_s : null);
        lines.push({ label: label("asked", i), colour: either("faint", "second-service")(i), width: 1.5, dash: [5, 5], values: asked });
      }
      return lines;
    });
  }

  const failures = () => overTime("rate", (run, i) => [
    { label: label("errors", i), colour: either("bad", "second")(i), width: 2, fill, values: perSecond(run, (s) => s.errors) },
    { label: label("not 2xx", i), colour: either("warn", "second-service")(i), width: 1.5, dash: [5, 4], values: perSecond(run, (s) => s.non_2xx) },
  ]);

  const backlog = () => overTime("count", (run) => [
    { label: "backlog", colour: "warn", width: 2, fill, values: run.series.map((s) => s.backlog) },
  ]);

  const pick = (run, key, of) => run.series.map((s) => s[key] === null ? null : s[key][of]);

  // bands are the percentiles of one run, filled between them. Those of response
  // and service time have one scale, so that they can be compared.
  function bands(key) {
    const line = (run, of, width) => ({ label: of, colour: of, width, values: pick(run, key, of) });
    return {
      ...overTime("duration", (run) => [line(run, "max", 1), line(run, "p99", 1.5), line(run, "p90", 1.5), line(run, "p50", 2)]),
      bands: [[1, 2, "max", 13], [2, 3, "p99", 20], [3, 4, "p90", 26]],
      extent: ["response_time_us", "service_time_us"].flatMap((key) => ["p50", "max"].flatMap((of) => pick(runs[0], key, of))),
    };
  }

  // single is one percentile of response time, of both runs.
  const single = (of) => overTime("duration", (run, i) => [
    { label: label(of, i), colour: main(i), width: 2, values: pick(run, "response_time_us", of) },
  ]);

  const charts = {
    percentiles, throughput, failures, backlog,
    response: () => bands("response_time_us"),
    service: () => bands("service_time_us"),
    p50: () => single("p50"),
    p99: () => single("p99"),
  };

  let plots = [];

  function draw() {
    plots.forEach((plot) => plot.destroy());
    plots = [...document.querySelectorAll("[data-chart]")].map((box) => plot(box, charts[box.dataset.chart]()));
  }

  // The theme is the system's until the button is pressed. Paper is light.

  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;

  function show() {
    button.setAttribute("aria-pressed", dark());
    draw();
  }

  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);

  let chosen;
  addEventListener("beforeprint", () => {
    chosen = root.dataset.theme;
    root.dataset.theme = "light";
    draw();
  });
  addEventListener("afterprint", () => {
    if (chosen) root.dataset.theme = chosen;
    else delete root.dataset.theme;
    draw();
  });

  let width = root.clientWidth;
  addEventListener("resize", () => {
    if (width === root.clientWidth) return;
    width = root.clientWidth;
    draw();
  });

  show();
})();
