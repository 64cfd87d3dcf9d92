'use strict';

/*
 * The inside page: what the server is doing, live or from a recording, and what a reader can do to it. The last minute
 * of views is kept, and all is drawn from what is kept: a recording is shown by the same code as the present.
 */

const VIEWS_KEPT = 600;
const ITEMS_KEPT = 20_000;
const SECOND = 1000 * TICKS_PER_MS;
const SLOWER = [1, 10, 100, 1000];
const FILE_FORMAT = 'wslab-inside-1';
const FILE_LIMIT = 64 << 20;
const STEPS_SHOWN = 12;
const HOLD_AFTER_MS = 150;
const HOLD_WATCHED_MS = 700;

const connection = new Connection('/ws/inside');

/* ---- what is kept ---- */

/** Views, and the turns or spans in them, in the order of time. */
class Recording {
  views = [];
  items = [];

  constructor(model) {
    this.model = model;
  }

  add(view) {
    const { turns, threads } = view;
    this.views.push(view);
    this.items.push(...(turns ? turns.rows.map((row, i) => ({ number: turns.first + i, row })) : threads.spans));
    this.views.splice(0, this.views.length - VIEWS_KEPT);
    this.items.splice(0, this.items.length - ITEMS_KEPT);
  }

  get from() {
    return this.views[0].now;
  }

  get to() {
    return this.views.at(-1).now;
  }
}

const isRow = (row, length = row?.length) => Array.isArray(row) && row.length === length && row.every((number) => Number.isFinite(number));
const areRows = (rows, length) => Array.isArray(rows) && rows.every((row) => isRow(row, length));

/** Whether the page can draw it: it may come from a file that anybody has made. */
function isView({ now, sockets, room, outboxes, turns, wheel, threads }) {
  if (!isRow([now, sockets, room?.members, room?.next, room?.lag]) || !areRows(room.parts, 2) || !isRow(outboxes, OUTBOX_CLASSES.length)) return false;
  if (turns) return isRow([turns.first, turns.skipped, wheel?.current]) && areRows(turns.rows, 16) && isRow(turns.lengths, 20) && isRow(wheel.parts);
  // Where each part is one thread, it is a digit.
  if (typeof threads?.parts === 'string') threads.parts = Array.from(threads.parts, (digit) => STATES.map((_, state) => Number(state === Number(digit))));
  const { parts, spans, batches, lock_waits: waits, lock_holds: holds } = threads ?? {};
  return areRows(parts, STATES.length) && areRows(spans, 4) && isRow([batches, waits?.count, waits?.longest, holds?.longest]);
}

let live = new Recording('evloop');
/** What is looked at instead of the present, and how far its replay has come. */
let recording = null;
let position = 0;
let playing = false;
let playedAt = 0;

/* ---- the pictures ---- */

/** A name in the texts and in the document; the model that it is for. */
const CARDS = [
  ['loop', LoopPicture, 'evloop'], ['grid', GridPicture, 'threads'], ['lock', LockPicture, 'threads'], ['room', RoomPicture],
  ['wheel', WheelPicture, 'evloop'], ['outboxes', OutboxesPicture], ['heat', HeatPicture, 'evloop'],
];
const pictures = {};
let timeline = null;

for (const [name, Made, model = ''] of CARDS) {
  const card = element('section', `panel ${name}`);
  const canvas = withId(name, element('canvas'));
  canvas.setAttribute('role', 'img');
  canvas.dataset.tAriaLabel = `inside.${name}.what`;
  card.dataset.model = model;
  card.append(named('h2', `inside.${name}`), canvas, withId(`${name}-legend`, element('p', 'legend')), named('p', `inside.${name}.what`, 'aside'));
  byId('cards').append(card);
  pictures[name] = new Made(name);
}

function legend(id, ...keys) {
  byId(id).replaceChildren(...keys.map(([colour, words]) => {
    const made = element('span', 'key');
    made.append(element('i', `swatch ink ${colour}`), words);
    return made;
  }));
}

const stageKey = (stage, figure = '') => [`stage-${stage}`, `${t(`inside.stage.${stage}`)} ${figure}`];
const stateKey = (state, figure = '') => [`state-${state}`, `${t(`inside.state.${state}`)} ${figure}`];

function showModel() {
  const { model } = recording ?? live;
  byId('inside-model').textContent = t(`inside.model.${model}`);
  byId('timeline-heading').textContent = t(`inside.timeline.${model}`);
  for (const card of byId('cards').children) card.hidden = ![model, ''].includes(card.dataset.model);
  timeline ??= new (model === 'threads' ? SpansPicture : TurnsPicture)('timeline', read);
  legend('timeline-legend', ...(model === 'threads' ? [stateKey('waiting'), stateKey('sending')] : [...STAGES.slice(1).map((stage) => stageKey(stage)), ['ready', t('inside.timeline.sockets')]]));
  read(timeline.chosen);
}

/** The chosen turn or span in words. */
function read(item) {
  const said = item ? describe(item) : t('inside.timeline.keys');
  byId('reading').textContent = said;
  byId('zoom-span').textContent = lengthText(timeline.span);
  const { canvas, data } = timeline;
  canvas.setAttribute('aria-label', byId('timeline-heading').textContent);
  canvas.setAttribute('aria-valuemax', data.length);
  canvas.setAttribute('aria-valuenow', item ? data.indexOf(item) + 1 : data.length);
  canvas.setAttribute('aria-valuetext', said);
}

function describe(item) {
  if (!item.row) {
    const [, length, thread, state] = item;
    return t('inside.span', { who: threadName(thread), state: t(`inside.state.${STATES[state]}`), length: lengthText(length) });
  }
  const { number, row } = item;
  const stages = STAGES.map((stage, i) => [t(`inside.stage.${stage}`), row[i + 1]]).filter(([, ticks]) => ticks > 0);
  const [ready, served, members, bytesIn, bytesOut, , fired] = row.slice(8);
  return t('inside.turn', {
    number, ready, served, members, fired, in: bytesText(bytesIn), out: bytesText(bytesOut), stages: stages.map(([name, ticks]) => `${name} ${lengthText(ticks)}`).join(', '),
  });
}

function threadName(thread) {
  return thread < 0 ? 'ticker' : `#${thread}`;
}

/** All of the page as it was at a time of what is shown. */
function show() {
  const shown = recording ?? live;
  if (!shown.views.length) return;
  const time = recording ? position : live.to;
  const past = shown.views.slice(0, 1 + Math.max(0, shown.views.findLastIndex(({ now }) => now <= time))).slice(-COLUMNS);
  const view = past.at(-1);
  const second = past.filter(({ now }) => now > time - SECOND);
  timeline.end = time;
  timeline.show(shown.items);
  pictures.room.show(view.room);
  pictures.outboxes.show(view.outboxes);
  showFigures([['sockets', view.sockets], ['members', view.room.members], ['lag', bytesText(view.room.lag)],
    ...(view.turns ? showLoop(view, past, second, time) : showThreads(view, past, second)), ...switchesOf(second)]);
}

function showLoop(view, past, second, time) {
  const turns = timeline.data.slice(timeline.at(time - SECOND)).filter(({ row }) => row[0] <= time);
  const spent = STAGES.map((_, stage) => sum(turns.map(({ row }) => row[stage + 1])));
  const total = Math.max(1, sum(spent));
  pictures.loop.show({ spent, at: recording ? stageAt(time) : null });
  pictures.wheel.show(view.wheel);
  pictures.heat.show(past.map(({ turns }) => turns.lengths));
  legend('loop-legend', ...STAGES.map((stage, i) => stageKey(stage, shareText(spent[i] / total))));
  return [['turns', sum(second.map(({ turns }) => turns.rows.length + turns.skipped))], ['busy', shareText(1 - spent[0] / total)],
    ['longest', lengthText(Math.max(0, ...turns.map(busyOf)))]];
}

/** Where in its turn the loop is at this time. */
function stageAt(time) {
  const { row } = timeline.data[timeline.at(time)] ?? { row: [time] };
  let end = row[0];
  return Math.max(0, STAGES.findIndex((_, stage) => {
    end += row[stage + 1] ?? 0;
    return time < end;
  }));
}

function showThreads({ threads: { parts, sender } }, past, second) {
  const totals = (of) => second.map(({ threads }) => of(threads));
  pictures.grid.show(parts);
  pictures.lock.show(past.map(({ threads }) => [threads.lock_waits.longest, threads.lock_holds.longest]));
  legend('grid-legend', ...STATES.slice(1).map((state, i) => stateKey(state, sum(parts.map((part) => part[i + 1])))));
  byId('lock-legend').textContent = t('inside.lock.figures', { sender: Number.isFinite(sender) ? threadName(sender) : '–' });
  return [['batches', sum(totals(({ batches }) => batches))], ['waits', sum(totals(({ lock_waits: { count } }) => count))],
    ['wait', lengthText(Math.max(0, ...totals(({ lock_waits: { longest } }) => longest)))]];
}

function switchesOf(second) {
  const [first, last] = [second[0], second.at(-1)].map((view) => view?.switches);
  return isRow(first, 2) && isRow(last, 2) ? [['switches', sum(last) - sum(first)]] : [];
}

function showFigures(figures) {
  byId('figures').replaceChildren(...figures.map(([name, value]) => {
    const pair = element('div');
    pair.append(element('dt', '', t(`inside.figure.${name}`)), element('dd', '', value));
    return pair;
  }));
}

/* ---- record and replay ---- */

const note = (words) => { byId('replay-note').textContent = words; };

function renderReplay() {
  byId('freeze').textContent = t(recording ? 'inside.live' : 'inside.freeze');
  byId('play').textContent = t(playing ? 'inside.pause' : 'inside.play');
  for (const id of ['play', 'speed', 'position']) byId(id).hidden = !recording;
  if (!recording) return;
  const { from, to } = recording;
  byId('position').value = 1000 * (position - from) / Math.max(1, to - from);
  byId('position').setAttribute('aria-valuetext', lengthText(position - from));
}

/** Shows a recording from its end, or the present. */
function look(at) {
  recording = at;
  playing = false;
  position = at?.to ?? 0;
  note(at ? t('inside.recording', { seconds: ((at.to - at.from) / SECOND).toFixed(1) }) : '');
  if (at) showModel();
  renderReplay();
  show();
}

/** Real time goes on; that of the recording so many times slower. */
function playOn(now) {
  if (!playing) return;
  position = Math.min(recording.to, position + (now - playedAt) * TICKS_PER_MS / byId('speed').value);
  playedAt = now;
  playing = position < recording.to;
  renderReplay();
  show();
  requestAnimationFrame(playOn);
}

function download(name, content) {
  const link = element('a');
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content)], { type: 'application/json' }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function openRecording(name, content) {
  try {
    const { format, model, views } = JSON.parse(content);
    if (format !== FILE_FORMAT || model !== live.model || !views.length || !views.every(isView)) throw new TypeError();
    const opened = new Recording(model);
    views.forEach((view) => opened.add(view));
    look(opened);
  } catch {
    note(t('inside.recording.bad', { name }));
  }
}

/** What is kept as Perfetto reads it: a turn holds its stages. */
function traceOf({ items, model }) {
  const event = (name, start, length, tid, args) => ({ name, ph: 'X', ts: start / 10, dur: length / 10, pid: 1, tid, args });
  const traceEvents = items.flatMap((item) => {
    if (!item.row) return [event(STATES[item[3]], item[0], item[1], item[2] + 2)];
    const { number: turn, row } = item;
    let at = row[0] + row[1];
    const whole = event('turn', at, busyOf(item), 1, { turn, ready: row[8], served: row[9], members: row[10] });
    return [event('wait', row[0], row[1], 1), whole, ...STAGES.slice(1).map((stage, i) => {
      at += row[i + 2];
      return event(stage, at - row[i + 2], row[i + 2], 1);
    })];
  });
  return { displayTimeUnit: 'ns', otherData: { server: model }, traceEvents: traceEvents.filter(({ dur }) => dur > 0) };
}

byId('speed').append(...SLOWER.map((factor) => Object.assign(element('option', '', factor > 1 ? `1/${factor}` : '1×'), { value: factor })));
byId('freeze').addEventListener('click', () => {
  if (recording || live.views.length) look(recording ? null : Object.assign(new Recording(live.model), { views: [...live.views], items: [...live.items] }));
});
byId('play').addEventListener('click', () => {
  playing = !playing;
  if (playing && position >= recording.to) position = recording.from;
  playedAt = performance.now();
  renderReplay();
  requestAnimationFrame(playOn);
});
byId('position').addEventListener('input', ({ target }) => {
  playing = false;
  position = recording.from + (recording.to - recording.from) * target.value / 1000;
  renderReplay();
  show();
});
byId('save').addEventListener('click', () => {
  const { model, views } = recording ?? live;
  download(`inside-${model}.json`, { format: FILE_FORMAT, model, views });
});
byId('export').addEventListener('click', () => download('trace.json', traceOf(recording ?? live)));
byId('open').addEventListener('click', () => byId('file').click());
byId('file').addEventListener('change', async ({ target }) => {
  const [file] = target.files;
  if (file) openRecording(file.name, file.size > FILE_LIMIT ? '' : await file.text());
  target.value = '';
});

/* ---- follow a message ---- */

let chat = null;
let followed = null;

const followNote = (words) => { byId('follow-note').textContent = words; };

/** The server is told which message is meant before it comes, on the page's own connection to the room. */
function askToFollow() {
  if (chat.state.phase === 'open' && followed) connection.send({ type: 'follow', cid: followed.cid });
}

function joinChat() {
  chat = new Connection('/ws/chat');
  chat.on('state', askToFollow);
  chat.on('message', ({ type, cid, code, retry_after_ms: wait = 0 }) => {
    if (!cid || cid !== followed?.cid) return;
    if (type === 'ack') followed.answeredAt = performance.now();
    else followNote(hasText(`error.${code}`) ? t(`error.${code}`, { seconds: Math.ceil(wait / 1000) }) : wordsOf(code));
  });
  chat.start();
}

byId('follow').addEventListener('submit', (event) => {
  event.preventDefault();
  const cid = `inside-${crypto.getRandomValues(new Uint32Array(3)).join('-')}`;
  followed = { cid, text: byId('follow-text').value.trim() || t('inside.follow.hello') };
  followNote(t('inside.follow.on'));
  byId('path').replaceChildren();
  if (chat) askToFollow();
  else joinChat();
});

function sendFollowed() {
  if (!followed) return;
  followed.sentAt = performance.now();
  chat.send({ type: 'chat', name: preferences.get('chatName') || 'Inside', ...followed });
}

function barOf(colour, from, to) {
  const bar = element('div', 'bar');
  const fill = element('i', `ink ${colour}`);
  fill.style.marginInlineStart = `${100 * from}%`;
  fill.style.width = `${Math.max(0.5, 100 * (to - from))}%`;
  bar.append(fill);
  return bar;
}

function showPath({ cid, complete, steps }) {
  if (cid !== followed?.cid) return;
  const total = Math.max(1, steps.at(-1)?.at ?? 1);
  byId('path').replaceChildren(...steps.map(({ hop, at, file, function: name }, i) => {
    const before = steps[i - 1]?.at ?? 0;
    const step = element('li');
    const head = element('p', 'line');
    head.append(named('strong', `inside.hop.${hop}`), element('span', 'figure', `+${lengthText(at - before)}`));
    const place = element('p', 'aside');
    place.append(element('code', '', wordsOf(name)), ' · ', element('code', '', wordsOf(file)));
    step.append(head, barOf(`hop-${hop}`, before / total, at / total), place);
    return step;
  }));
  const outside = lengthText((followed.answeredAt - followed.sentAt) * TICKS_PER_MS || 0);
  followNote(complete ? t('inside.follow.done', { inside: lengthText(total), outside }) : t('inside.follow.lost'));
}

/* ---- experiments ---- */

let allowed = [];
let stepping = false;

function renderExperiments() {
  byId('experiments').hidden = !allowed.length;
  byId('experiments-off').hidden = allowed.length > 0;
  byId('stepping').hidden = !allowed.includes('step');
  byId('step').textContent = t(stepping ? 'inside.step.once' : 'inside.step.begin');
  byId('run').disabled = !stepping;
}

/** Another client asks and is answered, again and again, while the handler of one message is held. */
function hold() {
  const socket = new WebSocket(connection.state.url.replace(/inside$/, 'echo'));
  const waits = { held: 0, other: 0 };
  const begun = performance.now();
  let [asked, heldAt] = [0, 0];
  byId('hold').disabled = true;
  const ask = () => {
    asked = performance.now();
    socket.send('');
  };
  connection.on('message', ({ code }) => {
    if (code === 'held') waits.held ||= performance.now() - heldAt;
  });
  socket.onopen = ask;
  socket.onmessage = () => {
    const now = performance.now();
    if (heldAt) waits.other = Math.max(waits.other, now - asked);
    else if (now - begun > HOLD_AFTER_MS && connection.send({ type: 'hold' })) heldAt = now;
    if (now - begun > HOLD_WATCHED_MS) socket.close();
    else setTimeout(ask, 2);
  };
  socket.onclose = () => {
    byId('hold').disabled = false;
    const most = Math.max(1, waits.held, waits.other);
    const rows = Object.entries(waits).map(([name, wait]) => {
      const head = element('p', 'line');
      head.append(named('span', `inside.hold.${name}`), element('strong', 'figure', lengthText(wait * TICKS_PER_MS)));
      return [head, barOf(name === 'held' ? 'bad' : 'accent', 0, wait / most)];
    });
    byId('hold-result').replaceChildren(...rows.flat(), named('p', `inside.hold.${live.model}`));
  };
}

byId('hold').addEventListener('click', hold);
for (const type of ['step', 'run']) byId(type).addEventListener('click', () => connection.send({ type }));

/** What the loop did in its one turn. */
function showStep() {
  const list = byId('steps');
  list.prepend(element('li', '', describe(live.items.at(-1))));
  if (list.childElementCount > STEPS_SHOWN) list.lastElementChild.remove();
}

function showSlow(slow) {
  byId('slow-turns').hidden = !slow.length;
  byId('slow').replaceChildren(...slow.map(([number, , length]) => element('li', '', t('inside.slow.turn', { number, length: lengthText(length) }))));
}

/* ---- the connection ---- */

connection.on('message', (message) => {
  const { type, code } = message;
  if (type === 'inside' && isView(message)) {
    live.add(message);
    if (message.followed) showPath(message.followed);
    if (message.stepping) showStep();
    showSlow(areRows(message.slow, 3) ? message.slow : []);
    if (!recording) show();
  }
  if (code === 'welcome' && Array.isArray(message.experiments)) allowed = message.experiments;
  if (code === 'following') sendFollowed();
  if (code && code !== 'subscribed') stepping = code === 'stepping';
  renderExperiments();
});

/** A page that nobody sees asks for nothing. */
function subscribe() {
  connection.send({ type: document.hidden ? 'unsubscribe' : 'subscribe' });
}

connection.on('state', ({ phase, server, url }) => {
  byId('follow-send').disabled = byId('hold').disabled = phase !== 'open';
  if (phase !== 'open') return;
  live = new Recording(server === 'threads' ? server : 'evloop');
  byId('trace').href = new URL('../inside/trace.json', url.replace(/^ws/, 'http'));
  showModel();
  subscribe();
});
document.addEventListener('visibilitychange', subscribe);

byId('zoom-in').addEventListener('click', () => timeline?.zoom(0.5));
byId('zoom-out').addEventListener('click', () => timeline?.zoom(2));

onLanguageChange(() => {
  if (timeline) showModel();
  renderExperiments();
  renderReplay();
  show();
});

translatePage();
renderExperiments();
renderReplay();
showConnection(connection);
connection.start();
