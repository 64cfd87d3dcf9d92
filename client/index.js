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
  const known = hasText(`server.${server}.long`);
  model.textContent = phase !== 'open' ? '' : t(known ? `server.${server}.long` : 'server.unknown');
}

/** The server may be another one than the page came from, or the page may be a file. */
function linkTo(url) {
  for (const link of document.querySelectorAll('[data-http]')) link.href = new URL(link.dataset.http, url.replace(/^ws/, 'http'));
}

connection.addEventListener('state', ({ detail: { phase, url } }) => {
  renderModel();
  if (phase === 'open') {
    linkTo(url);
    connection.send({ type: 'subscribe', metrics: ['clients'] });
  } else {
    clientCount.textContent = '--';
  }
});
connection.addEventListener('message', ({ detail: { metric, value } }) => {
  if (metric === 'clients') clientCount.textContent = value;
});
document.addEventListener('languagechange', renderModel);

showConnection(connection);
connection.start();
