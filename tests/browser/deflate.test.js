// Compression as clients of the wild speak it: headless Chromium, and `ws` for Node with its compression on.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';
import { onEachServer } from './lab.js';

const AGREED = 'permessage-deflate; client_no_context_takeover';
const FLAGS = ['--chat-interval', '0s', '--notice-limit', '0', '--deflate-restart', '5', '--metric-interval', '50ms'];
const MESSAGES = 60;
const DEADLINE = 10_000;

const text = (number) => `message ${number} of sixty, much like all the others`;

/** A client of `ws` whose messages are kept from the start. */
async function connect(url, perMessageDeflate = true) {
  const socket = new WebSocket(url, { perMessageDeflate: perMessageDeflate && { threshold: 0 } });
  const messages = [];
  let waiting = null;
  socket.on('message', (data, binary) => {
    messages.push(binary ? data : data.toString());
    waiting?.();
  });
  socket.on('close', (code, reason) => waiting?.(new Error(`closed by the server: ${code} ${reason}`)));
  await once(socket, 'open');
  return {
    socket,
    messages,
    /** The next message; fails when none has come in `DEADLINE` milliseconds, or the server has closed. */
    async next() {
      while (messages.length === 0) {
        await new Promise((resolve, reject) => {
          const deadline = setTimeout(() => reject(new Error('no message came in time')), DEADLINE);
          waiting = (error) => {
            clearTimeout(deadline);
            if (error) reject(error); else resolve();
          };
        });
      }
      return messages.shift();
    },
    async nextChat() {
      for (;;) {
        const message = JSON.parse(await this.next());
        if (message.type === 'chat') return message.text;
      }
    },
  };
}

onEachServer('compression', FLAGS, (lab) => {
  test('Chromium hears every message, whenever it comes in', async () => {
    const page = await lab.open('index', { connected: false });
    const speaker = await connect(`${lab.server.socketUrl}/ws/chat`, false);
    for (let number = 0; number < MESSAGES; number += 1) {
      if (number % 6 === 0) {
        await page.evaluate(([url, first]) => new Promise((resolve) => {
          window.members ??= [];
          const member = { first, heard: [], socket: new WebSocket(url) };
          window.members.push(member);
          member.socket.onmessage = ({ data }) => {
            const message = JSON.parse(data);
            if (message.type === 'chat') member.heard.push(message.text);
            else resolve();
          };
        }), [`${lab.server.socketUrl}/ws/chat`, number]);
      }
      if (number % 4 === 0) await page.evaluate(() => window.members[0].socket.send('no JSON, and long enough to be compressed'));
      speaker.socket.send(JSON.stringify({ type: 'chat', name: 'Alice', text: text(number) }));
      assert.equal(await speaker.nextChat(), text(number));
    }
    await page.waitForFunction((count) => window.members.every(({ first, heard }) => heard.length === count - first), MESSAGES);
    const members = await page.evaluate(() => window.members.map(({ first, heard, socket }) => ({ first, heard, agreed: socket.extensions })));
    for (const { first, heard, agreed } of members) {
      assert.equal(agreed, AGREED);
      assert.deepEqual(heard, Array.from({ length: MESSAGES - first }, (_, index) => text(first + index)));
    }
    speaker.socket.close();
  });

  test('Chromium gets back what it sends', async () => {
    const page = await lab.open('index', { connected: false });
    const echoed = await page.evaluate(async (url) => {
      const socket = new WebSocket(url);
      await new Promise((resolve) => { socket.onopen = resolve; });
      const results = [];
      for (const message of ['', 'Hello', 'Chào 🌊, '.repeat(3000)]) {
        socket.send(message);
        const { data } = await new Promise((resolve) => { socket.onmessage = resolve; });
        results.push(data === message);
      }
      socket.close();
      return results;
    }, `${lab.server.socketUrl}/ws/echo`);
    assert.deepEqual(echoed, [true, true, true]);
  });

  test('ws hears every message, whenever it comes in', async () => {
    const speaker = await connect(`${lab.server.socketUrl}/ws/chat`, false);
    const members = [];
    for (let number = 0; number < MESSAGES; number += 1) {
      if (number % 3 === 0) {
        const member = await connect(`${lab.server.socketUrl}/ws/chat`);
        assert.equal(JSON.parse(await member.next()).code, 'welcome');
        members.push({ member, first: number });
      }
      // Fifty faults in a row close a client, so not one for every message.
      if (number % 4 === 0) members[0].member.socket.send('no JSON');
      speaker.socket.send(JSON.stringify({ type: 'chat', name: 'Alice', text: text(number) }));
      assert.equal(await speaker.nextChat(), text(number));
    }
    for (const { member, first } of members) {
      assert.equal(member.socket.extensions, 'permessage-deflate');
      for (let number = first; number < MESSAGES; number += 1) assert.equal(await member.nextChat(), text(number));
      member.socket.close();
    }
    speaker.socket.close();
  });

  test('ws gets back what it sends, and each tick', async () => {
    const echo = await connect(`${lab.server.socketUrl}/ws/echo`);
    for (const message of ['', 'Hello', 'Chào 🌊, '.repeat(3000), Buffer.alloc(60_000, 7)]) {
      echo.socket.send(message);
      assert.deepEqual(await echo.next(), message);
    }
    echo.socket.close();
    const watcher = await connect(`${lab.server.socketUrl}/ws/dashboard`);
    assert.equal(JSON.parse(await watcher.next()).code, 'welcome');
    for (let tick = 0; tick < 4; tick += 1) {
      for (const metric of ['temperature', 'stock', 'cpu']) assert.equal(JSON.parse(await watcher.next()).metric, metric);
    }
    watcher.socket.close();
  });
});
