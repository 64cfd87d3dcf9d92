'use strict';

/*
 * What every page has: the switches for theme and language, links that keep ?server=, and the line that
 * shows the state of the connection. Loaded in the head and not deferred, so that the theme is known before
 * the first paint.
 */

const THEMES = ['auto', 'light', 'dark'];

let theme = THEMES.includes(preferences.get('theme')) ? preferences.get('theme') : 'auto';
document.documentElement.dataset.theme = theme;

/** How long the bare fact of a loss is shown before the countdown takes its place. */
const LOSS_SHOWN_MS = 500;
const COUNTDOWN_STEP_MS = 100;

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

function withId(made, id) {
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
  const head = element('tr');
  for (const column of columns) {
    const cell = named('th', column);
    cell.scope = 'col';
    head.append(cell);
  }
  table.append(element('thead'), element('tbody'));
  table.tHead.append(head);
  table.tBodies[0].append(...rows.map(rowOf));
  return table;
}

function rowOf(contents) {
  const row = element('tr');
  for (const content of contents) {
    const cell = element('td');
    cell.append(content);
    row.append(cell);
  }
  return row;
}

function setUpSwitches() {
  const languageSwitch = byId('language-switch');
  languageSwitch.addEventListener('click', () => setLanguage(language === 'vi' ? 'en' : 'vi'));

  const themeSwitch = byId('theme-switch');
  const nameTheme = () => {
    themeSwitch.title = t(`switch.theme.${theme}`);
    themeSwitch.setAttribute('aria-label', themeSwitch.title);
  };
  themeSwitch.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    preferences.set('theme', theme);
    document.documentElement.dataset.theme = theme;
    nameTheme();
    document.dispatchEvent(new Event('themechange'));
  });
  document.addEventListener('languagechange', nameTheme);
  nameTheme();
}

/** A page told to speak to another server leads to pages that speak to it as well. */
function keepServerInLinks() {
  const server = new URLSearchParams(location.search).get('server');
  if (!server) return;
  for (const link of document.querySelectorAll('a[data-page]')) link.search = new URLSearchParams({ server });
}

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
        detail: t('status.attempt', { attempt: state.attempt, attempts: state.attempts }),
      };
    case 'failed':
      return { look: 'disconnected', text: t('status.failed') };
    case 'refused':
      return { look: 'disconnected', text: t(state.reason ? 'status.refused.reason' : 'status.refused', state) };
    case 'bad-server':
      return { look: 'disconnected', text: t('status.badServer', state) };
  }
}

/**
 * Keeps the status line true to `connection`. The countdown changes every second and is for the eye only;
 * a screen reader is told of a change of phase, once, through `status-announcement`.
 */
function showConnection(connection) {
  const indicator = byId('status-indicator');
  const text = byId('status-text');
  const detail = byId('status-detail');
  const retry = byId('retry-button');
  let timer = null;

  const render = () => {
    clearTimeout(timer);
    const { state } = connection;
    const shown = describeState(state, Date.now());
    indicator.className = `status-indicator ${shown.look}`;
    if (text.textContent !== shown.text) text.textContent = shown.text;
    detail.textContent = shown.detail ?? '';
    retry.hidden = !['waiting', 'failed', 'refused'].includes(state.phase);
    if (state.phase === 'waiting') timer = setTimeout(render, COUNTDOWN_STEP_MS);
  };

  connection.addEventListener('state', () => {
    render();
    const { phase } = connection.state;
    byId('status-announcement').textContent = phase === 'waiting' ? t('status.lost') : text.textContent;
  });
  retry.addEventListener('click', () => connection.retry());
  document.addEventListener('languagechange', render);
}

document.addEventListener('DOMContentLoaded', () => {
  setUpSwitches();
  keepServerInLinks();
});
