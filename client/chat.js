'use strict';

/* The chat page: draws a ChatLog, and sends what is typed. */

const messages = byId('messages');
const notice = byId('notice');
const empty = byId('empty');
const onlineCount = byId('online-count');
const nameInput = byId('name-input');
const messageInput = byId('message-input');
const sendButton = byId('send-button');

const log = new ChatLog();
const connection = new Connection('/ws/chat', () => log.query());

/* ---- the log ---- */

/** The element of each entry shown. */
const shown = new Map();
let online = null;
/** Whether the newest message is in view; then the view follows what is new. */
let following = true;
let followQueued = false;

function drawEntry(entry) {
  return entry.kind === 'chat' ? drawMessage(entry) : element('div', `message system ${entry.code ?? ''}`, systemText(entry));
}

function systemText({ code, text, count }) {
  if (code === 'gap' || code === 'lost') return t(`chat.${code}`);
  return hasText(`system.${code}`) ? t(`system.${code}`, { online_count: count }) : text;
}

function drawMessage(entry) {
  const row = element('div', `message user ${entry.mine ? 'me' : ''} ${entry.status}`);
  const bubble = element('div', 'message-bubble');
  bubble.append(
    element('div', 'message-name', entry.mine ? t('chat.me') : entry.name),
    element('div', 'message-text', entry.text),
    element('div', 'message-time', entry.status === 'pending' ? t('chat.pending') : clockTime(entry.ts)),
  );
  row.append(bubble);
  if (entry.status === 'failed' || entry.status === 'unsure') row.append(drawRetry(entry));
  return row;
}

function drawRetry(entry) {
  const line = element('div', 'message-failed', t(`chat.${entry.status}`));
  const button = element('button', 'link-button', t('chat.retry'));
  button.type = 'button';
  button.addEventListener('click', () => {
    if (connection.send(requestOf(entry))) log.setStatus(entry, 'pending');
  });
  line.append(' ', button);
  return line;
}

function redraw(entry) {
  const drawn = drawEntry(entry);
  shown.get(entry).replaceWith(drawn);
  shown.set(entry, drawn);
}

/** Once a frame however many messages came: reading scrollHeight makes the browser lay out the whole log. */
function follow() {
  if (followQueued) return;
  followQueued = true;
  requestAnimationFrame(() => {
    followQueued = false;
    if (following) messages.scrollTop = messages.scrollHeight;
  });
}

function showNotice(text) {
  notice.textContent = text && `⚠️ ${text}`;
  notice.hidden = !text;
  following = true;
  follow();
}

log.addEventListener('place', ({ detail: { entry, before } }) => {
  shown.get(entry)?.remove();
  const drawn = drawEntry(entry);
  shown.set(entry, drawn);
  messages.insertBefore(drawn, before ? shown.get(before) : notice);
  if (entry.kind === 'chat') empty.remove();
  if (entry.mine) {
    following = true;
    if (entry.status === 'sent') showNotice('');
  }
  follow();
});
log.addEventListener('change', ({ detail: { entry } }) => redraw(entry));
log.addEventListener('remove', ({ detail: { entry } }) => {
  shown.get(entry).remove();
  shown.delete(entry);
});
log.addEventListener('resend', ({ detail: { entry } }) => connection.send(requestOf(entry)));

messages.addEventListener('scroll', () => {
  following = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
});
new ResizeObserver(follow).observe(messages);

/* ---- sending ---- */

/** Until when the server will refuse another message of ours, as it said itself. */
let waitUntil = 0;

function requestOf({ name, text, cid }) {
  return { type: 'chat', name, text, cid };
}

function send() {
  if (sendButton.disabled) return;
  const name = clip(tidy(nameInput.value), NAME_LIMIT);
  const text = tidy(messageInput.value);
  if (!name || !text) {
    showNotice(t('error.empty'));
    (name ? messageInput : nameInput).focus();
    return;
  }
  if ([...text].length > TEXT_LIMIT) {
    showNotice(t('error.too_long'));
    return;
  }
  preferences.set('chatName', name);
  connection.send(requestOf(log.write(name, text)));
  messageInput.value = '';
  fitInput();
  messageInput.focus();
}

/** A refused text goes back to where it can be mended, unless something else is being written there. */
function refused({ detail: { error, entry } }) {
  const seconds = Math.ceil((error.retry_after_ms ?? 0) / 1000);
  showNotice(hasText(`error.${error.code}`) ? t(`error.${error.code}`, { seconds }) : error.text);
  if (error.retry_after_ms) {
    waitUntil = Date.now() + error.retry_after_ms;
    renderSendButton();
  }
  if (!entry) return;
  if (messageInput.value) {
    log.setStatus(entry, 'failed');
  } else {
    log.discard(entry);
    messageInput.value = entry.text;
    fitInput();
  }
}

function renderSendButton() {
  const wait = waitUntil - Date.now();
  sendButton.disabled = connection.state.phase !== 'open' || wait > 0;
  sendButton.textContent = wait > 0 ? t('chat.wait', { seconds: Math.ceil(wait / 1000) }) : t('chat.send');
  if (wait > 0) setTimeout(renderSendButton, wait % 1000 || 1000);
}

/** The input is as tall as its text, as far as the style sheet lets it grow. */
function fitInput() {
  messageInput.style.height = 'auto';
  messageInput.style.height = `${messageInput.scrollHeight + messageInput.offsetHeight - messageInput.clientHeight}px`;
}

log.addEventListener('refuse', refused);
sendButton.addEventListener('click', send);
messageInput.addEventListener('input', fitInput);
messageInput.addEventListener('keydown', (event) => {
  // Vietnamese input methods compose: the Enter that ends a composition belongs to them (keyCode 229 in Safari).
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send();
});

/* ---- the connection ---- */

function renderOnline() {
  onlineCount.hidden = online === null;
  onlineCount.textContent = online === null ? '' : `👥 ${t('chat.online', { count: online })}`;
}

connection.addEventListener('message', ({ detail: message }) => {
  log.receive(message);
  if (message.type === 'system' && message.online_count !== undefined) {
    online = message.online_count;
    renderOnline();
  }
});

connection.addEventListener('state', ({ detail: state }) => {
  if (state.phase === 'open') log.connected();
  if (state.lost) log.disconnected(state.since);
  if (state.phase !== 'open') {
    online = null;
    renderOnline();
  }
  renderSendButton();
});

document.addEventListener('languagechange', () => {
  for (const entry of shown.keys()) redraw(entry);
  renderOnline();
  renderSendButton();
});

nameInput.value = preferences.get('chatName') ?? '';
showConnection(connection);
connection.start();
