// The lab's protocol, part 1, on Bun's own server: uWebSockets and its publish.

import * as lab from '../lab.mjs';

const endpoints = new Set(['/ws/chat', '/ws/dashboard', '/ws/echo']);
let online = 0;

function open(socket) {
  if (socket.data.path === '/ws/chat') {
    online += 1;
    if (online <= lab.NOTICE_LIMIT) server.publish('room', lab.joined(online));
    socket.subscribe('room');
    socket.send(lab.welcome(online));
  } else if (socket.data.path === '/ws/dashboard') {
    for (const metric of socket.data.wanted) socket.subscribe(metric);
    socket.send(lab.dashboardWelcome());
  }
}

function message(socket, raw) {
  if (socket.data.path === '/ws/echo') {
    socket.send(raw);
  } else if (socket.data.path === '/ws/chat') {
    const { broadcast, refusal } = lab.chat(raw, socket.data);
    if (refusal) socket.send(refusal);
    else server.publish('room', broadcast);
  } else {
    const { wanted, answer, refusal } = lab.subscribe(raw);
    if (!refusal) {
      for (const metric of socket.data.wanted) socket.unsubscribe(metric);
      for (const metric of wanted) socket.subscribe(metric);
      socket.data.wanted = wanted;
    }
    socket.send(refusal ?? answer);
  }
}

function close(socket) {
  if (socket.data.path === '/ws/chat') {
    online -= 1;
    if (online <= lab.NOTICE_LIMIT) server.publish('room', lab.left(online));
  }
}

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch(request, server) {
    const path = new URL(request.url).pathname;
    if (endpoints.has(path) && server.upgrade(request, { data: lab.newClient(path) })) return undefined;
    return new Response(null, { status: 404 });
  },
  websocket: { open, message, close, perMessageDeflate: false, maxPayloadLength: 64 * 1024, idleTimeout: 30, sendPings: true },
});

setInterval(() => {
  for (const [metric, text] of lab.tick()) server.publish(metric, text);
}, 1000);
process.on('SIGTERM', () => process.exit(0));
console.log(`listening on http://127.0.0.1:${server.port}`);
