'use strict';

/*
 * How the chat's log looks: a row for each entry of a ChatLog, grouped by sender, divided by days, and a view that
 * follows what is new only while the reader is at its end.
 *
 * A row depends on its entry and on the row above it, and on nothing else: after each change the row and the one
 * below it are arranged anew.
 */

/** Messages of one sender closer than this stand together under one name. */
const GROUP_MS = 5 * 60_000;
/** This close to its end, the reader is reading the newest. */
const AT_END_PX = 48;

/** No address holds East Asian punctuation, nor what is not seen and may turn the text around it. */
const EAST_ASIAN = String.raw`\u3001-\u3003\u3008-\u301f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65`;
const LINK = new RegExp(String.raw`\bhttps?://[^\s<>"\x60\p{Cc}\p{Bidi_Control}\u200b${EAST_ASIAN}]+`, 'giu');
/** What ends a sentence in any script is of an address only with more of it behind. */
const SENTENCE_END = /[.,;:!?'*]|(?![!-~])\p{P}/u;
const CLOSING = { '(': ')', '[': ']', '{': '}' };

/** How much of `found` is the address: brackets that it opens it closes, and it closes no others. */
function addressLength(found) {
  const open = [];
  let at = 0;
  let end = 0;
  for (const character of found) {
    at += character.length;
    if (CLOSING[character]) open.push(CLOSING[character]);
    else if (')]}'.includes(character) && open.pop() !== character) break;
    else if (open.length === 0 && !SENTENCE_END.test(character)) end = at;
  }
  return end;
}

/** `text` as nodes, its web addresses as links; the rest, markup and all, is text. */
function linked(text) {
  const nodes = [];
  let from = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    const address = found.slice(0, addressLength(found));
    if (!URL.canParse(address)) continue;
    const link = element('a', '', address);
    Object.assign(link, { href: address, target: '_blank', rel: 'noopener noreferrer nofollow' });
    nodes.push(text.slice(from, index), link);
    from = index + address.length;
  }
  nodes.push(text.slice(from));
  return nodes;
}

/** One name, one colour, for every reader and after every reload. */
function hueOf(name) {
  return Array.from(name).reduce((hash, character) => (hash * 31 + character.codePointAt(0)) % 360, 0);
}

class ChatView extends Emitter {
  /** How many messages came since the reader last saw the end. */
  unread = 0;
  following = true;
  #scroller;
  #end;
  #rows = new Map();
  #entryOf = new WeakMap();
  #marker = element('p', 'divider unread-marker');
  #followQueued = false;
  #lastTop = 0;

  /** Rows go into `scroller`, above `end`. */
  constructor(scroller, end) {
    super();
    this.#scroller = scroller;
    this.#end = end;
    scroller.classList.add('following');
    scroller.addEventListener('scroll', () => this.#scrolled());
    document.addEventListener('visibilitychange', () => this.#scrolled());
    new ResizeObserver(() => this.#follow()).observe(scroller);
    onLanguageChange(() => {
      this.#marker.textContent = t('chat.unread');
      for (const entry of this.#rows.keys()) this.change(entry);
    });
  }

  /** Puts `entry` in its place: above the entry `before`, or last. */
  place(entry, before, old) {
    const row = this.#rows.get(entry) ?? element('div');
    const isNew = !this.#rows.has(entry);
    const left = row.nextElementSibling;
    this.#rows.set(entry, row);
    this.#entryOf.set(row, entry);
    this.#scroller.insertBefore(row, before ? this.#rows.get(before) : this.#end);
    this.#arrange(row);
    this.#arrange(row.nextElementSibling);
    if (left !== row.nextElementSibling) this.#arrange(left);
    if (entry.mine && isNew) this.toEnd();
    else if (isNew && entry.kind === 'chat' && !old) this.#arrived(row);
    this.#follow();
  }

  change(entry) {
    this.#arrange(this.#rows.get(entry));
    this.#follow();
  }

  remove(entry) {
    const row = this.#rows.get(entry);
    const below = row.nextElementSibling;
    this.#rows.delete(entry);
    row.remove();
    this.#arrange(below);
  }

  toEnd() {
    this.#setFollowing(true);
    this.#seen();
    this.#follow();
  }

  /** The row as its entry and the row above have it; what is no row is left alone. */
  #arrange(row) {
    const entry = this.#entryOf.get(row);
    if (!entry) return;
    const above = this.#entryOf.get(row.previousElementSibling);
    const newDay = dayOf(entry.ts) !== dayOf(above?.ts ?? Date.now());
    const continues = !newDay && entry.kind === 'chat' && above?.kind === 'chat' && row !== this.#marker.parentElement
      && above.mine === entry.mine && above.name === entry.name && entry.ts - above.ts < GROUP_MS;
    row.className = continues ? 'row continues' : 'row';
    const parts = [entry.kind === 'chat' ? this.#drawMessage(entry) : drawNote(entry)];
    if (row === this.#marker.parentElement) parts.unshift(this.#marker);
    if (newDay) parts.unshift(element('p', 'divider day', dayName(entry.ts)));
    row.replaceChildren(...parts);
  }

  #drawMessage(entry) {
    const message = element('div', `message user ${entry.mine ? 'me' : ''} ${entry.status}`);
    const bubble = element('div', 'message-bubble');
    const text = element('div', 'message-text');
    text.append(...linked(entry.text));
    const time = element('time', 'message-time', entry.status === 'pending' ? t('chat.pending') : shortTime(entry.ts));
    time.title = `${dayName(entry.ts)}, ${clockTime(entry.ts)}`;
    const name = element('div', 'message-name', entry.mine ? t('chat.me') : entry.name);
    name.style.setProperty('--hue', hueOf(entry.name));
    bubble.append(name, text, time);
    message.append(bubble);
    if (entry.status === 'failed' || entry.status === 'unsure') message.append(this.#drawChoice(entry));
    return message;
  }

  #drawChoice(entry) {
    const line = element('div', 'message-failed', t(`chat.${entry.status}`));
    for (const choice of ['retry', 'discard']) {
      line.append(' ', button(`chat.${choice}`, 'link-button', () => this.emit(choice, entry)));
    }
    return line;
  }

  #arrived(row) {
    if (this.following && !document.hidden) return;
    if (this.unread === 0) this.#mark(row);
    this.unread += 1;
    this.emit('change');
  }

  /** The line above the first message not yet seen; it stays until there is another first one. */
  #mark(row) {
    const marked = this.#marker.parentElement;
    this.#marker.textContent = t('chat.unread');
    row.prepend(this.#marker);
    for (const changed of [marked, row]) this.#arrange(changed);
  }

  #seen() {
    if (this.unread === 0) return;
    this.unread = 0;
    this.emit('change');
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    // In a busy room much may have come since the view last moved to the end: only a way up leaves it.
    const wentUp = scrollTop < this.#lastTop;
    this.#lastTop = scrollTop;
    const following = scrollHeight - scrollTop - clientHeight < AT_END_PX || (this.following && !wentUp);
    this.#setFollowing(following);
    if (following && !document.hidden) this.#seen();
  }

  /** While the view follows, the browser must not hold on to what is in it as rows above go. */
  #setFollowing(following) {
    if (following === this.following) return;
    this.following = following;
    this.#scroller.classList.toggle('following', following);
    this.emit('change');
  }

  /** Once a frame however many messages came: reading scrollHeight makes the browser lay out the whole log. */
  #follow() {
    if (this.#followQueued) return;
    this.#followQueued = true;
    requestAnimationFrame(() => {
      this.#followQueued = false;
      if (this.following) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    });
  }
}

function drawNote(entry) {
  const note = element('div', `message system ${['gap', 'lost'].includes(entry.code) ? entry.code : ''}`);
  note.append(element('bdi', '', noteText(entry)), ' ', element('time', 'note-time', shortTime(entry.ts)));
  return note;
}

function noteText({ kind, code, text, count, joined, left }) {
  if (kind === 'traffic') {
    if (joined + left === 1) return t(joined ? 'system.joined' : 'system.left');
    const counts = Object.entries({ joined, left }).filter(([, number]) => number > 0);
    return counts.map(([coming, number]) => t(`chat.${coming}`, { count: number })).join(', ');
  }
  if (code === 'gap' || code === 'lost') return t(`chat.${code}`);
  return hasText(`system.${code}`) ? t(`system.${code}`, { online_count: count }) : wordsOf(text);
}

function dayOf(ts) {
  return new Date(ts).toDateString();
}
