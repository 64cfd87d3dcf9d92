'use strict';

/*
 * The wire view: what crosses the wire, as it crosses, beside a card of theory for each of the guide's first
 * three sections. Frames are kept from the start, so that the handshake is there when the panel is opened; they are
 * drawn only while it is, once an animation frame.
 */

const MAX_FRAMES = 200;
const PREVIEW_CHARS = 140;
const READY_STATES = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'];
const FRAME_FILTERS = ['all', 'in', 'out', 'text', 'binary', 'close'];
/** RFC 6455 §7.4.1, as far as a reader of this lab may meet them. */
const CLOSE_CODES = {
  1000: 'Normal Closure', 1001: 'Going Away', 1002: 'Protocol Error', 1005: 'No Status Received', 1006: 'Abnormal Closure',
  1007: 'Invalid Payload', 1008: 'Policy Violation', 1009: 'Message Too Big', 1011: 'Internal Error', 1012: 'Service Restart',
  1013: 'Try Again Later',
};

class WireView {
  #connection;
  #panel = byId('wire');
  #toggle = byId('wire-toggle');
  #readyState = element('code', 'ready-state');
  #list = element('ol', 'frames');
  #pause = button('wire.pause', 'link-button', () => this.#setPaused(!this.#paused));
  #filter = element('select');
  #frames = [];
  /** How many frames have come in all, and how many of them have been looked at for the list. */
  #count = 0;
  #drawn = 0;
  #paused = false;
  #queued = false;

  constructor(connection, theory) {
    this.#connection = connection;
    this.#build(theory);
    this.#toggle.addEventListener('click', () => this.#setOpen(this.#panel.hidden));
    connection.on('frame', (frame) => this.#keep(frame));
    connection.on('state', () => this.#redraw());
    onLanguageChange(() => {
      this.#rebuild();
      this.#setPaused(this.#paused);
    });
  }

  #build(theory) {
    const head = element('div', 'wire-head');
    head.append(named('h2', 'wire.heading'), this.#readyState, button('wire.close', 'link-button', () => this.#setOpen(false)));

    for (const name of FRAME_FILTERS) {
      const option = hasText(`wire.filter.${name}`) ? named('option', `wire.filter.${name}`) : element('option', '', name);
      option.value = name;
      this.#filter.append(option);
    }
    this.#filter.id = 'wire-filter';
    this.#filter.dataset.tAriaLabel = 'wire.filter';
    this.#filter.addEventListener('change', () => this.#rebuild());
    this.#pause.id = 'wire-pause';
    const tools = element('div', 'wire-tools');
    tools.append(this.#filter, this.#pause, button('wire.clear', 'link-button', () => this.#clear()));

    this.#list.tabIndex = 0;
    this.#list.dataset.tAriaLabel = 'wire.frames';
    this.#panel.append(head, tools, this.#list, ...theory);
  }

  #setOpen(open) {
    this.#panel.hidden = !open;
    this.#toggle.setAttribute('aria-expanded', open);
    document.body.classList.toggle('wire-open', open);
    if (!open) {
      this.#toggle.focus();
      return;
    }
    this.#redraw();
    this.#panel.focus({ preventScroll: true });
    this.#panel.scrollIntoView({ block: 'nearest' });
  }

  #setPaused(paused) {
    this.#paused = paused;
    this.#pause.dataset.t = paused ? 'wire.resume' : 'wire.pause';
    this.#pause.textContent = t(this.#pause.dataset.t);
    this.#pause.setAttribute('aria-pressed', paused);
    this.#redraw();
  }

  #clear() {
    this.#frames = [];
    this.#rebuild();
  }

  #keep(frame) {
    this.#frames.push(frame);
    this.#count += 1;
    if (this.#frames.length > MAX_FRAMES) this.#frames.shift();
    this.#redraw();
  }

  #rebuild() {
    this.#list.replaceChildren();
    this.#drawn = this.#count - this.#frames.length;
    this.#redraw();
  }

  #redraw() {
    if (this.#queued || this.#panel.hidden) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      const { readyState } = this.#connection;
      this.#readyState.textContent = `readyState ${readyState} ${READY_STATES[readyState]}`;
      if (!this.#paused) this.#drawNew();
    });
  }

  /** The newest on top, where it is seen without scrolling. */
  #drawNew() {
    const kept = this.#frames.length;
    const fresh = Math.min(this.#count - this.#drawn, kept);
    this.#drawn = this.#count;
    const wanted = this.#filter.value;
    const rows = this.#frames.slice(kept - fresh)
      .filter(({ direction, type }) => wanted === 'all' || wanted === direction || wanted === type)
      .map(drawFrame);
    this.#list.prepend(...rows.reverse());
    while (this.#list.childElementCount > MAX_FRAMES) this.#list.lastElementChild.remove();
  }
}

/** A row that opens to the whole frame; the whole is made only when it is asked for. */
function drawFrame(frame) {
  const row = element('li', `frame ${frame.direction} ${frame.type}`);
  const details = element('details');
  const summary = element('summary');
  const size = frameSize(frame);
  summary.append(
    element('time', 'frame-time', `${clockTime(frame.at)}.${String(frame.at % 1000).padStart(3, '0')}`),
    element('span', 'frame-direction', frame.direction === 'in' ? '←' : '→'),
    element('span', 'frame-type', frame.type),
    element('span', 'frame-size', size === null ? '' : `${size} B`),
    element('span', 'frame-preview'),
  );
  summary.lastChild.append(...legible(frameText(frame, PREVIEW_CHARS).slice(0, PREVIEW_CHARS)));
  summary.children[1].setAttribute('role', 'img');
  summary.children[1].setAttribute('aria-label', t(`wire.filter.${frame.direction}`));
  details.append(summary);
  details.addEventListener('toggle', () => {
    if (details.childElementCount > 1) return;
    const whole = element('pre');
    whole.append(...legible(prettyJson(frameText(frame))));
    details.append(whole);
  });
  row.append(details);
  return row;
}

function frameSize({ type, data, reason }) {
  if (type === 'text') return new TextEncoder().encode(data).length;
  if (type === 'binary') return data.byteLength;
  // A close frame's payload is a code of two bytes and the reason.
  return type === 'close' ? 2 + new TextEncoder().encode(reason).length : null;
}

/** The whole of it, or of binary data the first `limit` bytes. */
function frameText({ type, direction, data, code, reason, url, extensions }, limit) {
  switch (type) {
    case 'text': return data;
    case 'binary': return Array.from(new Uint8Array(data.slice(0, limit)), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    case 'close': return [code, CLOSE_CODES[code], reason].filter(Boolean).join(' · ');
    case 'handshake': return direction === 'out' ? `GET ${new URL(url).pathname}` : ['101 Switching Protocols', extensions].filter(Boolean).join(' · ');
    case 'silence': return t('wire.silence');
  }
}

/**
 * `text` as nodes that read in the order of the wire: each JSON string by itself, so that right-to-left ones do not
 * change places, and what would turn the text shown by its number, as JSON may write it.
 */
function legible(text) {
  return text.replace(/\p{Bidi_Control}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .split(/("[^"\\]*(?:\\[^][^"\\]*)*"?)/)
    .map((part, i) => (i % 2 ? element('bdi', '', part) : part));
}

function prettyJson(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** The panel for `connection`; `example()` is a message that its endpoint takes. */
function showWire(connection, example) {
  new WireView(connection, theoryCards(connection, example));
  translatePage();
}
