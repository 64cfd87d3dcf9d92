'use strict';

/*
 * A line chart of the last 60 values of one metric, on a canvas.
 *
 * Time runs along x, so a pause in the data is a gap in the line and not a bridge over it. New data, new sizes and
 * the reader's pointer only ask for a draw; it happens once, in the next animation frame, and so not at all in a
 * hidden tab. After it the chart says `draw`.
 *
 * To the keyboard and to a screen reader the canvas is a slider along its points, and says the one it stands on.
 */

const CHART_POINTS = 60;
/** A silence of more than this many usual intervals is a gap. */
const GAP_INTERVALS = 1.8;
const VALUE_TICKS = 4;
const TIME_STEPS_S = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600];
const TIME_LABEL_PX = 80;
/** From here on an axis says 12K and 3M. */
const COMPACT_FROM = 10_000;

/** Round numbers around `low` to `high` in about `count` steps of 1, 2 or 5 times a power of ten, from `least` on. */
function niceScale(low, high, count, least) {
  // What does not change runs through the middle.
  const room = high > low ? 0 : Math.max(Math.abs(high) * 0.1, least);
  const rough = Math.max((high - low + 2 * room) / count, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const from = Math.floor((low - room) / step) * step;
  const to = Math.max(Math.ceil((high + room) / step) * step, from + step);
  return { from: low < 0 ? from : Math.max(0, from), to, step, digits: Math.max(0, -Math.floor(Math.log10(step))) };
}

/** Round moments of the clock between `from` and `to`, at most `count` of them. */
function niceTimes(from, to, count) {
  const step = 1000 * (TIME_STEPS_S.find((seconds) => (to - from) / 1000 / seconds <= count) ?? (to - from) / 1000);
  const times = [];
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) times.push(time);
  return times;
}

/** The usual time between two values: the median, which a pause does not move. */
function usualInterval(times) {
  if (times.length < 2) return 1000;
  const gaps = times.slice(1).map((time, i) => time - times[i]).sort((a, b) => a - b);
  return gaps[gaps.length >> 1] || 1000;
}

/** Index ranges [from, to] of values with no gap between them. */
function unbroken(times, interval) {
  const runs = [];
  for (let i = 0; i < times.length; i += 1) {
    if (i === 0 || times[i] - times[i - 1] > interval * GAP_INTERVALS) runs.push([i, i]);
    else runs.at(-1)[1] = i;
  }
  return runs;
}

class LineChart extends Emitter {
  times = [];
  values = [];
  #canvas;
  /** A value with its unit, in words. */
  #say;
  /** The least difference that a value can show. */
  #least;
  /** The time of the point that is read. */
  #chosen = null;
  /** Where the last draw put each point. */
  #xs = [];
  #pixels = { width: 0, height: 0 };
  #queued = false;

  constructor(canvas, say, least) {
    super();
    this.#canvas = canvas;
    this.#say = say;
    this.#least = least;
    this.#followSize();
    this.#followReader();
  }

  push(time, value) {
    // Times ascend, also where the server's clock was set back.
    while (this.times.at(-1) >= time) {
      this.times.pop();
      this.values.pop();
    }
    this.times.push(time);
    this.values.push(value);
    if (this.times.length > CHART_POINTS) {
      this.times.shift();
      this.values.shift();
    }
    if (this.#chosen !== null) this.#choose(this.times.indexOf(this.#chosen));
    this.redraw();
  }

  redraw() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      this.#draw();
      this.emit('draw');
    });
  }

  /** The backing store is as many pixels as the screen gives the canvas, at any zoom. */
  #followSize() {
    const observer = new ResizeObserver(([{ contentRect, devicePixelContentBoxSize: [exact] = [] }]) => {
      const width = contentRect.width * devicePixelRatio;
      const height = contentRect.height * devicePixelRatio;
      // Where developer tools imitate another screen, the exact size is still that of the real one.
      const fits = exact && Math.abs(exact.inlineSize - width) < 1;
      this.#pixels = fits ? { width: exact.inlineSize, height: exact.blockSize } : { width: Math.round(width), height: Math.round(height) };
      this.redraw();
    });
    try {
      observer.observe(this.#canvas, { box: 'device-pixel-content-box' });
    } catch {
      observer.observe(this.#canvas);
    }
  }

  #followReader() {
    const canvas = this.#canvas;
    canvas.tabIndex = 0;
    canvas.setAttribute('role', 'slider');
    canvas.setAttribute('aria-valuemin', 0);
    this.#choose(-1);
    const nearest = ({ offsetX }) => {
      const distances = this.#xs.map((x) => Math.abs(x - offsetX));
      this.#choose(distances.indexOf(Math.min(...distances)));
    };
    onLanguageChange(() => this.#choose(this.times.indexOf(this.#chosen)));
    canvas.addEventListener('pointermove', nearest);
    canvas.addEventListener('pointerdown', nearest);
    canvas.addEventListener('pointerleave', () => this.#choose(-1));
    canvas.addEventListener('blur', () => this.#choose(-1));
    canvas.addEventListener('keydown', (event) => {
      const last = this.times.length - 1;
      const at = this.#chosen === null ? last + 1 : this.times.indexOf(this.#chosen);
      const to = { ArrowLeft: Math.max(0, at - 1), ArrowRight: Math.min(last, at + 1), Home: 0, End: last, Escape: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.#choose(to);
    });
  }

  #choose(index) {
    this.#chosen = this.times[index] ?? null;
    const said = this.#chosen === null ? t('dashboard.unread') : `${clockTime(this.#chosen)}: ${this.#say(this.values[index])}`;
    this.#canvas.setAttribute('aria-valuemax', this.times.length);
    this.#canvas.setAttribute('aria-valuenow', this.#chosen === null ? 0 : index + 1);
    this.#canvas.setAttribute('aria-valuetext', said);
    this.redraw();
  }

  #draw() {
    const canvas = this.#canvas;
    const { width, height } = this.#pixels;
    if (width === 0 || height === 0) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });

    const ratio = width / canvas.clientWidth;
    const context = canvas.getContext('2d');
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (this.values.length === 0) return;

    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    context.font = `11px ${style.fontFamily}`;
    const plot = this.#layOut(context, canvas.clientWidth, canvas.clientHeight);
    drawGrid(context, plot, colour);
    drawTimes(context, plot, colour);
    this.#drawLine(context, plot, colour);
    if (this.#chosen !== null) this.#drawReading(context, plot, colour);
  }

  /** Where things go: the area inside the axes, the scale of the values, and both as functions to pixels. */
  #layOut(context, width, height) {
    const scale = niceScale(Math.min(...this.values), Math.max(...this.values), VALUE_TICKS, this.#least);
    const compact = new Intl.NumberFormat('en', { notation: 'compact' });
    const label = (value) => (scale.to >= COMPACT_FROM ? compact.format(value) : value.toFixed(scale.digits));
    const widest = Math.max(context.measureText(label(scale.from)).width, context.measureText(label(scale.to)).width);
    const area = { left: Math.ceil(widest) + 8, right: width - 6, top: 8, bottom: height - 22 };

    const interval = usualInterval(this.times);
    const latest = this.times.at(-1);
    const span = interval * (CHART_POINTS - 1);
    const x = (time) => area.right - ((latest - time) / span) * (area.right - area.left);
    const y = (value) => area.bottom - ((value - scale.from) / (scale.to - scale.from)) * (area.bottom - area.top);
    const ticks = niceTimes(latest - span, latest, (area.right - area.left) / TIME_LABEL_PX);
    this.#xs = this.times.map(x);
    return { area, scale, label, interval, ticks, x, y };
  }

  #drawLine(context, { area, interval, y }, colour) {
    context.save();
    context.beginPath();
    context.rect(area.left, 0, area.right - area.left + 6, area.bottom);
    context.clip();
    context.strokeStyle = colour('--series');
    context.fillStyle = colour('--series');
    context.lineWidth = 2;
    context.lineJoin = 'round';
    for (const [from, to] of unbroken(this.times, interval)) {
      const line = new Path2D();
      for (let i = from; i <= to; i += 1) line.lineTo(this.#xs[i], y(this.values[i]));
      const under = new Path2D(line);
      under.lineTo(this.#xs[to], area.bottom);
      under.lineTo(this.#xs[from], area.bottom);
      context.globalAlpha = 0.14;
      context.fill(under);
      context.globalAlpha = 1;
      context.stroke(line);
      // A value between two gaps has no line to be seen by.
      if (from === to) drawDot(context, this.#xs[from], y(this.values[from]), 1.5);
    }
    drawDot(context, this.#xs.at(-1), y(this.values.at(-1)), 3.5);
    context.restore();
  }

  #drawReading(context, { area, y }, colour) {
    const index = this.times.indexOf(this.#chosen);
    const x = this.#xs[index];
    context.strokeStyle = colour('--muted');
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, area.top);
    context.lineTo(Math.round(x) + 0.5, area.bottom);
    context.stroke();
    context.fillStyle = colour('--series');
    drawDot(context, x, y(this.values[index]), 4.5);

    const text = `${clockTime(this.#chosen)}  ${this.#say(this.values[index])}`;
    context.font = context.font.replace('11px', '600 12px');
    const width = context.measureText(text).width + 16;
    const left = Math.max(area.left, Math.min(x - width / 2, area.right - width));
    // Out of the way of the point: above it, or below where it is high up.
    const top = y(this.values[index]) > area.top + 40 ? area.top - 6 : area.bottom - 26;
    context.fillStyle = colour('--text');
    context.beginPath();
    context.roundRect(left, top, width, 24, 6);
    context.fill();
    context.fillStyle = colour('--surface');
    context.textAlign = 'left';
    context.textBaseline = 'middle';
    context.fillText(text, left + 8, top + 12.5);
  }
}

function drawDot(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function drawGrid(context, { area, scale, label, y }, colour) {
  context.strokeStyle = colour('--grid');
  context.fillStyle = colour('--muted');
  context.lineWidth = 1;
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  const steps = Math.round((scale.to - scale.from) / scale.step);
  for (let i = 0; i <= steps; i += 1) {
    const value = scale.from + i * scale.step;
    const at = Math.round(y(value)) + 0.5;
    context.beginPath();
    context.moveTo(area.left, at);
    context.lineTo(area.right, at);
    context.stroke();
    context.fillText(label(value), area.left - 8, at);
  }
}

function drawTimes(context, { area, ticks, x }, colour) {
  context.strokeStyle = colour('--grid');
  context.textAlign = 'center';
  context.textBaseline = 'alphabetic';
  for (const time of ticks) {
    const at = Math.round(x(time)) + 0.5;
    context.beginPath();
    context.moveTo(at, area.bottom);
    context.lineTo(at, area.bottom + 4);
    context.stroke();
    const half = context.measureText(clockTime(time)).width / 2;
    if (at - half >= 0 && at + half <= area.right + 6) context.fillText(clockTime(time), at, area.bottom + 17);
  }
}
