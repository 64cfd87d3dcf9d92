'use strict';

/*
 * The pictures of the inside page. Each is drawn, at most once an animation frame, from what it is given to show. Times
 * are in tenths of a microsecond, as the server counts them.
 */

const TICKS_PER_MS = 10_000;
const STAGES = ['wait', 'read', 'accept', 'timers', 'fan-out', 'flush', 'reap'];
/** By the number that stands for each on the wire; 0 is a place without a thread. */
const STATES = ['absent', 'asleep', 'reading', 'waiting', 'holding', 'sending', 'slow'];
const OUTBOX_CLASSES = ['0', '1K', '4K', '16K', '64K', '256K', '1M', '∞'];
/** Columns of what changes from view to view, and rows of the time axis of threads. */
const COLUMNS = 120;
const ROWS_MAX = 14;
const SPAN_MIN = TICKS_PER_MS / 5;
const SPAN_MAX = 60_000 * TICKS_PER_MS;
const CIRCLE = 2 * Math.PI;

/** A length for people: 800 ns, 12.3 µs, 4.56 ms, 1.20 s. */
function lengthText(ticks) {
  if (ticks < 10) return `${Math.round(ticks * 100)} ns`;
  const [unit, in_one] = [['µs', 10], ['ms', 10_000], ['s', 10_000_000]].findLast(([, ticks_in_one]) => ticks >= ticks_in_one);
  const value = ticks / in_one;
  return `${value >= 100 ? value.toFixed() : value.toPrecision(3)} ${unit}`;
}

function bytesText(bytes) {
  return bytes < 1024 ? `${bytes} B` : bytes < 1 << 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}

function shareText(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const busyOf = ({ row }) => sum(row.slice(2, 8));

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
}

/** Colours as the style sheet has them, by the class of an element that wears it. */
const inks = new Map();

function ink(name) {
  if (!inks.has(name)) {
    const probe = element('i', `ink ${name}`);
    document.body.append(probe);
    inks.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return inks.get(name);
}

class Picture {
  static all = [];
  #queued = false;

  constructor(id) {
    this.canvas = byId(id);
    Picture.all.push(this);
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  show(data) {
    this.data = data;
    this.redraw();
  }

  redraw() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      const { canvas } = this;
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      if (!width || !height || !this.data) return;
      Object.assign(canvas, { width: Math.round(width * devicePixelRatio), height: Math.round(height * devicePixelRatio) });
      this.context = canvas.getContext('2d');
      this.context.scale(devicePixelRatio, devicePixelRatio);
      this.font = getComputedStyle(canvas).fontFamily;
      this.paint(this.data, width, height);
    });
  }

  text(words, x, y, align = 'center', colour = 'muted', font = '12px') {
    Object.assign(this.context, { font: `${font} ${this.font}`, textAlign: align, textBaseline: 'middle', fillStyle: ink(colour) });
    this.context.fillText(words, x, y);
  }

  rect(colour, x, y, width, height, alpha = 1) {
    Object.assign(this.context, { fillStyle: ink(colour), globalAlpha: alpha });
    this.context.fillRect(x, y, width, height);
    this.context.globalAlpha = 1;
  }

  frame(x, y, width, height) {
    Object.assign(this.context, { strokeStyle: ink('text'), lineWidth: 1.5 });
    this.context.strokeRect(x - 1.5, y - 1.5, width + 3, height + 3);
  }

  /** A line across at each value of a scale, with its label on the left. */
  scale(labels, left, width) {
    for (const [label, y] of labels) {
      this.text(label, left - 8, y, 'right');
      this.rect('grid', left, Math.round(y), width - left, 1);
    }
  }
}

function repaint() {
  inks.clear();
  Picture.all.forEach((picture) => picture.redraw());
}

for (const event of ['themechange', 'languagechange']) document.addEventListener(event, repaint);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);

/* ---- the time axis ---- */

/** A window on time, whose end is now, or where a replay stands. What it shows is in the order of time. */
class TimeAxis extends Picture {
  span = 3000 * TICKS_PER_MS;
  left = 64;
  data = [];
  chosen = null;

  constructor(id, onread) {
    super(id);
    this.onread = onread;
    const { canvas } = this;
    canvas.addEventListener('wheel', (event) => {
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8);
    }, { passive: false });
    for (const event of ['pointermove', 'pointerdown']) canvas.addEventListener(event, ({ offsetX }) => this.#point(offsetX));
    canvas.addEventListener('pointerleave', () => this.choose(null));
    canvas.addEventListener('keydown', (event) => {
      const zoom = { '+': 0.5, '=': 0.5, '-': 2 }[event.key];
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!zoom && !step && !['End', 'Escape'].includes(event.key)) return;
      event.preventDefault();
      if (zoom) this.zoom(zoom);
      else this.choose(step ? this.#beside(step) : null);
    });
  }

  zoom(factor) {
    this.span = Math.min(SPAN_MAX, Math.max(SPAN_MIN, this.span * factor));
    this.choose(this.chosen);
  }

  choose(item) {
    this.chosen = item;
    this.onread(item);
    this.redraw();
  }

  /** The place of the first that does not end before `time`. */
  at(time) {
    let [low, high] = [0, this.data.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.toOf(this.data[middle]) < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #beside(step) {
    const here = this.chosen ? this.data.indexOf(this.chosen) : this.data.length;
    return this.data[Math.min(this.data.length - 1, Math.max(0, here + step))] ?? null;
  }

  #point(x) {
    const time = this.end - (1 - (x - this.left) / (this.canvas.clientWidth - this.left)) * this.span;
    const index = this.at(time);
    const far = (item) => (item ? Math.max(this.fromOf(item) - time, time - this.toOf(item)) : Infinity);
    const [before, after] = [this.data[index - 1], this.data[index]];
    this.choose((far(before) < far(after) ? before : after) ?? null);
  }

  /** Where an item lies across the picture. */
  across(item, width) {
    const x = (time) => this.left + (1 - (this.end - time) / this.span) * (width - this.left);
    const from = x(this.fromOf(item));
    return [from, Math.max(2, x(this.toOf(item)) - from)];
  }

  paint(items, width, height) {
    const bottom = height - 24;
    const shown = items.slice(this.at(this.end - this.span)).filter((item) => this.fromOf(item) <= this.end);
    const step = niceStep(this.span / Math.max(2, Math.floor((width - this.left) / 110)));
    for (let behind = step; behind <= this.span; behind += step) {
      const x = width - (behind / this.span) * (width - this.left);
      this.rect('grid', Math.round(x), 0, 1, bottom);
      if (x > this.left + 20) this.text(`−${lengthText(behind)}`, x, bottom + 12);
    }
    this.text(t('inside.timeline.now'), width, bottom + 12, 'right');
    if (shown.length) this.paintItems(shown, width, bottom);
    else this.text(t('inside.timeline.none'), width / 2, bottom / 2);
  }
}

/** Turns as bars of their stages: how high is how long they were busy. Below, how many sockets were ready and read. */
class TurnsPicture extends TimeAxis {
  fromOf({ row }) {
    return row[0] + row[1];
  }

  toOf(turn) {
    return this.fromOf(turn) + busyOf(turn);
  }

  paintItems(turns, width, height) {
    const bottom = height - 50;
    const longest = niceStep(Math.max(10, ...turns.map(busyOf)));
    const most = Math.max(1, ...turns.map(({ row }) => Math.max(row[8], row[9])));
    this.scale([0, 0.5, 1].map((part) => [part ? lengthText(part * longest) : '0', bottom - part * (bottom - 8)]), this.left, width);
    this.text(most, this.left - 8, bottom + 44, 'right');
    const high = (count) => (count ? Math.max(1.5, (count / most) * 38) : 0);
    for (const turn of turns) {
      const { row } = turn;
      const [x, wide] = this.across(turn, width);
      let y = bottom;
      for (let stage = 1; stage < STAGES.length; stage += 1) {
        const part = (row[stage + 1] / longest) * (bottom - 8);
        y -= part;
        if (part) this.rect(`stage-${STAGES[stage]}`, x, y, wide, Math.max(0.75, part));
      }
      this.rect('ready', x, bottom + 6, wide, high(row[8]));
      this.rect('served', x, bottom + 6, wide / 2, high(row[9]));
      if (turn === this.chosen) this.frame(x, y, wide, bottom - y);
    }
  }
}

/** What threads waited for and sent, a row for each of those seen last. */
class SpansPicture extends TimeAxis {
  fromOf([start]) {
    return start;
  }

  toOf([start, length]) {
    return start + length;
  }

  paintItems(spans, width, bottom) {
    const rows = [...new Set(spans.map(([, , thread]) => thread).reverse())].slice(0, ROWS_MAX).sort((a, b) => a - b);
    const high = Math.min(26, bottom / rows.length);
    rows.forEach((thread, i) => this.text(thread < 0 ? 'ticker' : `#${thread}`, this.left - 8, (i + 0.5) * high, 'right'));
    for (const span of spans) {
      const row = rows.indexOf(span[2]);
      if (row < 0) continue;
      const [x, wide] = this.across(span, width);
      this.rect(`state-${STATES[span[3]]}`, x, row * high + 2, wide, high - 4);
      if (span === this.chosen) this.frame(x, row * high + 2, wide, high - 4);
    }
  }
}

/* ---- rings ---- */

class Ring extends Picture {
  /** Around the middle: `spokes` of an inner and an outer radius, of 0 to 1, each with its share of the circle. */
  paintRing(width, height, spokes, figure, words, font = '28px') {
    const [x, y, radius] = [width / 2, height / 2, Math.min(width, height) / 2 - 8];
    let part = 0;
    for (const { share, inner, outer, colour, alpha = 1 } of spokes) {
      const gap = spokes.length > 1 ? Math.min(0.02, share) : 0;
      const angles = [part + gap / CIRCLE, part + share - gap / CIRCLE].map((part) => part * CIRCLE - CIRCLE / 4);
      Object.assign(this.context, { fillStyle: ink(colour), globalAlpha: alpha });
      this.context.beginPath();
      this.context.arc(x, y, radius * outer, ...angles);
      this.context.arc(x, y, radius * inner, ...angles.toReversed(), true);
      this.context.fill();
      part += share;
    }
    this.context.globalAlpha = 1;
    this.text(figure, x, y - 6, 'center', 'text', `650 ${font}`);
    this.text(words, x, y + 18);
  }

  /** What points at a part of the circle. */
  paintHand(width, height, part) {
    const angle = part * CIRCLE - CIRCLE / 4;
    const radius = (Math.min(width, height) / 2 - 8) * 0.5;
    this.context.fillStyle = ink('text');
    this.context.beginPath();
    this.context.arc(width / 2 + radius * Math.cos(angle), height / 2 + radius * Math.sin(angle), 5, 0, CIRCLE);
    this.context.fill();
  }
}

/** How the last second was spent, as a ring of stages; while replaying, also where the loop is. */
class LoopPicture extends Ring {
  paint({ spent, at }, width, height) {
    // However short, each stage is to be seen; the rest is shared by how long it took.
    const least = 0.04;
    const total = Math.max(1, sum(spent));
    const spokes = STAGES.map((stage, i) => ({
      share: least + (1 - least * STAGES.length) * (spent[i] / total),
      inner: 0.62, outer: at === i ? 1 : 0.94, colour: `stage-${stage}`, alpha: at === null || at === i ? 1 : 0.35,
    }));
    const figure = at === null ? shareText(1 - spent[0] / total) : t(`inside.stage.${STAGES[at]}`);
    this.paintRing(width, height, spokes, figure, t('inside.loop.busy'), at === null ? '28px' : '18px');
  }
}

/** The members by their places; a long spike is a part that lacks much, the strength of its foot how many are in it. */
class RoomPicture extends Ring {
  paint({ members, next, parts }, width, height) {
    const share = 1 / Math.max(1, parts.length);
    const fullest = Math.max(1, ...parts.map(([count]) => count));
    const most = Math.max(1024, ...parts.map(([, lag]) => lag));
    const feet = parts.map(([count]) => ({ share, inner: 0.6, outer: 0.78, colour: count ? 'accent' : 'grid', alpha: count ? 0.3 + 0.7 * (count / fullest) : 1 }));
    const spikes = parts.map(([, lag]) => ({ share, inner: 0.8, outer: lag ? 0.83 + 0.17 * (lag / most) : 0.8, colour: 'stage-fan-out' }));
    this.paintRing(width, height, [...feet, ...spikes], members, t('inside.figure.members'));
    if (members) this.paintHand(width, height, (next + 0.5) * share);
  }
}

class WheelPicture extends Ring {
  paint({ current, parts }, width, height) {
    const most = Math.max(1, ...parts);
    const spokes = parts.map((timers) => ({
      share: 1 / parts.length, inner: 0.54, outer: timers ? 0.6 + 0.4 * (timers / most) : 0.56, colour: timers ? 'stage-timers' : 'grid',
    }));
    this.paintRing(width, height, spokes, sum(parts), t('inside.stage.timers'));
    this.paintHand(width, height, (current + 0.5) / parts.length);
  }
}

/* ---- the rest ---- */

class OutboxesPicture extends Picture {
  paint(classes, width, height) {
    const bottom = height - 22;
    const wide = width / classes.length;
    // A few slow clients among thousands are what is looked for: the scale is logarithmic.
    const scale = (bottom - 26) / Math.log2(Math.max(1, ...classes) + 1);
    classes.forEach((count, i) => {
      const high = count ? Math.max(4, Math.log2(count + 1) * scale) : 2;
      this.rect(!count ? 'grid' : i === 0 ? 'served' : i < 4 ? 'stage-timers' : 'bad', i * wide + 4, bottom - high, wide - 8, high);
      if (count) this.text(count, (i + 0.5) * wide, bottom - high - 10, 'center', 'text');
      this.text(OUTBOX_CLASSES[i], (i + 0.5) * wide, height - 10, 'center', 'muted', '11px');
    });
  }
}

/** Lengths of turns: a column for each view, a row for each doubling from 1 µs. */
class HeatPicture extends Picture {
  paint(columns, width, height) {
    const [left, high, wide] = [60, (height - 8) / 20, (width - 60) / COLUMNS];
    const bottom = height - 6;
    this.scale([['1 µs', 1], ['32 µs', 6], ['1 ms', 11], ['32 ms', 16]].map(([label, row]) => [label, bottom - row * high]), left, width);
    const most = Math.log2(Math.max(1, ...columns.flat()) + 1);
    columns.forEach((lengths, i) => lengths.forEach((count, row) => {
      const colour = row < 11 ? 'accent' : row < 17 ? 'stage-timers' : 'bad';
      if (count) this.rect(colour, width - (columns.length - i) * wide, bottom - (row + 1) * high, Math.max(1, wide - 0.5), high - 1, 0.25 + 0.75 * Math.log2(count + 1) / most);
    }));
  }
}

/** The longest wait for the lock in each view, up, and the longest hold, down. */
class LockPicture extends Picture {
  paint(columns, width, height) {
    const [left, middle, wide] = [60, height / 2, (width - 60) / COLUMNS];
    const most = niceStep(Math.max(100, ...columns.flat()));
    const high = (ticks) => (ticks ? Math.max(1.5, (ticks / most) * (middle - 10)) : 0);
    this.scale([[lengthText(most), 10], ['0', middle], [lengthText(most), height - 10]], left, width);
    columns.forEach(([wait, hold], i) => {
      const x = width - (columns.length - i) * wide;
      this.rect('state-waiting', x, middle - high(wait), Math.max(1, wide - 0.5), high(wait));
      this.rect('state-holding', x, middle, Math.max(1, wide - 0.5), high(hold));
    });
  }
}

/** Every thread, or where there are thousands every few, in the colour of what it does. */
class GridPicture extends Picture {
  paint(parts, width, height) {
    let columns = Math.max(8, Math.round(Math.sqrt(parts.length * width / height)));
    while (Math.ceil(parts.length / columns) * (width / columns) > height) columns += 1;
    const cell = width / columns;
    parts.forEach((counts, i) => {
      const [x, y] = [(i % columns) * cell, Math.floor(i / columns) * cell];
      // What one of many does is to be seen: the state that is worth most, in the strength of its share.
      const state = [6, 3, 4, 5, 2, 1].find((state) => counts[state]);
      if (!state) this.rect('grid', x + cell / 2 - 1, y + cell / 2 - 1, 2, 2);
      else this.rect(`state-${STATES[state]}`, x + 0.5, y + 0.5, cell - 1, cell - 1, state > 1 ? 0.5 + 0.5 * counts[state] / sum(counts) : 1);
    });
  }
}
