'use strict';

/*
 * What the chat page knows, without a word about how it looks.
 *
 * `entries` is what the room has put in order, `outbox` what is still ours alone, shown below it. A message of
 * ours moves from the outbox to its place in the room when its broadcast comes, so everyone reads one order.
 *
 * With a server that acknowledges, our messages are known by `cid`: its ack names the `id` in the room, and the
 * tab keeps the ids of ours over a reload. The Python original does not: there a broadcast with our name and text
 * is taken for our oldest pending message, and so is an error, since it answers in order.
 *
 * What the wire and the tab's storage bring may be anything: here it is checked, once.
 *
 * Events: `place` { entry, before, old } for what is new or has moved (`old`: said before this page was opened),
 * `change`, `remove` and `resend` { entry }, `refuse` { error, entry } with the entry where it is known.
 */

const MAX_ENTRIES = 500;
const MAX_OWN_IDS = 200;
const HISTORY_ON_OPEN = 50;
const NAME_LIMIT = 50;
const TEXT_LIMIT = 500;
const EPOCH_LIMIT = 100;

/** What Python's `strip` takes for white space. A run at the end is tried from its start only: the time is linear. */
const SPACE = String.raw`[\p{White_Space}\x1c-\x1f]`;
const SPACE_AROUND = new RegExp(`^${SPACE}+|(?<!${SPACE})${SPACE}+$`, 'gu');

function clip(text, limit) {
  return [...text].slice(0, limit).join('');
}

/** The unit the server counts in: Unicode scalar values, not UTF-16 units. */
function characterCount(text) {
  return [...text].length;
}

/**
 * What the server makes of a field: without the white space around it. In NFC, so that `ế` is one character, and
 * with no half of a character, which no server could read.
 */
function tidy(text) {
  return text.toWellFormed().normalize('NFC').replace(SPACE_AROUND, '');
}

/** The object that the tab kept, if it is one. */
function parseKept(json) {
  try {
    return JSON.parse(json) ?? {};
  } catch {
    return {};
  }
}

/** A message of ours as the tab kept it; null for what this page did not keep. */
function keptMessage(kept) {
  const { cid, name, text, ts, status } = kept ?? {};
  const valid = /^[0-9a-f]{24}$/.test(cid) && isField(name, NAME_LIMIT) && isField(text, TEXT_LIMIT)
    && Math.abs(ts) <= TS_LIMIT && ['pending', 'unsure', 'failed'].includes(status);
  return valid ? { kind: 'chat', cid, name, text, ts, mine: true, status } : null;
}

function listOf(kept) {
  return Array.isArray(kept) ? kept : [];
}

function isField(text, limit) {
  return typeof text === 'string' && text !== '' && tidy(text) === text && characterCount(text) <= limit;
}

function isId(id) {
  return Number.isSafeInteger(id) && id >= 0;
}

/** Not `crypto.randomUUID`: a page on a plain http address other than localhost has none. */
function newCid() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

class ChatLog extends Emitter {
  entries = [];
  outbox = [];
  #memory;
  #epoch = null;
  /** The id of the newest message shown; null while none is known. */
  #lastId = null;
  /** The ids of our messages in one life of the room, also from before a reload. */
  #own = { epoch: null, ids: [] };
  #greetings = 0;
  #awaitsGreeting = false;
  /** The greeting's own entry: messages up to `until` were there before it, and go above it. */
  #replay = { until: 0, above: null };

  /** `memory` has `get` and `set`, and lasts as long as the tab. */
  constructor(memory) {
    super();
    this.#memory = memory;
  }

  restore() {
    const { own, outbox } = parseKept(this.#memory.get('chat'));
    if (typeof own?.epoch === 'string') this.#own = { epoch: own.epoch, ids: listOf(own.ids).filter(isId).slice(-MAX_OWN_IDS) };
    for (const entry of listOf(outbox).slice(-MAX_ENTRIES).map(keptMessage)) if (entry) this.#add(entry);
  }

  query() {
    const resumable = this.#epoch !== null && this.#lastId !== null;
    return resumable ? `since=${encodeURIComponent(this.#epoch)}:${this.#lastId}` : `history=${HISTORY_ON_OPEN}`;
  }

  connected() {
    this.#awaitsGreeting = true;
  }

  /** A link that comes and goes with nothing said meanwhile is told once; what may be missing stays told. */
  disconnected() {
    for (const entry of this.#latestNotes()) {
      if (entry.kind === 'traffic' || entry.code === 'lost' || entry === this.#replay.above) this.#remove(entry);
    }
    this.#replay = { until: 0, above: null };
    this.#note({ code: 'lost', ts: Date.now() });
  }

  write(name, text) {
    return this.#add({ kind: 'chat', cid: newCid(), name, text, ts: Date.now(), mine: true, status: 'pending' });
  }

  setStatus(entry, status) {
    entry.status = status;
    this.#remember();
    this.emit('change', { entry });
  }

  discard(entry) {
    this.outbox.splice(this.outbox.indexOf(entry), 1);
    this.#remember();
    this.emit('remove', { entry });
  }

  receive(message) {
    switch (message.type) {
      case 'system': return this.#system(message);
      case 'chat': return this.#chat(message);
      case 'ack': return this.#ack(message);
      case 'error': return this.#error(message);
    }
  }

  #system(message) {
    const comingOrGoing = ['joined', 'left'].find((code) => message.code === code || message.text === TEXTS[`system.${code}`][0]);
    if (this.#awaitsGreeting || message.code === 'resync') this.#greeting(message);
    else if (comingOrGoing) this.#count(comingOrGoing, message.ts);
    else if (message.code !== 'presence') this.#note(message);
  }

  #greeting(message) {
    this.#awaitsGreeting = false;
    const { epoch: named, last_id: lastId } = message;
    const epoch = typeof named === 'string' && named.length <= EPOCH_LIMIT && named.isWellFormed() ? named : null;
    const sameRoom = epoch !== null && epoch === this.#epoch;
    const knowsOurs = epoch !== null && epoch === this.#own.epoch;
    const complete = this.#greetings === 0 || (sameRoom && message.recovered === true);
    if (!complete && !this.#latestNotes().some(({ code }) => code === 'gap')) this.#note({ code: 'gap', ts: message.ts });
    if (!sameRoom) this.#forgetIds();
    if (!knowsOurs) this.#own = { epoch, ids: [] };
    this.#epoch = epoch;
    if (epoch !== null && lastId === 0) this.#lastId = 0;
    this.#greetings += 1;
    this.#replay = { until: isId(lastId) ? lastId : 0, above: this.#note(message) };

    for (const entry of this.#pending()) {
      // Only the room that saw the first sending knows a second one by its cid.
      if (knowsOurs) this.emit('resend', { entry });
      else this.setStatus(entry, 'unsure');
    }
  }

  /** Another life of the room counts from 1 again: what the old ids meant is over. */
  #forgetIds() {
    this.#lastId = null;
    for (const entry of this.outbox.filter(({ status }) => status === 'sent')) this.#settle(entry);
    for (const entry of this.entries) delete entry.id;
  }

  #chat(message) {
    const { name, text, ts } = message;
    const id = isId(message.id) ? message.id : undefined;
    if (typeof name !== 'string' || typeof text !== 'string') return;
    if (id !== undefined) {
      if (this.#lastId !== null && id <= this.#lastId) return;
      this.#lastId = id;
    }
    const sent = this.#sentAs(id, name, text);
    if (sent) {
      sent.ts = ts;
      if (sent.status === 'pending') this.setStatus(sent, 'sent');
      this.#settle(sent);
      return;
    }
    const mine = this.#own.ids.includes(id);
    const replayed = id !== undefined && id <= this.#replay.until;
    const old = replayed && this.#greetings === 1;
    this.#insert({ kind: 'chat', id, name, text, ts, mine, status: 'sent' }, { above: replayed ? this.#replay.above : null, old });
  }

  #sentAs(id, name, text) {
    if (id !== undefined) return this.outbox.find((entry) => entry.id === id);
    return this.#pending().find((entry) => entry.name === name && entry.text === text);
  }

  /** Ack and broadcast may come in either order; a message sent twice may be in the room for long. */
  #ack({ cid, id }) {
    const entry = this.outbox.find((candidate) => candidate.cid === cid);
    if (!entry || !isId(id)) return;
    this.#own.ids = [...this.#own.ids, id].slice(-MAX_OWN_IDS);
    if (this.#lastId !== null && id <= this.#lastId) {
      this.discard(entry);
      const shown = this.entries.find((candidate) => candidate.id === id);
      if (!shown) return;
      shown.mine = true;
      this.emit('change', { entry: shown });
    } else {
      entry.id = id;
      this.setStatus(entry, 'sent');
    }
  }

  #error(error) {
    const entry = error.code
      ? this.outbox.find(({ cid }) => cid === error.cid)
      : this.#pending()[0];
    this.emit('refuse', { error, entry });
  }

  #pending() {
    return this.outbox.filter(({ status }) => status === 'pending');
  }

  /** Comings and goings in a row are one entry: they name nobody, so their number says it all. */
  #count(code, ts) {
    const last = this.entries.at(-1);
    if (last?.kind !== 'traffic') {
      this.#insert({ kind: 'traffic', joined: 0, left: 0, [code]: 1, ts });
    } else {
      last[code] += 1;
      this.emit('change', { entry: last });
    }
  }

  #note({ code, text, ts, online_count: count }) {
    return this.#insert({ kind: 'system', code, text, count: isId(count) ? count : '?', ts });
  }

  /** What is not a message, since the last message. */
  #latestNotes() {
    return this.entries.slice(this.entries.findLastIndex(({ kind }) => kind === 'chat') + 1);
  }

  #remove(entry) {
    this.entries.splice(this.entries.indexOf(entry), 1);
    this.emit('remove', { entry });
  }

  #add(entry) {
    this.outbox.push(entry);
    this.#remember();
    this.emit('place', { entry, before: null });
    return entry;
  }

  #settle(entry) {
    this.outbox.splice(this.outbox.indexOf(entry), 1);
    this.#remember();
    this.#insert(entry);
  }

  /** At the end of the room, or above another entry of it. */
  #insert(entry, { above = null, old = false } = {}) {
    const at = above === null ? this.entries.length : this.entries.indexOf(above);
    this.entries.splice(at, 0, entry);
    this.emit('place', { entry, before: this.entries[at + 1] ?? this.outbox[0] ?? null, old });
    if (this.entries.length > MAX_ENTRIES) this.#remove(this.entries[0]);
    return entry;
  }

  #remember() {
    const outbox = this.outbox.filter(({ status }) => status !== 'sent');
    this.#memory.set('chat', JSON.stringify({ own: this.#own, outbox }));
  }
}
