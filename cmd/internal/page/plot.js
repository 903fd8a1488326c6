// How a chart gets onto the page, with uPlot. A chart is
//
//   data    the x of all points, and the values of each line, null where missing
//   lines   of each line its label, colour (a name in the style sheet), width,
//           and what of dash and fill (percent) it has
//   x       "time" (seconds, as far as end) or "percentile" (see rarity)
//   y       "duration" (microseconds), "rate" or "count"
//   bands   [upper line, lower line, colour, percent] that are filled between
//   extent  values that have to fit on the y axis, if not those of the lines
//   events  [{ t_s, kind, label }] to mark on the time axis, or null
"use strict";

// The x of a percentile grows by one where the requests beyond it become ten
// times as rare: 90 % is 1, 99 % is 2.
const rarity = (percentile) => -Math.log10(1 - percentile / 100);

const plot = (() => {
  const missing = (v) => v === null || v === undefined;

  // Units are those of the tables, without zeros at the end.

  const short = (x) => x.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
  const full = (x) => Math.abs(x) < 1e12 ? x.toLocaleString("en", { maximumFractionDigits: x < 10 ? 2 : 0 }) : short(x);
  const seconds = (s) => s.toLocaleString("en", { maximumFractionDigits: 3 }) + " s";
  const percentile = (x) => (100 * (1 - 10 ** -x)).toLocaleString("en", { maximumFractionDigits: Math.max(Math.ceil(x) - 1, 1) }) + " %";

  function duration(us) {
    if (us === 0) return "0";
    for (const [unit, size, until] of [["µs", 1, 1e3], ["ms", 1e3, 1e3], ["s", 1e6, 120], ["min", 6e7, 120]]) {
      if (Math.abs(us) < until * size) return short(us / size) + " " + unit;
    }
    return short(us / 3.6e9) + " h";
  }

  const onAxis = { duration, rate: short, count: short };
  const inLegend = { duration, rate: (v) => full(v) + "/s", count: full };

  // Canvas knows no variables: an element that nobody sees tells what a colour
  // of the style sheet is in the theme that is on.
  const probe = document.body.appendChild(document.createElement("i"));
  probe.hidden = true;
  function colour(name, percent = 100) {
    probe.style.color = `color-mix(in srgb, var(--${name}) ${percent}%, transparent)`;
    return getComputedStyle(probe).color;
  }

  // A zoom shows what was chosen, everything else the whole run.
  function xScale(chart) {
    const x = chart.data[0], first = x[0], last = x[x.length - 1];
    const whole = [0, chart.x === "time" ? chart.end : Math.max(last, 1)];
    return { time: false, range: (u, low, high) => missing(low) || (low <= first && high >= last) ? whole : [low, high] };
  }

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

  // decades leaves of the lines of a logarithmic scale those of powers of ten, if
  // there are some.
  function decades(u, splits) {
    const { distr, min, max } = u.scales.y;
    if (distr !== 3 || max / min < 100) return splits;
    return splits.map((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9 ? v : null);
  }

  function axes(chart) {
    const common = { stroke: colour("faint"), font: "12px system-ui, sans-serif", gap: 6, grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const y = { ...common, grid: { ...common.grid, filter: decades }, size: 62, space: 36, values: (u, splits) => splits.map((v) => missing(v) ? null : onAxis[chart.y](v)) };
    const x = { ...common, size: 28, space: 70 };
    if (chart.x === "time") {
      x.values = (u, splits) => splits.map(seconds);
    } else {
      x.values = (u, splits) => splits.map(percentile);
      x.splits = (u, axis, low, high) => {
        const apart = u.bbox.width / devicePixelRatio / (high - low); // from 90 % to 99 %
        const step = Math.ceil(58 / apart), first = apart * rarity(50) > 36 ? [0, rarity(50)] : [0];
        return [...first, ...Array.from({ length: Math.floor(high / step) }, (_, i) => (i + 1) * step)].filter((v) => v >= low);
      };
    }
    return [x, y];
  }

  // lone are the points that no line reaches, because their neighbours are missing.
  function lone(u, series) {
    const values = u.data[series];
    return values.map((_, i) => i).filter((i) => !missing(values[i]) && missing(values[i - 1]) && missing(values[i + 1]));
  }

  function series(chart) {
    const bridged = chart.x === "percentile" && chart.data[0].length > 1; // curves share no x
    const place = chart.x === "time" ? (v) => "at " + seconds(v) : percentile;
    const x = { label: "\u00a0", value: (u, v) => missing(v) ? "" : place(v) };
    return [x, ...chart.lines.map((line) => ({
      label: line.label,
      stroke: colour(line.colour),
      width: line.width,
      dash: line.dash,
      fill: line.fill && colour(line.colour, line.fill),
      spanGaps: bridged,
      points: { show: () => false, filter: bridged ? () => null : lone, size: 6, fill: colour(line.colour) },
      value: (u, v, i, at) => missing(at) ? "" : missing(v) ? "–" : inLegend[chart.y](v), // at: where the cursor is
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

  // mark draws the events in view, with labels where there is room, and counts them.
  function mark(u, events) {
    const { ctx } = u, { left, top, width, height } = u.bbox, unit = devicePixelRatio;
    let drawn = 0, free = left;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("event");
    ctx.lineWidth = unit;
    ctx.setLineDash([4 * unit, 3 * unit]);
    ctx.font = `${11 * unit}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    for (const event of [...events].sort((a, b) => a.t_s - b.t_s)) {
      const x = Math.round(u.valToPos(event.t_s, "x", true));
      if (x < left || x > left + width) continue;
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      const text = ` ${event.label} `, room = ctx.measureText(text).width;
      if (x >= free && x + room <= left + width) {
        ctx.fillText(text, x, top + 2 * unit);
        free = x + room;
      }
      drawn++;
    }
    ctx.restore();
    return drawn;
  }

  return (box, chart) => {
    delete box.dataset.drawn;
    return new uPlot({
      width: box.clientWidth,
      height: parseFloat(getComputedStyle(box).minHeight), // the legend comes below
      padding: [10, 26, 0, 0],
      scales: { x: xScale(chart), y: yScale(chart) },
      axes: axes(chart),
      series: series(chart),
      bands: (chart.bands || []).map(([upper, lower, name, percent]) => ({ series: [upper, lower], fill: colour(name, percent) })),
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
          if (chart.events) box.dataset.events = mark(u, chart.events);
        }],
      },
    }, chart.data, box);
  };
})();
