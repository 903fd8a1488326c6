// Draws the charts of the page from the reports in #drawn. Every element with
// data-chart gets the chart of that name; data-drawn then says how many points
// of it are in view.
"use strict";
(() => {
  const { runs, events } = JSON.parse(document.getElementById("drawn").textContent);
  for (const run of runs) run.series ||= []; // null where there is none

  // Units: as in the tables of the page, without trailing zeros.

  const short = (x) => x.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
  const full = (x) => Math.abs(x) < 1e12 ? x.toLocaleString("en", { maximumFractionDigits: x < 10 ? 2 : 0 }) : short(x);

  function duration(us) {
    if (us === 0) return "0";
    for (const [unit, size, until] of [["µs", 1, 1e3], ["ms", 1e3, 1e3], ["s", 1e6, 120], ["min", 6e7, 120]]) {
      if (Math.abs(us) < until * size) return short(us / size) + " " + unit;
    }
    return short(us / 3.6e9) + " h";
  }

  const seconds = (s) => s.toLocaleString("en", { maximumFractionDigits: 3 });

  // The x of a percentile grows by one where the requests beyond it become ten
  // times as rare: 90 % is 1, 99 % is 2.
  const rarity = (percentile) => -Math.log10(1 - percentile / 100);
  const percentile = (x) => (100 * (1 - 10 ** -x)).toLocaleString("en", { maximumFractionDigits: Math.max(Math.ceil(x) - 1, 1) }) + " %";

  // Colours come from the style sheet, in the theme that is on.
  const probe = document.body.appendChild(document.createElement("i"));
  function colour(name) {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  }
  const clear = (name, percent) => {
    probe.style.color = `color-mix(in srgb, var(--${name}) ${percent}%, transparent)`;
    return getComputedStyle(probe).color;
  };

  // A line is { label, colour, values }, and what of width, dash and fill it has.

  // Middles of the seconds: what is drawn there was counted around them.
  const middles = (run) => run.series.map((s) => s.t_s + s.length_s / 2);
  const end = runs.flatMap((run) => run.series.map((s) => s.t_s + s.length_s)).reduce((a, b) => Math.max(a, b), 0);

  // joined puts lines of several runs, each with its own x, on one x.
  function joined(parts) {
    const tables = parts.filter((p) => p.x.length > 0);
    const data = tables.length > 1 ? uPlot.join(tables.map((p) => [p.x, ...p.lines.map((l) => l.values)]))
      : [tables[0].x, ...tables[0].lines.map((l) => l.values)];
    return { data, lines: tables.flatMap((p) => p.lines) };
  }

  function overTime(parts, more) {
    return { ...joined(parts), x: "time", ...more };
  }

  // A curve ends at its largest value, which one request in all of them had.
  function curve(latency, line) {
    const last = Math.log10(latency.count);
    const points = latency.curve.map(([p, us]) => [Math.min(rarity(p), last), us]);
    const kept = points.filter(([x], i) => i === 0 || x > points[i - 1][0]);
    kept[kept.length - 1][1] = latency.max;
    return { x: kept.map(([x]) => x), lines: [{ ...line, values: kept.map(([, us]) => us) }] };
  }

  // label names a line, and its run where there are two.
  const label = (text, run) => runs.length > 1 ? `${"AB"[run]} ${text}` : text;
  const own = (run) => run === 0 ? "response" : "second";

  function percentiles() {
    const parts = runs.flatMap((r, i) => [
      r.response_time_us && curve(r.response_time_us, { label: label("response time", i), colour: own(i), width: 2.5 }),
      r.service_time_us && curve(r.service_time_us, { label: label("service time", i), colour: i === 0 ? "service" : "second-service", width: 1.5, dash: runs.length > 1 ? [6, 4] : undefined }),
    ]).filter(Boolean);
    const waits = runs.length === 1 && parts.length === 2; // what lies between the two
    return { ...joined(parts), x: "percentile", y: "duration", bridged: true, bands: waits ? [[1, 2, "response", 10]] : [] };
  }

  const perSecond = (run, count) => run.series.map((s) => count(s) / s.length_s);

  function throughput() {
    const parts = runs.map((r, i) => {
      const lines = [{ label: label("responses", i), colour: own(i), width: 2, fill: runs.length > 1 ? undefined : 14, values: perSecond(r, (s) => s.responses) }];
      if (r.load.rate_per_s > 0) {
        const asked = (t) => r.load.ramp_from + (r.load.rate_per_s - r.load.ramp_from) * t / r.duration_s;
        lines.push({ label: label("asked", i), colour: i === 0 ? "faint" : "second-service", width: 1.5, dash: [5, 5], values: middles(r).map(asked) });
      }
      return { x: middles(r), lines };
    });
    return overTime(parts, { y: "rate", floor: 0 });
  }

  function failures() {
    return overTime(runs.map((r, i) => ({
      x: middles(r),
      lines: [
        { label: label("errors", i), colour: i === 0 ? "bad" : "second", width: 2, fill: runs.length > 1 ? undefined : 14, values: perSecond(r, (s) => s.errors) },
        { label: label("not 2xx", i), colour: i === 0 ? "warn" : "second-service", width: 1.5, dash: [5, 4], values: perSecond(r, (s) => s.non_2xx) },
      ],
    })), { y: "rate", floor: 0 });
  }

  function backlog() {
    return overTime(runs.map((r, i) => ({
      x: middles(r),
      lines: [{ label: label("backlog", i), colour: i === 0 ? "warn" : "second", width: 2, fill: 14, values: r.series.map((s) => s.backlog) }],
    })), { y: "count", floor: 0 });
  }

  const pick = (run, key, of) => run.series.map((s) => s[key] === null ? null : s[key][of]);
  const both = (run) => ["response_time_us", "service_time_us"].flatMap((key) => ["p50", "max"].flatMap((of) => pick(run, key, of)));

  // bands are the percentiles of one run, filled between them. Those of response
  // and service time share a scale.
  function bands(key) {
    const run = runs[0];
    const line = (label, of, width) => ({ label, colour: label, width, values: pick(run, key, of) });
    return overTime([{
      x: middles(run),
      lines: [line("max", "max", 1), line("p99", "p99", 1.5), line("p90", "p90", 1.5), line("p50", "p50", 2)],
    }], {
      y: "duration", extent: both(run),
      bands: [[1, 2, "max", 13], [2, 3, "p99", 20], [3, 4, "p90", 26]],
    });
  }

  // one is a percentile of response time of both runs.
  function one(of) {
    return overTime(runs.map((r, i) => ({
      x: middles(r),
      lines: [{ label: label(of, i), colour: own(i), width: 2, values: pick(r, "response_time_us", of) }],
    })), { y: "duration" });
  }

  const charts = {
    percentiles, throughput, failures, backlog,
    response: () => bands("response_time_us"),
    service: () => bands("service_time_us"),
    p50: () => one("p50"),
    p99: () => one("p99"),
  };

  // From here on: a chart onto the page.

  const missing = (v) => v === null || v === undefined;

  // A scale of times is logarithmic where a linear one would press most of it flat.
  function yScale(chart) {
    let low = Infinity, high = 0;
    for (const v of chart.extent || chart.data.slice(1).flat()) {
      if (missing(v)) continue;
      low = Math.min(low, v);
      high = Math.max(high, v);
    }
    if (chart.y === "duration" && low > 0 && high / low > 30) {
      return { distr: 3, log: 10, range: () => uPlot.rangeLog(low, high, 10, false) };
    }
    return { range: () => [0, high > 0 ? 1.08 * high : 1] };
  }

  // A zoom shows what was chosen, everything else the whole run.
  function xScale(chart) {
    const x = chart.data[0], first = x[0], last = x[x.length - 1];
    const whole = chart.x === "time" ? [0, end] : [0, Math.max(last, 1)];
    return { time: false, range: (u, low, high) => low === null || (low <= first && high >= last) ? whole : [low, high] };
  }

  function axes(chart) {
    const common = { stroke: colour("faint"), font: "12px system-ui, sans-serif", grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const x = { ...common, size: 28, gap: 6 };
    if (chart.x === "time") {
      x.values = (u, splits) => splits.map((s) => seconds(s) + " s");
      x.space = 70;
    } else {
      x.splits = (u, axis, low, high) => {
        const apart = u.bbox.width / devicePixelRatio / (high - low); // from one step to the next
        const step = Math.ceil(70 / apart), first = apart * rarity(50) > 36 ? [0, rarity(50)] : [0];
        return [...first, ...Array.from({ length: Math.floor(high / step) }, (_, i) => (i + 1) * step)].filter((v) => v >= low);
      };
      x.values = (u, splits) => splits.map(percentile);
    }
    const write = chart.y === "duration" ? duration : short;
    const y = { ...common, size: 62, gap: 6, space: 36, values: (u, splits) => splits.map((v) => missing(v) ? null : write(v)) };
    return [x, y];
  }

  // lone are the points that no line reaches, because their neighbours are missing.
  function lone(u, series) {
    const values = u.data[series];
    return values.map((_, i) => i).filter((i) => !missing(values[i]) && missing(values[i - 1]) && missing(values[i + 1]));
  }

  function series(chart) {
    const write = chart.y === "duration" ? duration : chart.y === "rate" ? (v) => full(v) + "/s" : full;
    const place = chart.x === "time" ? (v) => `at ${seconds(v)} s` : percentile;
    const x = { label: "\u00a0", value: (u, v) => missing(v) ? "" : place(v) };
    return [x, ...chart.lines.map((line) => ({
      label: line.label,
      stroke: colour(line.colour),
      width: line.width,
      dash: line.dash,
      fill: line.fill && clear(line.colour, line.fill),
      spanGaps: chart.bridged,
      points: { show: () => false, filter: chart.bridged && chart.data[0].length > 1 ? () => null : lone, size: 6, fill: colour(line.colour) },
      value: (u, v, i, at) => missing(at) ? "" : missing(v) ? "–" : write(v), // at: where the cursor is
    }))];
  }

  // inView counts the points that lie in the plotting area.
  function inView(u) {
    const { left, top, width, height } = u.bbox;
    const inside = (v, from, length) => v >= from - 1 && v <= from + length + 1;
    let n = 0;
    u.series.forEach((s, i) => {
      if (i === 0 || !s.show) return;
      u.data[i].forEach((v, k) => {
        if (!missing(v) && inside(u.valToPos(u.data[0][k], "x", true), left, width) && inside(u.valToPos(v, "y", true), top, height)) n++;
      });
    });
    return n;
  }

  // mark draws the events in view, with their labels where there is room.
  function mark(u) {
    const { ctx } = u, { left, top, width, height } = u.bbox, ratio = devicePixelRatio;
    let drawn = 0, free = left;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("event");
    ctx.lineWidth = ratio;
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    for (const event of [...events].sort((a, b) => a.t_s - b.t_s)) {
      const x = Math.round(u.valToPos(event.t_s, "x", true));
      if (x < left || x > left + width) continue;
      ctx.setLineDash([4 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      const text = ` ${event.label} `, room = ctx.measureText(text).width;
      if (x >= free && x + room <= left + width) {
        ctx.fillText(text, x, top + 2 * ratio);
        free = x + room;
      }
      drawn++;
    }
    ctx.restore();
    return drawn;
  }

  function draw(box) {
    const chart = charts[box.dataset.chart]();
    const plot = new uPlot({
      width: box.clientWidth,
      height: parseFloat(getComputedStyle(box).minHeight), // the legend comes below
      padding: [10, 12, 0, 0],
      scales: { x: xScale(chart), y: yScale(chart) },
      axes: axes(chart),
      series: series(chart),
      bands: (chart.bands || []).map(([high, low, name, percent]) => ({ series: [high, low], fill: clear(name, percent) })),
      legend: { markers: { dash: (u, i) => i > 0 && chart.lines[i - 1].dash ? "dashed" : "solid" } },
      cursor: {
        y: false,
        drag: { x: chart.x === "time", y: false, setScale: chart.x === "time" },
        sync: chart.x === "time" ? { key: "time", scales: ["x", null] } : undefined,
        points: { size: 7 },
      },
      hooks: {
        draw: [(u) => {
          box.dataset.drawn = inView(u);
          if (chart.x === "time" && events) box.dataset.events = mark(u);
        }],
      },
    }, chart.data, box);
    return plot;
  }

  let plots = [];

  function drawAll() {
    plots.forEach((plot) => plot.destroy());
    plots = [...document.querySelectorAll("[data-chart]")].map(draw);
  }

  // The theme is the system's until the button is pressed; paper is light.

  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;

  function show() {
    button.setAttribute("aria-pressed", dark());
    drawAll();
  }

  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);

  let screen;
  addEventListener("beforeprint", () => {
    screen = root.dataset.theme;
    root.dataset.theme = "light";
    drawAll();
  });
  addEventListener("afterprint", () => {
    if (screen) root.dataset.theme = screen;
    else delete root.dataset.theme;
    drawAll();
  });

  let width = root.clientWidth;
  addEventListener("resize", () => {
    if (width === root.clientWidth) return;
    width = root.clientWidth;
    drawAll();
  });

  show();
})();
