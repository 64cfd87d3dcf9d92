'use strict';

/*
 * The index page: which server is running and how many clients it has, as it says itself on a connection that
 * asks for that one figure; and links to what it serves over HTTP.
 */

const connection = new Connection('/ws/dashboard');
const model = byId('server-model');
const clientCount = byId('client-count');

function renderModel() {
  const { phase, server } = connection.state;
  const key = hasText(`server.${server}`) ? `server.${server}` : 'server.unknown';
  model.textContent = phase === 'open' ? t(key) : '';
}

/** The server may be another one than the page came from, or the page may be a file. */
function linkTo(url) {
  // Beside /ws/, wherever that is.
  for (const link of document.querySelectorAll('[data-http]')) link.href = new URL(`..${link.dataset.http}`, url.replace(/^ws/, 'http'));
}

/** There is a report only where the server was given one; another origin's may not be asked for. */
async function findReport() {
  const { href } = byId('report').querySelector('a');
  if (new URL(href).origin !== location.origin) return;
  const { ok = false } = await fetch(href, { method: 'HEAD' }).catch(() => ({}));
  byId('report').hidden = !ok;
}

connection.on('state', ({ phase, url }) => {
  renderModel();
  if (phase === 'open') {
    linkTo(url);
    findReport();
    connection.send({ type: 'subscribe', metrics: ['clients'] });
  } else {
    clientCount.textContent = '--';
  }
});
connection.on('message', ({ metric, value }) => {
  if (metric === 'clients' && isValue(value)) clientCount.textContent = value;
});
onLanguageChange(renderModel);

showConnection(connection);
connection.start();
