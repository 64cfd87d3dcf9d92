'use strict';

/* The chat page: shows a ChatLog in a ChatView, and sends what is typed. */

const notice = byId('notice');
const onlineCount = byId('online-count');
const jumpButton = byId('jump-button');
const nameInput = byId('name-input');
const messageInput = byId('message-input');
const sendButton = byId('send-button');
const counter = byId('counter');

const CHAT_TITLE = document.title;
/** From here on it is good to know how much room is left. */
const COUNTED_FROM = 400;
/** However long a server says to wait, after this the reader may try. */
const WAIT_LIMIT_MS = 60_000;

const memory = memoryOf('sessionStorage');
const log = new ChatLog(memory);
const view = new ChatView(byId('messages'), notice);
const connection = new Connection('/ws/chat', () => log.query());

/* ---- the log ---- */

log.on('place', ({ entry, before, old }) => {
  view.place(entry, before, old);
  if (entry.kind === 'chat') byId('empty').hidden = true;
});
log.on('change', ({ entry }) => {
  view.change(entry);
  if (entry.status === 'sent') showNotice('');
});
log.on('remove', ({ entry }) => view.remove(entry));
log.on('resend', ({ entry }) => deliver(entry));

view.on('retry', (entry) => {
  if (deliver(entry)) log.setStatus(entry, 'pending');
});
view.on('discard', (entry) => log.discard(entry));
view.on('change', renderUnread);
jumpButton.addEventListener('click', () => {
  view.toEnd();
  byId('messages').focus();
});

function renderUnread() {
  const { unread, following } = view;
  document.title = (unread ? `(${unread}) ` : '') + CHAT_TITLE;
  jumpButton.hidden = following;
  jumpButton.textContent = unread ? t('chat.jump.unread', { count: unread }) : t('chat.jump');
}

/** `look` is `error` or, where waiting is all there is to do, `wait`. */
function showNotice(text, look = 'error') {
  notice.textContent = text;
  notice.className = `message ${look}`;
  notice.hidden = !text;
  if (text) view.toEnd();
}

/* ---- sending ---- */

/** Until when, on performance.now(), the server will refuse another message of ours, as it said itself. */
let waitUntil = 0;

function deliver({ name, text, cid }) {
  return connection.send({ type: 'chat', name, text, cid });
}

/** For ↑ in an empty input. */
let lastSaid = '';

function send() {
  if (sendButton.disabled) return;
  const name = tidy(clip(tidy(nameInput.value), NAME_LIMIT));
  const text = tidy(messageInput.value);
  if (!name || !text) {
    showNotice(t('error.empty'));
    (name ? messageInput : nameInput).focus();
    return;
  }
  if (characterCount(text) > TEXT_LIMIT) {
    showNotice(t('error.too_long'));
    return;
  }
  preferences.set('chatName', name);
  lastSaid = text;
  deliver(log.write(name, text));
  setInput('');
  messageInput.focus();
}

/** A refused text goes back to where it can be mended, unless something else is being written there. */
function refused({ error, entry }) {
  const wait = Number.isFinite(error.retry_after_ms) ? Math.min(Math.max(0, error.retry_after_ms), WAIT_LIMIT_MS) : 0;
  const text = hasText(`error.${error.code}`) ? t(`error.${error.code}`, { seconds: Math.ceil(wait / 1000) }) : wordsOf(error.text);
  showNotice(text, wait ? 'wait' : 'error');
  if (wait) {
    waitUntil = performance.now() + wait;
    renderSendButton();
  }
  if (!entry) return;
  if (error.code === 'unavailable') {
    // Under the same cid: it may be in the room already.
    setTimeout(() => entry.status === 'pending' && deliver(entry), wait || 1000);
    return;
  }
  if (messageInput.value) {
    log.setStatus(entry, 'failed');
  } else {
    log.discard(entry);
    setInput(entry.text);
  }
}

function renderSendButton() {
  const wait = waitUntil - performance.now();
  sendButton.disabled = connection.state.phase !== 'open' || wait > 0;
  sendButton.textContent = wait > 0 ? t('chat.wait', { seconds: Math.ceil(wait / 1000) }) : t('chat.send');
  if (wait > 0) setTimeout(renderSendButton, wait % 1000 || 1000);
}

function setInput(text) {
  messageInput.value = text;
  renderInput();
}

/**
 * The input is as tall as its text, as far as the style sheet lets it grow; the counter counts as the server. What
 * is being written outlives a reload.
 */
function renderInput() {
  memory.set('draft', messageInput.value);
  messageInput.style.height = 'auto';
  messageInput.style.height = `${messageInput.scrollHeight + messageInput.offsetHeight - messageInput.clientHeight}px`;
  const count = characterCount(tidy(messageInput.value));
  counter.hidden = count < COUNTED_FROM;
  counter.textContent = `${count}/${TEXT_LIMIT}`;
  counter.classList.toggle('over', count > TEXT_LIMIT);
  messageInput.setAttribute('aria-invalid', count > TEXT_LIMIT);
}

/** What is no field leads to the one for messages. */
addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.target.matches('input, textarea, select')) return;
  event.preventDefault();
  messageInput.focus();
});
log.on('refuse', refused);
sendButton.addEventListener('click', send);
messageInput.addEventListener('input', renderInput);
messageInput.addEventListener('keydown', (event) => {
  if (event.key === 'ArrowUp' && !messageInput.value) setInput(lastSaid);
  // Vietnamese input methods compose: the Enter that ends a composition belongs to them (keyCode 229 in Safari).
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send();
});

/* ---- the connection ---- */

let online = null;

function setOnline(count) {
  online = count;
  onlineCount.hidden = count === null;
  onlineCount.textContent = count === null ? '' : t('chat.online', { count });
}

connection.on('message', (message) => {
  log.receive(message);
  if (message.type === 'system' && isId(message.online_count)) setOnline(message.online_count);
});

connection.on('state', ({ phase, lost }) => {
  if (phase === 'open') log.connected();
  if (lost) log.disconnected();
  if (phase !== 'open') setOnline(null);
  renderSendButton();
});

onLanguageChange(() => {
  setOnline(online);
  renderSendButton();
  renderInput();
  renderUnread();
});

nameInput.value = preferences.get('chatName') ?? '';
setInput(memory.get('draft') ?? '');
log.restore();
showConnection(connection);
showWire(connection, () => ({ type: 'chat', name: nameInput.value || 'An', text: t('wire.hello') }));
connection.start();
