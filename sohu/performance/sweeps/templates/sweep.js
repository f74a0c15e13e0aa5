"use strict";
// The page is complete without this: it puts a plot that zooms, names its points and can be saved over the still one.
const UNUSABLE = 0, USABLE = 1, FRONT = 2;
const REACH = 18;
const source = JSON.parse(document.getElementById("points").textContent);
const place = document.getElementById("plot");

function unpacked(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const rows = unpacked(source.rows, Uint32Array);
const kind = unpacked(source.kind, Uint8Array);
const series = unpacked(source.series, Uint8Array);
const x = unpacked(source.x, Float32Array);
const y = unpacked(source.y, Float32Array);
const logs = [x.map(Math.log10), y.map(Math.log10)];

// The ends of an axis, a little outside of its values.
function ends(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const room = Math.max(0.04 * (high - low), 0.03);
  return [10 ** (low - room), 10 ** (high + room)];
}
const whole = { x: ends(logs[0]), y: ends(logs[1]) };

// Round values between two ends: of each decade 1, 2 and 5, or finer ones where there is room for them.
function ticks(low, high, most) {
  const kept = (steps) => {
    const marks = [];
    for (let d = Math.floor(Math.log10(low)); d <= Math.log10(high); d++) {
      for (const step of steps) marks.push(step * 10 ** d);
    }
    return marks.filter((value) => value >= low && value <= high);
  };
  const fine = Array.from({ length: 90 }, (_, i) => 1 + i / 10);
  const choices = [fine, fine.filter((_, i) => i % 5 === 0), [1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1]];
  for (const steps of choices) {
    const marks = kept(steps);
    if (marks.length <= most) return marks;
  }
  return kept([1]);
}

function styleOf(name, element = document.documentElement) {
  return getComputedStyle(element).getPropertyValue(name).trim();
}

function toneOf(number) {
  const key = document.querySelector(`.legend .c-${number}`);
  return key ? styleOf("--tone", key) : styleOf("--planned");
}

// The size of the page's letters, which grows with very wide screens.
const rootSize = () => parseFloat(getComputedStyle(document.documentElement).fontSize);

// Where every point lies on the canvas, for the ends that are shown.
function positions(u) {
  const { left, top, width, height } = u.bbox;
  const [xl, xh, yl, yh] = [u.scales.x.min, u.scales.x.max, u.scales.y.min, u.scales.y.max].map(Math.log10);
  return {
    across: (i) => left + (logs[0][i] - xl) / (xh - xl) * width,
    down: (i) => top + height - (logs[1][i] - yl) / (yh - yl) * height,
  };
}

function draw(u) {
  const { ctx, bbox } = u;
  const at = positions(u);
  const size = devicePixelRatio * rootSize() / 16;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  drawCrosses(ctx, at, size);
  ctx.globalAlpha = 0.6;
  ctx.fillStyle = styleOf("--soft");
  for (let i = 0; i < rows.length; i++) {
    if (kind[i] !== UNUSABLE) ctx.fillRect(at.across(i) - 2 * size, at.down(i) - 2 * size, 4 * size, 4 * size);
  }
  ctx.globalAlpha = 1;
  for (const line of source.lines) drawLine(ctx, line, at, size);
  ctx.restore();
}

function drawCrosses(ctx, at, size) {
  const r = 2.6 * size;
  ctx.strokeStyle = styleOf("--fail");
  ctx.globalAlpha = 0.5;
  ctx.lineWidth = size;
  ctx.beginPath();
  for (let i = 0; i < rows.length; i++) {
    if (kind[i] !== UNUSABLE) continue;
    const px = at.across(i), py = at.down(i);
    ctx.moveTo(px - r, py - r);
    ctx.lineTo(px + r, py + r);
    ctx.moveTo(px + r, py - r);
    ctx.lineTo(px - r, py + r);
  }
  ctx.stroke();
}

function drawLine(ctx, line, at, size) {
  ctx.strokeStyle = toneOf(line.series);
  ctx.fillStyle = styleOf("--paper");
  ctx.lineWidth = 1.6 * size;
  ctx.beginPath();
  line.at.forEach((i, n) => (n ? ctx.lineTo(at.across(i), at.down(i)) : ctx.moveTo(at.across(i), at.down(i))));
  ctx.stroke();
  for (const i of line.at) {
    ctx.beginPath();
    ctx.arc(at.across(i), at.down(i), 3.4 * size, 0, 2 * Math.PI);
    ctx.fill();
    ctx.stroke();
  }
}

// The point nearest to a place within reach, those of the front before others.
function nearest(u, left, top) {
  const at = positions(u);
  const px = left * devicePixelRatio + u.bbox.left, py = top * devicePixelRatio + u.bbox.top;
  let best = -1, least = (REACH * devicePixelRatio) ** 2;
  for (let i = 0; i < rows.length; i++) {
    const far = (at.across(i) - px) ** 2 + (at.down(i) - py) ** 2 - (kind[i] === FRONT ? 16 * devicePixelRatio ** 2 : 0);
    if (far < least) { least = far; best = i; }
  }
  return best;
}

function valuesOf(i) {
  return source.axes.map((axis) => axis.values[Math.floor(rows[i] / axis.stride) % axis.values.length]);
}

const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;

function showTip(u) {
  const { left, top } = u.cursor;
  const i = left >= 0 ? nearest(u, left, top) : -1;
  tip.hidden = i < 0;
  if (i < 0) return;
  const named = valuesOf(i).map((value, n) => `${source.axes[n].name} ${value}`);
  const state = { [UNUSABLE]: "not usable", [USABLE]: "", [FRONT]: "on the front" }[kind[i]];
  const lines = [...named, `${short.format(x[i])} tokens/s a user`, `${short.format(y[i])} tokens/s a chip`, state];
  tip.replaceChildren(...lines.filter(Boolean).flatMap((line) => [line, document.createElement("br")]));
  const right = left > u.over.clientWidth / 2;
  tip.style.left = right ? "" : `${left + u.over.offsetLeft + 14}px`;
  tip.style.right = right ? `${place.clientWidth - left - u.over.offsetLeft + 14}px` : "";
  tip.style.top = `${top + u.over.offsetTop}px`;
}

const sizeNow = () => ({ width: place.clientWidth, height: Math.max(280, Math.min(0.5 * place.clientWidth, 900)) });

function axis(scale, label) {
  const root = rootSize();
  const font = `${0.75 * root}px ${styleOf("--sans")}`;
  return {
    scale, label, font, labelFont: font, side: scale === "x" ? 2 : 3,
    size: (scale === "x" ? 2.2 : 3.6) * root, labelSize: 1.4 * root,
    stroke: () => styleOf("--soft"), grid: { stroke: () => styleOf("--line"), width: 1 }, ticks: { show: false },
    splits: (u, _, low, high) => ticks(low, high, Math.max(3, Math.floor((scale === "x" ? u.width : u.height) / (6 * root)))),
    filter: (_, splits) => splits,
    values: (_, splits) => splits.map((value) => short.format(value)),
  };
}

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;

function csv() {
  const heads = [...source.axes.map((each) => each.name), "tokens_per_s_user", "tokens_per_s_chip"];
  const lines = [heads.map(quoted).join(",")];
  for (let i = 0; i < rows.length; i++) {
    if (kind[i] === FRONT) lines.push([...valuesOf(i).map(quoted), x[i], y[i]].join(","));
  }
  return new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" });
}

// What is saved has the page's ground behind it.
function picture(u) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [u.ctx.canvas.width, u.ctx.canvas.height];
  const ctx = canvas.getContext("2d");
  ctx.fillStyle = styleOf("--paper");
  ctx.fillRect(0, 0, canvas.width, canvas.height);
  ctx.drawImage(u.ctx.canvas, 0, 0);
  canvas.toBlob((blob) => save("sweep.png", blob));
}

place.hidden = false;
const plot = new uPlot({
  mode: 2, ...sizeNow(), legend: { show: false },
  cursor: { drag: { x: true, y: true, uni: 20 }, points: { show: false } },
  scales: { x: { time: false, distr: 3, range: () => whole.x }, y: { distr: 3, range: () => whole.y } },
  axes: [axis("x", "tokens/s a user"), axis("y", "tokens/s a chip")],
  series: [{}, { facets: [{ scale: "x", auto: true }, { scale: "y", auto: true }], paths: () => null }],
  hooks: { draw: [draw], setCursor: [showTip] },
}, [null, [Array.from(x), Array.from(y)]], place);
place.append(tip);
document.getElementById("still").hidden = true;
document.getElementById("tools").hidden = false;
if (rows.length < source.points) {
  document.getElementById("held").textContent = `The plot holds ${rows.length} of ${source.points} points, and all of the fronts.`;
}
const all = () => plot.batch(() => {
  for (const scale of ["x", "y"]) plot.setScale(scale, { min: whole[scale][0], max: whole[scale][1] });
});
document.getElementById("all").addEventListener("click", all);
document.getElementById("png").addEventListener("click", () => picture(plot));
document.getElementById("csv").addEventListener("click", () => save("front.csv", csv()));
new ResizeObserver(() => { if (place.clientWidth !== plot.width) plot.setSize(sizeNow()); }).observe(place);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot.redraw());
