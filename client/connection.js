'use strict';

/*
 * One WebSocket that comes back: the state machine both pages share.
 *
 * A connection is `open` from the server's first message on, not from the handshake: every server of this
 * protocol greets, and what does not greet (a development server that takes any upgrade) is not one.
 *
 * Events: `state` when the phase changes, `message` with a parsed message in `detail`, and `frame` with
 * everything that crosses the wire, as it crosses.
 */

const BACKOFF_MS = [1000, 2000, 4000, 8000, 16000];
/** A delay is shortened by up to this part, so that the clients of a restarted server do not return as one. */
const JITTER = 0.2;

const CLOSE_PROTOCOL_ERROR = 1002;
const CLOSE_POLICY = 1008;

const DEFAULT_SERVER = 'ws://localhost:8765';

/**
 * Where to look for the server: the one named by ?server=, else the one the page came from. A page from a
 * development server (say Live Server, as the lab's guide has it) finds the lab's server at its usual place.
 */
function serverAddresses(page) {
  const named = new URLSearchParams(page.search).get('server');
  if (named) return [named.replace(/\/+$/, '')];
  if (!page.protocol.startsWith('http')) return [DEFAULT_SERVER];
  const own = `${page.protocol === 'https:' ? 'wss' : 'ws'}://${page.host}`;
  const local = ['localhost', '127.0.0.1', '[::1]'].includes(page.hostname);
  return local && page.port !== '8765' ? [own, DEFAULT_SERVER] : [own];
}

class Connection extends EventTarget {
  state = { phase: 'idle' };
  #path;
  #query;
  #addresses = serverAddresses(location);
  /** Whether the first of #addresses is known to be the lab's server. */
  #greeted = false;
  /** The Python original knows no query: it takes the upgrade and closes. Then the same is asked without. */
  #queryRefused = false;
  #socket = null;
  #failures = 0;
  #timer = null;

  /** `query()` gives what to ask for at each connect, such as `since=…`; an empty string for nothing. */
  constructor(path, query = () => '') {
    super();
    this.#path = path;
    this.#query = query;
  }

  start() {
    addEventListener('online', () => this.#wake());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.#wake();
    });
    this.#connect();
  }

  /** Sends `message` as JSON; false where there is no open connection to send it on. */
  send(message) {
    if (this.state.phase !== 'open' || this.#socket.readyState !== WebSocket.OPEN) return false;
    const data = JSON.stringify(message);
    this.#socket.send(data);
    this.#emit('frame', { direction: 'out', type: 'text', data });
    return true;
  }

  /** The reader's own wish: at once, and with all attempts anew. */
  retry() {
    this.#failures = 0;
    this.#connect();
  }

  /** The network or the reader is back: no reason to sit out a delay. */
  #wake() {
    if (this.state.phase === 'waiting') this.#connect();
    if (this.state.phase === 'failed') this.retry();
  }

  #connect() {
    clearTimeout(this.#timer);
    const query = this.#queryRefused ? '' : this.#query();
    const url = this.#addresses[0] + this.#path + (query && `?${query}`);
    let socket;
    try {
      socket = new WebSocket(url);
    } catch {
      this.#enter({ phase: 'bad-server', url });
      return;
    }
    this.#socket = socket;
    this.#enter({ phase: 'connecting', url });
    socket.addEventListener('message', (event) => {
      if (socket === this.#socket) this.#received(event.data);
    });
    socket.addEventListener('close', (event) => {
      if (socket === this.#socket) this.#closed(event, query);
    });
  }

  #received(data) {
    this.#emit('frame', { direction: 'in', type: typeof data === 'string' ? 'text' : 'binary', data });
    const message = parseMessage(data);
    if (!message) {
      if (this.state.phase === 'connecting') this.#socket.close();
      return;
    }
    if (this.state.phase === 'connecting') {
      this.#greeted = true;
      this.#failures = 0;
      if (message.code) this.#queryRefused = false;
      this.#enter({ phase: 'open' });
    }
    this.#emit('message', message);
  }

  #closed({ code, reason }, query) {
    const lost = this.state.phase === 'open';
    this.#emit('frame', { direction: 'in', type: 'close', code, reason });
    if (!lost && code === CLOSE_PROTOCOL_ERROR && query) {
      this.#queryRefused = true;
      this.#connect();
      return;
    }
    if (code === CLOSE_POLICY) {
      this.#enter({ phase: 'refused', reason });
      return;
    }
    if (!this.#greeted) this.#addresses.push(this.#addresses.shift());
    this.#wait(lost);
  }

  #wait(lost) {
    if (this.#failures === BACKOFF_MS.length) {
      this.#enter({ phase: 'failed' });
      return;
    }
    const delay = BACKOFF_MS[this.#failures] * (1 - JITTER * Math.random());
    this.#failures += 1;
    const since = Date.now();
    const until = since + delay;
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#enter({ phase: 'waiting', lost, since, until, attempt: this.#failures, attempts: BACKOFF_MS.length });
  }

  #enter(state) {
    this.state = state;
    this.#emit('state', state);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** A message of the protocol is a JSON object with a type; anything else is null. */
function parseMessage(data) {
  try {
    const message = JSON.parse(data);
    return typeof message?.type === 'string' ? message : null;
  } catch {
    return null;
  }
}
