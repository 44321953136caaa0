"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const T = D.trials, METRIC = D.metric.name, N = T.label.length, PAGE = 200;
const FAMILIES = Object.keys(D.colours), PLACES = [...Array(N).keys()];
const $ = (id) => document.getElementById(id);
let chosen = null;

// What a chart shows as text must not be read as markup.
const plain = (value) => String(value).replace(/&/g, "&amp;").replace(/</g, "&lt;");
const shown = (value) => {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 0.001 && Math.abs(value) < 1e6 ? String(Number(value.toPrecision(5))) : value.toExponential(3);
};
const settings = (i) => D.params.filter((name) => T[name][i] !== null).map((name) => `${name} = ${shown(T[name][i])}`);
const hover = (i) => [`${T.label[i]}  ${T.family[i]}  ${T.state[i]}`, `${METRIC} = ${shown(T[METRIC][i])}`, ...settings(i)].map(plain).join("<br>");

// --- charts: each is drawn when it comes into view, and again when something changes ------------------
const charts = {}, drawn = new Set();
const CONFIG = { responsive: true, displaylogo: false };
function chart(id, make) {
  charts[id] = () => {
    const [traces, layout] = make();
    if (!traces.length) return;
    Plotly.react(id, traces, themed(layout), CONFIG).then((node) => {
      if (drawn.has(id)) return;
      drawn.add(id);
      node.on("plotly_click", (event) => {
        const place = event.points[0].customdata;
        if (Number.isInteger(place)) choose(place);
      });
    });
  };
}
function themed(layout) {
  const style = getComputedStyle(document.documentElement), of = (name) => style.getPropertyValue(name).trim();
  const axis = (own) => ({ gridcolor: of("--line"), linecolor: of("--soft"), zerolinecolor: of("--line"), automargin: true, ...own });
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: of("--ink"), size: 12 }, hovermode: "closest",
    margin: { l: 50, r: 10, t: 20, b: 45 }, legend: { orientation: "h", y: -0.2 }, hoverlabel: { align: "left" }, ...layout,
    xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
  };
}
const redraw = (...ids) => ids.filter((id) => drawn.has(id)).forEach((id) => charts[id]());
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();

chart("pareto-chart", () => {
  const name = $("cost").value, cost = D.costs[name];
  if (!cost) return [[], {}];
  const has = (i) => T[name][i] !== null && T[METRIC][i] !== null && T.rank[i] !== null;
  const x = (i) => T[name][i] / cost.size, y = (i) => T[METRIC][i];
  const traces = FAMILIES.map((family) => {
    const own = PLACES.filter((i) => T.family[i] === family && has(i));
    return { name: plain(family), x: own.map(x), y: own.map(y), customdata: own, text: own.map(hover), hoverinfo: "text", mode: "markers", type: "scatter",
      marker: { color: D.colours[family], size: 8, symbol: own.map((i) => (T.state[i] === "COMPLETE" ? "circle" : "circle-open")) } };
  }).filter((trace) => trace.x.length);
  traces.push({ name: "Pareto front", x: cost.front.map(x), y: cost.front.map(y), mode: "lines", type: "scatter", line: { shape: "hv", color: ink(), width: 1.5 }, hoverinfo: "skip" });
  if (cost.knee !== null) traces.push({ name: "knee", x: [x(cost.knee)], y: [y(cost.knee)], customdata: [cost.knee], mode: "markers", type: "scatter", text: [hover(cost.knee)], hoverinfo: "text", marker: { symbol: "diamond-open", size: 16, color: ink(), line: { width: 2 } } });
  if (chosen !== null && has(chosen)) traces.push({ name: "chosen", x: [x(chosen)], y: [y(chosen)], mode: "markers", type: "scatter", hoverinfo: "skip", marker: { symbol: "circle-open", size: 20, color: ink(), line: { width: 3 } } });
  $("cost-note").textContent = cost.caution ? `Caution: ${cost.caution}` : "";
  return [traces, { xaxis: { title: { text: plain(cost.label) }, type: $("log").checked ? "log" : "linear" }, yaxis: { title: { text: plain(D.metric.label) } } }];
});

chart("history-chart", () => {
  const H = D.history, rows = H.cost.map((_, i) => i).filter((i) => H.cost[i] === $("cost").value);
  const text = rows.map((i) => plain(`${shown(H.value[i])} after ${shown(H.device_hours[i])} device-hours, ${H.trials[i]} trials, ${H.front_trials[i]} on the front, knee ${H.knee[i]}`));
  return [[{ x: rows.map((i) => H.device_hours[i]), y: rows.map((i) => H.hypervolume[i]), text, hoverinfo: "text", mode: "lines+markers", type: "scatter", line: { color: "#0072B2" } }],
    { xaxis: { title: { text: "Device-hours spent" }, rangemode: "tozero" }, yaxis: { title: { text: "Hypervolume (share)" }, range: [0, 1.05] } }];
});

chart("curves-chart", () => {
  const at = Number($("curve-x").value), all = D.curves.drawn, places = Object.keys(all).map(Number), few = places.length > 60;
  const traces = FAMILIES.map((family) => {
    const x = [], y = [], who = [], text = [];
    for (const i of places.filter((i) => T.family[i] === family)) {
      const words = hover(i);
      all[i][at].forEach((value, k) => { x.push(value); y.push(all[i][2][k]); who.push(i); text.push(words); });
      x.push(null); y.push(null); who.push(null); text.push("");
    }
    return { name: plain(family), x, y, customdata: who, text, hoverinfo: "text", mode: few ? "lines" : "lines+markers", type: "scatter", opacity: 0.55, line: { color: D.colours[family], width: 1 }, marker: { size: 4 } };
  }).filter((trace) => trace.x.length);
  const mark = (i, name, width) => ({ name, x: all[i][at], y: all[i][2], customdata: all[i][at].map(() => i), text: hover(i), hoverinfo: "text", mode: "lines+markers", type: "scatter", line: { color: name === "chosen" ? ink() : D.colours[T.family[i]], width } });
  if (places.length) traces.push(mark(Math.min(...places), plain(`best: ${T.label[Math.min(...places)]}`), 2.5));
  if (chosen !== null && all[chosen]) traces.push(mark(chosen, "chosen", 3.5));
  const shapes = at ? [] : D.rungs.map((rung) => ({ type: "line", x0: rung, x1: rung, yref: "paper", y0: 0, y1: 1, line: { dash: "dot", width: 1, color: ink() } }));
  $("curves-note").textContent = places.length < D.curves.all ? `${places.length} of ${D.curves.all} curves are drawn, evenly by rank.` : "";
  return [traces, { shapes, xaxis: { title: { text: at ? "Device seconds of the trial so far" : "Epoch" } }, yaxis: { title: { text: plain(D.metric.label) } } }];
});

const inGroup = () => PLACES.filter((i) => T.rank[i] !== null && ($("group").value === "all" || T.family[i] === $("group").value));
chart("importance-chart", () => {
  const I = D.importance, rows = I.group.map((_, i) => i).filter((i) => I.group[i] === $("group").value && I.importance[i] !== null).reverse();
  if (!rows.length) return [[{ type: "bar", x: [], y: [] }], { title: { text: "fewer than 8 trials: nothing can be said" } }];
  return [[{ type: "bar", orientation: "h", x: rows.map((i) => I.importance[i]), y: rows.map((i) => plain(I.parameter[i])), marker: { color: "#0072B2" }, hoverinfo: "x" }],
    { xaxis: { title: { text: "Importance (share)" }, range: [0, 1] } }];
});

chart("slice-chart", () => {
  const name = $("parameter").value, own = inGroup().filter((i) => T[name] && T[name][i] !== null), values = own.map((i) => T[name][i]);
  const numeric = values.every((value) => typeof value === "number"), low = Math.min(...values), high = Math.max(...values);
  const traces = FAMILIES.map((family) => {
    const mine = own.filter((i) => T.family[i] === family);
    return { name: plain(family), x: mine.map((i) => (numeric ? T[name][i] : plain(T[name][i]))), y: mine.map((i) => T[METRIC][i]), customdata: mine, text: mine.map(hover), hoverinfo: "text", mode: "markers", type: "scatter", marker: { color: D.colours[family] } };
  }).filter((trace) => trace.x.length);
  if (own.includes(chosen)) traces.push({ name: "chosen", x: [numeric ? T[name][chosen] : plain(T[name][chosen])], y: [T[METRIC][chosen]], mode: "markers", type: "scatter", hoverinfo: "skip", marker: { symbol: "circle-open", size: 20, color: ink(), line: { width: 3 } } });
  return [traces, { xaxis: { title: { text: plain(name) }, type: !numeric ? "category" : low > 0 && high > 10 * low ? "log" : "linear" }, yaxis: { title: { text: plain(D.metric.label) } } }];
});

// A parameter's values as places from 0 to 1: on a logarithm where they span more than a decade, by name where they are words.
function scaleOf(name, own) {
  const known = own.map((i) => T[name][i]), isNumeric = known.every((value) => typeof value === "number");
  if (!isNumeric) {
    const kinds = [...new Set(known.map(String))].sort();
    return { place: (value) => (kinds.length > 1 ? kinds.indexOf(String(value)) / (kinds.length - 1) : 0.5), axis: { tickvals: kinds.map((_, k) => (kinds.length > 1 ? k / (kinds.length - 1) : 0.5)), ticktext: kinds.map(plain) } };
  }
  const low = Math.min(...known), high = Math.max(...known), isLog = low > 0 && high > 10 * low;
  const to = isLog ? Math.log : (value) => value, from = isLog ? Math.exp : (value) => value, span = to(high) - to(low) || 1;
  const ticks = [0, 0.25, 0.5, 0.75, 1];
  return { place: (value) => (to(value) - to(low)) / span, axis: { tickvals: ticks, ticktext: ticks.map((t) => shown(Number(from(to(low) + t * span).toPrecision(2)))) } };
}
chart("contour-chart", () => {
  const a = $("parameter").value, b = $("second").value;
  const own = inGroup().filter((i) => T[a] && T[b] && T[a][i] !== null && T[b][i] !== null && T[METRIC][i] !== null);
  if (!b || own.length < 3) return [[{ type: "contour", z: [] }], { title: { text: "fewer than 3 trials have both parameters" } }];
  const [sx, sy] = [scaleOf(a, own), scaleOf(b, own)], x = own.map((i) => sx.place(T[a][i])), y = own.map((i) => sy.place(T[b][i]));
  const value = own.map((i) => T[METRIC][i]), grid = [...Array(25).keys()].map((k) => k / 24);
  const z = grid.map((v) => grid.map((u) => {
    let sum = 0, weights = 0;
    for (let k = 0; k < own.length; k++) {
      const weight = 1 / ((x[k] - u) ** 2 + (y[k] - v) ** 2 + 1e-4);
      sum += weight * value[k];
      weights += weight;
    }
    return sum / weights;
  }));
  const traces = [{ type: "contour", x: grid, y: grid, z, colorscale: "Viridis", reversescale: D.metric.mode === "min", contours: { coloring: "heatmap" }, hoverinfo: "skip", colorbar: { title: { text: plain(METRIC) } } },
    { type: "scatter", mode: "markers", name: "trials", showlegend: false, x, y, customdata: own, text: own.map(hover), hoverinfo: "text", marker: { color: "#fff", size: 6, line: { color: "#222", width: 1 } } }];
  const at = own.indexOf(chosen);
  if (at >= 0) traces.push({ name: "chosen", showlegend: false, x: [x[at]], y: [y[at]], mode: "markers", type: "scatter", hoverinfo: "skip", marker: { symbol: "circle-open", size: 20, color: "#D55E00", line: { width: 3 } } });
  return [traces, { xaxis: { title: { text: plain(a) }, range: [-0.03, 1.03], ...sx.axis }, yaxis: { title: { text: plain(b) }, range: [-0.03, 1.03], ...sy.axis } }];
});

chart("parallel-chart", () => {
  const own = inGroup(), names = [...D.params.filter((name) => new Set(own.map((i) => T[name][i])).size > 1), METRIC];
  const dimensions = names.map((name) => {
    const cells = own.map((i) => T[name][i]), known = cells.filter((cell) => cell !== null);
    if (!known.every((cell) => typeof cell === "number")) {
      const kinds = [...new Set(cells.map((cell) => (cell === null ? "none" : String(cell))))].sort();
      return { label: plain(name), values: cells.map((cell) => kinds.indexOf(cell === null ? "none" : String(cell))), tickvals: kinds.map((_, k) => k), ticktext: kinds.map(plain) };
    }
    const low = Math.min(...known), high = Math.max(...known), isLog = name !== METRIC && low > 0 && high > 10 * low;
    const scale = isLog ? Math.log10 : (value) => value, none = scale(low) - 0.1 * (scale(high) - scale(low) || 1);
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => scale(low) + part * (scale(high) - scale(low)));
    const hasNone = known.length < cells.length;
    return { label: plain(name), values: cells.map((cell) => (cell === null ? none : scale(cell))), range: [hasNone ? none : scale(low), scale(high)],
      tickvals: [...(hasNone ? [none] : []), ...ticks], ticktext: [...(hasNone ? ["none"] : []), ...ticks.map((tick) => shown(Number((isLog ? 10 ** tick : tick).toPrecision(3))))] };
  });
  const colour = own.includes(chosen) ? own.map((i) => (i === chosen ? 1 : 0)) : own.map((i) => T[METRIC][i]);
  const colorscale = own.includes(chosen) ? [[0, "#9999994d"], [1, "#D55E00"]] : "Viridis";
  return [own.length && names.length > 1 ? [{ type: "parcoords", dimensions, line: { color: colour, colorscale } }] : [], { margin: { l: 60, r: 40, t: 50, b: 20 } }];
});

chart("spending-chart", () => {
  const S = D.spending, states = [...new Set(S.state)], rows = S.family.map((_, i) => i);
  return [states.map((state) => {
    const own = rows.filter((i) => S.state[i] === state);
    return { type: "bar", name: state, x: own.map((i) => plain(S.family[i])), y: own.map((i) => S.device_hours[i]), text: own.map((i) => `${S.trials[i]}`), hovertext: own.map((i) => `${shown(S.device_hours[i])} device-hours, ${S.trials[i]} trials ${state}`), hoverinfo: "text" };
  }), { barmode: "stack", yaxis: { title: { text: "Device-hours" } }, xaxis: { type: "category" } }];
});

chart("survival-chart", () => {
  const S = D.survival, rows = S.family.map((_, i) => i);
  return [FAMILIES.map((family) => {
    const own = rows.filter((i) => S.family[i] === family);
    return { name: plain(family), x: own.map((i) => S.epochs[i]), y: own.map((i) => S.trials[i]), type: "scatter", mode: "lines+markers", line: { shape: "vh", color: D.colours[family] } };
  }), { xaxis: { title: { text: "Epochs trained at least" } }, yaxis: { title: { text: "Trials" }, rangemode: "tozero" } }];
});

chart("confusion-chart", () => {
  const C = D.confusion;
  if (!C) return [[], {}];
  return [[{ type: "heatmap", z: C.counts, x: C.classes.map(plain), y: C.classes.map(plain), colorscale: "Blues", reversescale: false, hovertemplate: "%{y} taken for %{x}: %{z}<extra></extra>" }],
    { xaxis: { title: { text: "predicted" }, type: "category" }, yaxis: { title: { text: "true" }, type: "category", autorange: "reversed" } }];
});

// --- the table of trials -------------------------------------------------------------------------------
const columns = Object.keys(T), table = $("trial-table");
let order = { name: "rank", down: false }, limit = PAGE;
const words = PLACES.map((i) => columns.filter((name) => T[name][i] !== null).map((name) => `${name}=${T[name][i]}`).join(" ").toLowerCase());
function matches(i, part) {
  const [, name, sign, bound] = part.match(/^([\w.]+)(<=|>=|<|>|=)(.+)$/) || [];
  const key = name && columns.find((column) => column.toLowerCase() === name);
  if (!key) return words[i].includes(part);
  const value = T[key][i], number = Number(bound);
  if (value === null) return false;
  if (sign === "=") return String(value).toLowerCase() === bound;
  return { "<": value < number, ">": value > number, "<=": value <= number, ">=": value >= number }[sign];
}
function fill() {
  const parts = $("find").value.toLowerCase().split(/\s+/).filter(Boolean), family = $("family").value, state = $("state").value;
  const rows = PLACES.filter((i) => (!family || T.family[i] === family) && (!state || T.state[i] === state) && parts.every((part) => matches(i, part)));
  const cells = T[order.name], sign = order.down ? -1 : 1;
  rows.sort((a, b) => {
    const [x, y] = [cells[a], cells[b]];
    if (x === null || y === null) return (x === null) - (y === null) || a - b; // what is missing comes last
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y))) || a - b;
  });
  const head = table.tHead.rows[0];
  head.replaceChildren(...columns.map((name) => {
    const cell = document.createElement("th"), button = document.createElement("button");
    cell.scope = "col";
    if (name === order.name) cell.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    button.type = "button";
    button.textContent = (name === "label" ? "trial" : name) + (name === order.name ? (order.down ? " ▼" : " ▲") : "");
    button.dataset.column = name;
    button.onclick = () => { order = { name, down: name === order.name && !order.down }; fill(); head.querySelector(`[data-column="${CSS.escape(name)}"]`).focus(); };
    cell.append(button);
    return cell;
  }));
  const visible = rows.slice(0, limit);
  if (chosen !== null && rows.includes(chosen) && !visible.includes(chosen)) visible.push(chosen);
  table.tBodies[0].replaceChildren(...visible.map((i) => {
    const row = document.createElement("tr");
    row.dataset.place = i;
    if (i === chosen) row.setAttribute("aria-current", "true");
    row.append(...columns.map((name) => {
      const cell = document.createElement("td"), value = T[name][i];
      if (name === "label") {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = value;
        button.onclick = () => choose(i);
        cell.append(button);
      } else cell.textContent = shown(value);
      if (typeof value === "number") cell.className = "number";
      return cell;
    }));
    return row;
  }));
  $("count").textContent = `${rows.length} of ${N} trials` + (visible.length < rows.length ? `, ${visible.length} shown` : "");
  $("more").hidden = visible.length >= rows.length;
}

function choose(i) {
  chosen = i;
  const error = D.errors[i] ? [`error: ${D.errors[i]}`] : [];
  $("chosen").textContent = [`${T.label[i]}: ${T.family[i]}, ${T.state[i]}, ${METRIC} ${shown(T[METRIC][i])} after ${shown(T.epochs[i])} epochs`, ...settings(i), ...error].join(" · ");
  sessionStorage.setItem("chosen", T.label[i]);
  fill();
  redraw("pareto-chart", "curves-chart", "slice-chart", "contour-chart", "parallel-chart");
}

// --- controls -------------------------------------------------------------------------------------------
const options = (id, names) => $(id).append(...names.map((name) => new Option(name, name)));
options("cost", Object.keys(D.costs));
options("group", [...(FAMILIES.length > 1 ? ["all"] : []), ...FAMILIES]);
options("parameter", D.params);
function seconds() { // all but the first parameter; what was chosen stays if it can
  const before = $("second").value, others = D.params.filter((name) => name !== $("parameter").value);
  $("second").replaceChildren(...others.map((name) => new Option(name, name)));
  if (others.includes(before)) $("second").value = before;
}
seconds();
options("family", FAMILIES);
options("state", [...new Set(T.state)].sort());
$("cost").onchange = $("log").onchange = () => redraw("pareto-chart", "history-chart");
$("curve-x").onchange = () => redraw("curves-chart");
$("group").onchange = () => redraw("importance-chart", "slice-chart", "contour-chart", "parallel-chart");
$("parameter").onchange = () => { seconds(); redraw("slice-chart", "contour-chart"); };
$("second").onchange = () => redraw("contour-chart");
$("find").oninput = $("family").onchange = $("state").onchange = () => { limit = PAGE; fill(); };
$("more").onclick = () => { limit += PAGE; fill(); };
fill();

const watcher = new IntersectionObserver((seen) => seen.forEach(({ isIntersecting, target }) => {
  if (isIntersecting && !drawn.has(target.id)) charts[target.id]();
}), { rootMargin: "300px" });
document.querySelectorAll(".chart").forEach((node) => watcher.observe(node));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw(...drawn));
addEventListener("beforeprint", () => Object.keys(charts).forEach((id) => $(id) && charts[id]()));
const before = T.label.indexOf(sessionStorage.getItem("chosen"));
if (before >= 0) choose(before);

// --- served by `mmtune report --watch`: a newer page replaces this one ----------------------------------
if (location.protocol === "http:") {
  let first = null;
  const timer = setInterval(async () => {
    const answer = await fetch(location.pathname, { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (!answer) return;
    const version = answer.headers.get("X-Mmtune-Version");
    if (version === null) clearInterval(timer);
    else if (first === null) first = version;
    else if (version !== first) location.reload();
  }, 3000);
}
