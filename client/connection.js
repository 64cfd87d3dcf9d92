'use strict';

/*
 * One WebSocket that comes back: the state machine all pages share.
 *
 * A connection is `open` from the server's first message on, not from the handshake: every server of this
 * protocol greets, and what does not greet (a development server that takes any upgrade) is not one.
 *
 * Events: `state`, `message` with a parsed message, and `frame` with all that crosses the wire, as it crosses.
 */

const BACKOFF_MS = [1000, 2000, 4000, 8000, 16000];
/** A delay is shortened by up to this part. */
const JITTER = 0.12;
/** How long a server may take from the request to its greeting. */
const GREETING_LIMIT_MS = 10_000;
/** How long a link may be silent beyond the server's ping interval, and an answer take. */
const LINK_SLACK_MS = 5000;
const PING_INTERVAL_LIMIT_MS = 600_000;
/** A connection has succeeded once it lasted this long, not once it was greeted. */
const LASTED_MS = BACKOFF_MS.at(-1);
const RESTART_LIMIT_MS = 600_000;
/** What a Date can show. */
const TS_LIMIT = 8.64e15;

const CLOSE_PROTOCOL_ERROR = 1002;
const CLOSE_POLICY = 1008;

const DEFAULT_SERVER = 'ws://localhost:8765';

/**
 * Where to look for the server: the one named by ?server=, else the one the page came from, under the same path. A
 * page from a development server (say Live Server, as the lab's guide has it) finds the lab's server at its usual
 * place. Whatever ?server= names and is no address stays as it is, to be shown.
 */
function serverAddresses(page) {
  const named = new URLSearchParams(page.search).get('server');
  if (named) return [URL.canParse(named) ? socketAddress(named) : named];
  if (!page.protocol.startsWith('http')) return [DEFAULT_SERVER];
  const own = socketAddress(new URL('.', page.href));
  const local = ['localhost', '127.0.0.1', '[::1]'].includes(page.hostname);
  return local && page.port !== '8765' ? [own, DEFAULT_SERVER] : [own];
}

/** `ws://host/path` for an address of HTTP too; without slashes at its end, query and fragment. */
function socketAddress(address) {
  const url = new URL(address);
  url.search = url.hash = '';
  // A run of slashes is tried from its start only: the time is linear.
  return url.href.replace(/^http/, 'ws').replace(/(?<!\/)\/+$/, '');
}

class Connection extends Emitter {
  state = { phase: 'idle' };
  #path;
  #query;
  #addresses = serverAddresses(location);
  #greeted = false;
  /** The Python original knows no query: it takes the upgrade and closes. Then the same is asked without. */
  #queryRefused = false;
  #socket = null;
  #failures = 0;
  /** Until then a restarting server may be away, and no failure counts. */
  #restartUntil = 0;
  #timer = null;
  /** The longest silence that needs no question; null with a server that answers no ping of a page. */
  #silenceLimit = null;
  #heardAt = 0;
  #openedAt = 0;

  /** `query()` gives what to ask for at each connect, such as `since=…`. */
  constructor(path, query = () => '') {
    super();
    this.#path = path;
    this.#query = query;
  }

  start() {
    addEventListener('online', () => this.#wake());
    addEventListener('pageshow', ({ persisted }) => {
      if (persisted) this.#wake();
    });
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#wake();
    });
    this.#connect();
  }

  /** As the browser has it: 0 connecting, 1 open, 2 closing, 3 closed. */
  get readyState() {
    return this.#socket?.readyState ?? WebSocket.CLOSED;
  }

  /** Sends `message` as JSON; false where there is no open connection to send it on. */
  send(message) {
    return this.sendData(JSON.stringify(message));
  }

  sendData(data) {
    if (this.state.phase !== 'open' || this.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(data);
    this.#emitFrame('out', typeof data === 'string' ? 'text' : 'binary', { data });
    return true;
  }

  /** Closes with 1000 or 3000 to 4999. */
  close(code, reason) {
    if (this.readyState !== WebSocket.OPEN) return;
    this.#socket.close(code, reason);
    this.#emitFrame('out', 'close', { code, reason });
  }

  retry() {
    this.#failures = 0;
    this.#connect();
  }

  /** The network or the reader is back: no reason to sit out a delay, or to trust a link that slept. */
  #wake() {
    if (this.state.phase === 'waiting') this.#connect();
    if (this.state.phase === 'failed') this.retry();
    if (this.state.phase === 'open' && this.#silenceLimit !== null) this.#ask();
  }

  #connect() {
    const query = this.#queryRefused ? '' : this.#query();
    const url = this.#addresses[0] + this.#path + (query && `?${query}`);
    let socket;
    try {
      // A browser may take other schemes, and what is no address for a path of the page's own site.
      if (!/^wss?:$/.test(new URL(this.#addresses[0]).protocol)) throw new SyntaxError();
      socket = new WebSocket(url);
    } catch ({ name }) {
      this.#enter({ phase: name === 'SecurityError' ? 'insecure' : 'bad-server', url: this.#addresses[0] });
      return;
    }
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    this.#setTimer(GREETING_LIMIT_MS, () => this.#abandon());
    this.#enter({ phase: 'connecting', url });
    this.#emitFrame('out', 'handshake', { url });
    const whileCurrent = (handle) => (event) => {
      if (socket === this.#socket) handle(event);
    };
    socket.addEventListener('open', whileCurrent(() => this.#emitFrame('in', 'handshake', { url, extensions: socket.extensions })));
    socket.addEventListener('message', whileCurrent(({ data }) => this.#received(data)));
    socket.addEventListener('close', whileCurrent((event) => this.#closed(event, query)));
  }

  #received(data) {
    this.#heardAt = performance.now();
    this.#emitFrame('in', typeof data === 'string' ? 'text' : 'binary', { data });
    const message = parseMessage(data);
    if (!message) {
      if (this.state.phase === 'connecting') this.#socket.close();
      return;
    }
    if (this.state.phase === 'connecting') this.#greetedBy(message);
    const { code, retry_after_ms: away } = message;
    if (code === 'restart' && away > 0) this.#restartUntil = this.#heardAt + Math.min(away, RESTART_LIMIT_MS);
    this.emit('message', message);
  }

  #greetedBy(welcome) {
    this.#greeted = true;
    this.#openedAt = performance.now();
    if (welcome.code) this.#queryRefused = false;
    clearTimeout(this.#timer);
    const { ping_interval_ms: interval } = welcome;
    const pings = Number.isFinite(interval) && interval > 0;
    this.#silenceLimit = pings ? Math.min(interval, PING_INTERVAL_LIMIT_MS) + LINK_SLACK_MS : null;
    if (pings) this.#setTimer(this.#silenceLimit, () => this.#checkLink());
    this.#enter({ phase: 'open', url: this.state.url, server: welcome.server });
  }

  /**
   * A browser keeps the server's Pings to itself, so to a page a quiet link looks like a dead one. After a
   * silence the page asks; a link with no frame at all by the end of the slack is dead. A page that slept through
   * the slack has not listened: it asks once more.
   */
  #checkLink() {
    const silence = performance.now() - this.#heardAt;
    if (silence >= this.#silenceLimit) this.#ask();
    else this.#setTimer(this.#silenceLimit - silence, () => this.#checkLink());
  }

  #ask({ again = false } = {}) {
    const askedAt = performance.now();
    this.send({ type: 'ping' });
    this.#setTimer(LINK_SLACK_MS, () => {
      if (this.#heardAt >= askedAt) this.#checkLink();
      else if (!again && performance.now() - askedAt > 2 * LINK_SLACK_MS) this.#ask({ again: true });
      else this.#abandon();
    });
  }

  /** Without waiting for a close handshake. */
  #abandon() {
    const socket = this.#socket;
    this.#socket = null;
    socket.close();
    this.#emitFrame('in', 'silence');
    this.#wait();
  }

  #closed({ code, reason }, query) {
    this.#heardAt = performance.now();
    this.#emitFrame('in', 'close', { code, reason });
    if (this.state.phase !== 'open' && code === CLOSE_PROTOCOL_ERROR && query) {
      this.#queryRefused = true;
      this.#connect();
    } else if (code === CLOSE_POLICY) {
      clearTimeout(this.#timer);
      this.#enter({ phase: 'refused', reason });
    } else {
      this.#wait();
    }
  }

  #wait() {
    if (!this.#greeted) this.#addresses.push(this.#addresses.shift());
    const lost = this.state.phase === 'open';
    const since = performance.now();
    if (lost && this.#heardAt - this.#openedAt >= LASTED_MS) this.#failures = 0;
    if (this.#failures === BACKOFF_MS.length) {
      clearTimeout(this.#timer);
      this.#enter({ phase: 'failed', lost });
      return;
    }
    const away = this.#restartUntil - since;
    const restarts = away > BACKOFF_MS[0];
    if (restarts) this.#failures = 0;
    const delay = restarts ? away * Math.random() : BACKOFF_MS[this.#failures] * (1 - JITTER * Math.random());
    this.#failures += 1;
    this.#setTimer(delay, () => this.#connect());
    this.#enter({ phase: 'waiting', lost, since, until: since + delay, attempt: this.#failures, attempts: BACKOFF_MS.length });
  }

  #setTimer(delay, act) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, delay);
  }

  #enter(state) {
    this.state = state;
    this.emit('state', state);
  }

  #emitFrame(direction, type, detail) {
    this.emit('frame', { at: Date.now(), direction, type, ...detail });
  }
}

/**
 * A message of the protocol is a JSON object with a type, whose names are strings and whose time can be shown;
 * anything else is null.
 */
function parseMessage(data) {
  try {
    const message = JSON.parse(data);
    if (typeof message?.type !== 'string') return null;
    for (const name of ['code', 'server']) if (typeof message[name] !== 'string') delete message[name];
    if (!Number.isFinite(message.ts) || Math.abs(message.ts) > TS_LIMIT) message.ts = Date.now();
    return message;
  } catch {
    return null;
  }
}
