'use strict';

/* The dashboard page: a card for each metric, and a subscription that is what the checkboxes say. */

const METRICS = [
  { name: 'temperature', icon: '🌡️', unit: '°C' },
  { name: 'stock', icon: '📈', unit: 'USD' },
  { name: 'cpu', icon: '💻', unit: '%' },
];

const connection = new Connection('/ws/dashboard');

/** A metric's name to its checkbox, card, value, time and chart. */
const cards = new Map();

function buildCard({ name, icon, unit }) {
  const label = element('label', 'check');
  const checkbox = element('input');
  Object.assign(checkbox, { type: 'checkbox', id: `metric-${name}`, value: name, checked: true });
  checkbox.addEventListener('change', subscribe);
  const title = named('span', `metric.${name}`);
  label.append(checkbox, `${icon} `, title, element('span', 'check-unit', unit));
  byId('metric-choices').append(label);

  const card = element('article', 'metric-card');
  card.id = `card-${name}`;
  const value = withId(element('span', 'metric-value', '--'), `value-${name}`);
  const time = withId(element('p', 'metric-time'), `time-${name}`);
  const canvas = withId(element('canvas', 'metric-chart'), `chart-${name}`);
  canvas.setAttribute('role', 'img');
  const reading = element('p', 'metric-reading');
  reading.append(value, ' ', element('span', 'metric-unit', unit));
  card.append(named('h2', `metric.${name}`), reading, time, canvas);
  byId('metric-cards').append(card);

  cards.set(name, { checkbox, card, value, time, canvas, chart: new LineChart(canvas), updated: null });
}

function withId(made, id) {
  made.id = id;
  return made;
}

/** An element whose text follows the language. */
function named(tag, key) {
  const made = element(tag, '', t(key));
  made.dataset.t = key;
  return made;
}

function subscribe() {
  const metrics = METRICS.map(({ name }) => name).filter((name) => cards.get(name).checkbox.checked);
  connection.send({ type: 'subscribe', metrics });
  render();
}

function showMetric({ metric, value, ts }) {
  const shown = cards.get(metric);
  // The Python original takes an empty subscription for a full one; unticked stays unticked here.
  if (!shown?.checkbox.checked) return;
  shown.value.textContent = value.toFixed(2);
  shown.updated = ts;
  shown.chart.push(ts, value);
  renderTime(shown);
}

function renderTime({ checkbox, time, updated }) {
  if (!checkbox.checked) time.textContent = t('dashboard.off');
  else if (updated === null) time.textContent = t('dashboard.waiting');
  else time.textContent = t('dashboard.updated', { time: clockTime(updated) });
}

function render() {
  for (const [name, shown] of cards) {
    shown.card.classList.toggle('inactive', !shown.checkbox.checked);
    shown.canvas.setAttribute('aria-label', t('dashboard.chart', { metric: t(`metric.${name}`) }));
    renderTime(shown);
  }
}

connection.addEventListener('state', ({ detail: { phase } }) => {
  byId('metric-cards').classList.toggle('stale', phase !== 'open');
  if (phase === 'open') subscribe();
});
connection.addEventListener('message', ({ detail: message }) => {
  if (message.type === 'metric') showMetric(message);
});

const redrawCharts = () => cards.forEach(({ chart }) => chart.redraw());
document.addEventListener('themechange', redrawCharts);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redrawCharts);
document.addEventListener('languagechange', render);

METRICS.forEach(buildCard);
render();
showConnection(connection);
connection.start();
