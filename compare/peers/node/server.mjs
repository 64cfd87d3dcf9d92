// The lab's protocol, part 1, on Node.js and ws.

import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import * as lab from '../lab.mjs';

const room = new Set();
const dashboard = new Set();

function broadcast(clients, text) {
  // One buffer for all; ws then only makes the header anew.
  const data = Buffer.from(text);
  for (const socket of clients) socket.send(data, { binary: false });
}

function chat(socket, client) {
  room.add(socket);
  if (room.size <= lab.NOTICE_LIMIT) {
    const others = new Set(room);
    others.delete(socket);
    broadcast(others, lab.joined(room.size));
  }
  socket.send(lab.welcome(room.size));
  socket.on('message', (raw) => {
    const { broadcast: said, refusal } = lab.chat(raw, client);
    if (refusal) socket.send(refusal);
    else broadcast(room, said);
  });
  socket.on('close', () => {
    room.delete(socket);
    if (room.size <= lab.NOTICE_LIMIT) broadcast(room, lab.left(room.size));
  });
}

function watch(socket, client) {
  socket.wanted = client.wanted;
  dashboard.add(socket);
  socket.send(lab.dashboardWelcome());
  socket.on('message', (raw) => {
    const { wanted, answer, refusal } = lab.subscribe(raw);
    if (!refusal) socket.wanted = wanted;
    socket.send(refusal ?? answer);
  });
  socket.on('close', () => dashboard.delete(socket));
}

function echo(socket) {
  socket.on('message', (data, binary) => socket.send(data, { binary }));
}

const endpoints = { '/ws/chat': chat, '/ws/dashboard': watch, '/ws/echo': echo };
const http = createServer((_, response) => response.writeHead(404).end());
const server = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 64 * 1024 });

http.on('upgrade', (request, socket, head) => {
  const serve = endpoints[request.url.split('?')[0]];
  if (!serve) return socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n');
  server.handleUpgrade(request, socket, head, (client) => {
    client.alive = true;
    client.on('error', () => {});
    client.on('pong', () => { client.alive = true; });
    serve(client, lab.newClient(request.url));
  });
});

setInterval(() => {
  for (const [metric, message] of lab.tick()) {
    broadcast([...dashboard].filter((socket) => socket.wanted.includes(metric)), message);
  }
}, 1000);
setInterval(() => {
  for (const client of server.clients) {
    if (!client.alive) client.terminate();
    client.alive = false;
    client.ping();
  }
}, 20_000);
process.on('SIGTERM', () => process.exit(0));
http.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(`listening on http://127.0.0.1:${http.address().port}`);
});
