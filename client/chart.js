'use strict';

/*
 * A line chart of the last 60 values of one metric, on a canvas.
 *
 * Time runs along x, so a pause in the data is a gap in the line and not a bridge over it. New data and new
 * sizes only ask for a draw; it happens once, in the next animation frame, and so not at all in a hidden tab.
 */

const CHART_POINTS = 60;
/** A silence of more than this many usual intervals is a gap. */
const GAP_INTERVALS = 1.8;
const TICKS = 4;

/** Round numbers that take in `low` to `high` in about `count` steps: 1, 2 or 5 times a power of ten. */
function niceScale(low, high, count) {
  const span = high - low || Math.abs(high) * 0.1 || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const from = Math.floor(low / step) * step;
  const to = Math.max(Math.ceil(high / step) * step, from + step);
  return { from, to, step, digits: Math.max(0, -Math.floor(Math.log10(step))) };
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

class LineChart {
  times = [];
  values = [];
  #canvas;
  #pixels = { width: 0, height: 0 };
  #queued = false;

  constructor(canvas) {
    this.#canvas = canvas;
    this.#followSize();
  }

  push(time, value) {
    this.times.push(time);
    this.values.push(value);
    if (this.times.length > CHART_POINTS) {
      this.times.shift();
      this.values.shift();
    }
    this.redraw();
  }

  redraw() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      this.#draw();
    });
  }

  /** The backing store is as many pixels as the screen gives the canvas, at any zoom. */
  #followSize() {
    const observer = new ResizeObserver(([{ contentRect, devicePixelContentBoxSize: box }]) => {
      this.#pixels = box
        ? { width: box[0].inlineSize, height: box[0].blockSize }
        : { width: Math.round(contentRect.width * devicePixelRatio), height: Math.round(contentRect.height * devicePixelRatio) };
      this.redraw();
    });
    try {
      observer.observe(this.#canvas, { box: 'device-pixel-content-box' });
    } catch {
      observer.observe(this.#canvas);
    }
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
    const scale = niceScale(Math.min(...this.values), Math.max(...this.values), TICKS);
    const label = (value) => value.toFixed(scale.digits);
    const gutter = Math.ceil(Math.max(context.measureText(label(scale.from)).width, context.measureText(label(scale.to)).width)) + 8;
    const area = { left: gutter, right: canvas.clientWidth - 6, top: 8, bottom: canvas.clientHeight - 8 };

    this.#drawGrid(context, area, scale, label, colour);
    this.#drawLine(context, area, scale, colour);
  }

  #drawGrid(context, area, scale, label, colour) {
    context.strokeStyle = colour('--grid');
    context.fillStyle = colour('--muted');
    context.lineWidth = 1;
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    const steps = Math.round((scale.to - scale.from) / scale.step);
    for (let i = 0; i <= steps; i += 1) {
      const y = Math.round(area.bottom - (i / steps) * (area.bottom - area.top)) + 0.5;
      context.beginPath();
      context.moveTo(area.left, y);
      context.lineTo(area.right, y);
      context.stroke();
      context.fillText(label(scale.from + i * scale.step), area.left - 8, y);
    }
  }

  #drawLine(context, area, scale, colour) {
    const interval = usualInterval(this.times);
    const latest = this.times.at(-1);
    const perPoint = (area.right - area.left) / (CHART_POINTS - 1);
    const x = (i) => area.right - ((latest - this.times[i]) / interval) * perPoint;
    const y = (i) => area.bottom - ((this.values[i] - scale.from) / (scale.to - scale.from)) * (area.bottom - area.top);

    context.save();
    context.beginPath();
    context.rect(area.left, 0, area.right - area.left + 6, area.bottom + 8);
    context.clip();
    context.strokeStyle = colour('--series');
    context.lineWidth = 2;
    context.lineJoin = 'round';
    for (const [from, to] of unbroken(this.times, interval)) {
      const line = new Path2D();
      for (let i = from; i <= to; i += 1) line.lineTo(x(i), y(i));
      const under = new Path2D(line);
      under.lineTo(x(to), area.bottom);
      under.lineTo(x(from), area.bottom);
      context.globalAlpha = 0.14;
      context.fillStyle = colour('--series');
      context.fill(under);
      context.globalAlpha = 1;
      context.stroke(line);
    }
    context.beginPath();
    context.arc(x(this.times.length - 1), y(this.values.length - 1), 3.5, 0, 2 * Math.PI);
    context.fill();
    context.restore();
  }
}
