'use strict';

/*
 * What every page has: a few words for making elements, the switches for theme and language, links that keep
 * ?server=, and the line that shows the state of the connection. Loaded in the head and not deferred, so that
 * the theme is known before the first paint.
 */

const THEMES = ['auto', 'light', 'dark'];

let theme = THEMES.includes(preferences.get('theme')) ? preferences.get('theme') : 'auto';
document.documentElement.dataset.theme = theme;

/** How long the bare fact of a loss is shown before the countdown takes its place. */
const LOSS_SHOWN_MS = 500;
const COUNTDOWN_STEP_MS = 100;
/** Beyond it numbers are no longer written as digits. */
const VALUE_LIMIT = 1e15;

/** Something that tells others of what happens to it. */
class Emitter extends EventTarget {
  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  on(name, listener) {
    this.addEventListener(name, ({ detail }) => listener(detail));
  }
}

/* ---- elements ---- */

function byId(id) {
  return document.getElementById(id);
}

/** An element with a class and, where given, a text. Text goes in as text: nothing here is ever parsed as HTML. */
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** What a server says in its own words, where they are words. */
function wordsOf(text) {
  return typeof text === 'string' ? text : '…';
}

function withId(id, made) {
  made.id = id;
  return made;
}

/** An element whose text follows the language. */
function named(tag, key, className) {
  const made = element(tag, className, t(key));
  made.dataset.t = key;
  return made;
}

function button(key, className, act) {
  const made = named('button', key, className);
  made.type = 'button';
  made.addEventListener('click', act);
  return made;
}

/** A table with a heading for each column; each row is a list of nodes. */
function tableOf(columns, rows) {
  const table = element('table');
  const headings = columns.map((key) => Object.assign(named('th', key), { scope: 'col' }));
  const head = element('tr');
  head.append(...headings);
  table.append(element('thead'), element('tbody'));
  table.tHead.append(head);
  table.tBodies[0].append(...rows.map(rowOf));
  return table;
}

function rowOf(contents) {
  const row = element('tr');
  for (const content of contents) row.insertCell().append(content);
  return row;
}

/* ---- the top bar ---- */

function addSwitches() {
  const themeSwitch = withId('theme-switch', button(`switch.theme.${theme}`, 'switch', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    preferences.set('theme', theme);
    document.documentElement.dataset.theme = theme;
    themeSwitch.dataset.t = `switch.theme.${theme}`;
    name();
    document.dispatchEvent(new Event('themechange'));
  }));
  const languageSwitch = withId('language-switch', button('switch.language', 'switch', () => setLanguage(language === 'vi' ? 'en' : 'vi')));
  const name = () => {
    for (const made of [languageSwitch, themeSwitch]) made.title = made.textContent = t(made.dataset.t);
  };
  onLanguageChange(name);
  name();
  document.querySelector('.topbar').append(languageSwitch, themeSwitch);
}

/** A page told to speak to another server leads to pages that speak to it as well. */
function keepServerInLinks() {
  const server = new URLSearchParams(location.search).get('server');
  if (!server) return;
  for (const link of document.querySelectorAll('a[href*=".html"]')) link.search = new URLSearchParams({ server });
}

/** Whether a metric's value can be shown and drawn. */
function isValue(value) {
  return Number.isFinite(value) && Math.abs(value) < VALUE_LIMIT;
}

/* ---- the connection ---- */

/** What the status line says of a connection's state, and the class its indicator wears. */
function describeState(state, now) {
  switch (state.phase) {
    case 'connecting':
      return { look: 'connecting', text: t('status.connecting') };
    case 'open':
      return { look: 'connected', text: t('status.open') };
    case 'waiting':
      if (state.lost && now - state.since < LOSS_SHOWN_MS) return { look: 'disconnected', text: t('status.lost') };
      return {
        look: 'connecting',
        text: t('status.waiting', { seconds: Math.max(1, Math.ceil((state.until - now) / 1000)) }),
        detail: t('status.attempt', state),
      };
    case 'failed':
    case 'refused':
    case 'bad-server':
    case 'insecure':
      return { look: 'disconnected', text: t(`status.${state.phase}`, state) };
  }
}

/**
 * Keeps the status line true to `connection`. The countdown changes every second and is for the eye only;
 * a screen reader is told of a change of phase, once.
 */
function showConnection(connection) {
  const indicator = byId('status-indicator');
  const text = byId('status-text');
  const detail = element('span', 'status-detail');
  const retry = withId('retry-button', button('status.retry', 'link-button', () => connection.retry()));
  const announcement = element('span', 'visually-hidden');
  announcement.setAttribute('role', 'status');
  text.after(detail, retry, announcement);
  let timer = null;

  const render = () => {
    clearTimeout(timer);
    const { state } = connection;
    const shown = describeState(state, performance.now());
    indicator.className = `status-indicator ${shown.look}`;
    if (text.textContent !== shown.text) text.textContent = shown.text;
    detail.textContent = shown.detail ?? '';
    retry.hidden = !['waiting', 'failed', 'refused'].includes(state.phase);
    if (state.phase === 'waiting') timer = setTimeout(render, COUNTDOWN_STEP_MS);
  };

  retry.hidden = true;
  connection.on('state', ({ phase }) => {
    render();
    announcement.textContent = phase === 'waiting' ? t('status.lost') : text.textContent;
  });
  onLanguageChange(render);
}

document.addEventListener('DOMContentLoaded', () => {
  addSwitches();
  keepServerInLinks();
});
