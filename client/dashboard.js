'use strict';

/* The dashboard page: a card for each metric, and a subscription that is what the checkboxes say. */

const METRICS = [
  { name: 'temperature', unit: '°C', digits: 2 },
  { name: 'stock', unit: 'USD', digits: 2 },
  { name: 'cpu', unit: '%', digits: 2 },
];

/** The server's own figures, which it sends only where they are asked for by name. */
const VITALS = [
  { name: 'clients', unit: '', digits: 0 },
  { name: 'deliveries', unit: '/s', digits: 0 },
  { name: 'lag', unit: 'ms', digits: 2 },
  { name: 'memory', unit: 'MiB', digits: 2 },
  { name: 'threads', unit: '', digits: 0 },
];

const connection = new Connection('/ws/dashboard');

/** A metric's name to its checkbox, card and what is in it. */
const cards = new Map();

function buildCard({ name, unit, digits }, group, ticked) {
  const checkbox = withId(`metric-${name}`, element('input'));
  Object.assign(checkbox, { type: 'checkbox', checked: ticked });
  checkbox.addEventListener('change', subscribe);
  const label = element('label', `check series-${name}`);
  label.append(checkbox, named('span', `metric.${name}`));
  byId(`${group}-choices`).append(label);

  const say = (value) => `${formatValue(value, digits)} ${unit}`.trim();
  const value = withId(`value-${name}`, element('span', 'metric-value', '--'));
  const time = withId(`time-${name}`, element('p', 'metric-time'));
  const canvas = withId(`chart-${name}`, element('canvas', 'metric-chart'));
  const reading = element('p', 'metric-reading');
  reading.append(value, ' ', element('span', 'metric-unit', unit));
  const card = withId(`card-${name}`, element('article', `metric-card series-${name}`));
  const chart = new LineChart(canvas, say, 10 ** -digits);
  card.append(named('h2', `metric.${name}`), reading, time, canvas, buildTable(chart, say, `metric.${name}`));
  byId(`${group}-cards`).append(card);

  cards.set(name, { checkbox, card, value, time, canvas, chart, digits, updated: null });
}

/** What the chart shows, as a table: filled only while it is open, after the chart's own draw. */
function buildTable(chart, say, key) {
  const details = element('details', 'values');
  const table = tableOf(['dashboard.time', 'dashboard.value'], []);
  table.prepend(named('caption', key, 'visually-hidden'));
  const scroller = element('div', 'values-scroller');
  scroller.tabIndex = 0;
  scroller.setAttribute('role', 'group');
  scroller.dataset.tAriaLabel = 'dashboard.table';
  scroller.append(table);
  details.append(named('summary', 'dashboard.table'), scroller);

  const fill = () => {
    if (!details.open) return;
    const rows = chart.times.map((time, i) => rowOf([clockTime(time), say(chart.values[i])]));
    table.tBodies[0].replaceChildren(...rows.reverse());
  };
  chart.on('draw', fill);
  details.addEventListener('toggle', fill);
  return details;
}

/** The same in both languages, as in the user's original pages: a point for decimals, thin spaces in large numbers. */
function formatValue(value, digits) {
  return value.toFixed(digits).replace(/\B(?=(\d{3})+(?!\d))(?<!\.\d*)/g, '\u202f');
}

function subscribe() {
  const metrics = [...cards.keys()].filter((name) => cards.get(name).checkbox.checked);
  connection.send({ type: 'subscribe', metrics });
  render();
}

function showMetric({ metric, value, ts }) {
  const shown = cards.get(metric);
  // The Python original takes an empty subscription for a full one; unticked stays unticked here.
  if (!shown?.checkbox.checked || !isValue(value)) return;
  shown.value.textContent = formatValue(value, shown.digits);
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

connection.on('state', ({ phase }) => {
  document.body.classList.toggle('stale', phase !== 'open');
  if (phase === 'open') subscribe();
});
connection.on('message', (message) => {
  if (message.type === 'metric') showMetric(message);
});

const redrawCharts = () => cards.forEach(({ chart }) => chart.redraw());
document.addEventListener('themechange', redrawCharts);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redrawCharts);
onLanguageChange(render);

for (const metric of METRICS) buildCard(metric, 'metric', true);
for (const vital of VITALS) buildCard(vital, 'vital', false);
translatePage();
render();
showConnection(connection);
showWire(connection, () => ({ type: 'subscribe', metrics: ['cpu', 'clients'] }));
connection.start();
