// The wire view: what a learner sees of the protocol, and can send by hand.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachServer, say, shownTexts, untilConnected, untilText } from './lab.js';

async function openWire(page) {
  await page.click('#wire-toggle');
  await page.locator('#wire').waitFor();
  await page.locator('.frame').first().waitFor();
}

/** The newest frame in the list that matches. */
function frame(page, classes, text = '') {
  return page.locator(`.frame${classes}`, { hasText: text }).first();
}

onEachServer('wire view', ['--chat-interval', '0s'], (lab) => {
  test('is closed at first, and shows the handshake from before it was opened', async () => {
    const page = await lab.open('chat');
    assert.ok(await page.isHidden('#wire'));
    assert.equal(await page.getAttribute('#wire-toggle', 'aria-expanded'), 'false');
    await openWire(page);
    await frame(page, '.out.handshake', 'GET /ws/chat').waitFor();
    await frame(page, '.in.handshake', '101 Switching Protocols · permessage-deflate').waitFor();
    await page.click('#theory-1 summary');
    const { host } = new URL(lab.server.url);
    assert.deepEqual((await page.textContent('#wire-request')).split('\n').slice(0, 4),
      ['GET /ws/chat?history=50 HTTP/1.1', `Host: ${host}`, 'Upgrade: websocket', 'Connection: Upgrade']);
    assert.match(await page.textContent('#wire-response'), /^HTTP\/1\.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover$/);
    await page.click('.wire-head button');
    assert.ok(await page.isHidden('#wire'));
    assert.equal(await page.evaluate(() => document.activeElement.id), 'wire-toggle');
  });

  test('shows each frame with direction, time, type, size and JSON', async () => {
    const page = await lab.open('chat');
    await openWire(page);
    await untilText(page, '.ready-state', 'readyState 1 OPEN');
    await say(page, 'Tú', 'tiếng Việt');
    const sent = frame(page, '.out.text', 'tiếng Việt');
    await sent.waitFor();
    await frame(page, '.in.text', '"ack"').waitFor();
    const json = await sent.locator('.frame-preview').textContent();
    assert.equal(await sent.locator('.frame-size').textContent(), `${Buffer.byteLength(json)} B`);
    assert.match(await sent.locator('.frame-time').textContent(), /^\d\d:\d\d:\d\d\.\d\d\d$/);
    await sent.locator('summary').click();
    assert.equal(await sent.locator('pre').textContent(), JSON.stringify(JSON.parse(json), null, 2));
  });

  test('pauses, filters, clears, and keeps no more than 200 frames', async () => {
    const page = await lab.open('chat');
    await openWire(page);
    await page.click('#wire-pause');
    await page.evaluate(() => connection.send({ type: 'ping' }));
    await page.waitForFunction(() => new Promise((resolve) => { connection.addEventListener('message', resolve, { once: true }); connection.send({ type: 'ping' }); }));
    assert.equal(await frame(page, '', '"pong"').count(), 0);
    await page.click('#wire-pause');
    await frame(page, '.in', '"pong"').waitFor();

    await page.selectOption('#wire-filter', 'out');
    await page.locator('.frame.in').first().waitFor({ state: 'detached' });
    await page.locator('.frame.out').first().waitFor();
    assert.ok(await page.locator('.frame.out').count() > 0);
    await page.selectOption('#wire-filter', 'close');
    await page.locator('.frame').first().waitFor({ state: 'detached' });

    await page.selectOption('#wire-filter', 'all');
    await page.evaluate(() => { for (let i = 0; i < 150; i += 1) connection.send({ type: 'ping' }); });
    await page.waitForFunction(() => document.querySelectorAll('.frame').length === 200);
    await page.locator('.wire-tools button').last().click();
    await page.locator('.frame').first().waitFor({ state: 'detached' });
  });

  test('sends the frames a browser can send', async () => {
    const page = await lab.open('chat');
    await openWire(page);
    await page.click('#theory-2 summary');
    assert.equal(await page.locator('#theory-2 tbody tr').count(), 5);
    await page.fill('#wire-payload', '{"type":"chat","name":"Tay","text":"by hand"}');
    await page.click('#wire-send-text');
    await frame(page, '.out.text', 'by hand').waitFor();
    await page.click('#wire-send-binary');
    await frame(page, '.out.binary', '7b 22 74 79 70 65 22').waitFor();
    await page.locator('.message-text', { hasText: 'by hand' }).nth(1).waitFor();
    assert.deepEqual((await shownTexts(page)).slice(-2), ['by hand', 'by hand']);

    await page.fill('#wire-code', '1002');
    await page.click('#wire-send-close');
    await untilText(page, '.wire-fault', /^Trang chỉ gửi được close code .* 1002$/);
    await page.fill('#wire-code', '1000');
    await page.fill('#wire-reason', 'ế'.repeat(42));
    await page.click('#wire-send-close');
    await untilText(page, '.wire-fault', 'Lý do quá dài (tối đa 123 byte)');
    await page.fill('#wire-code', '4000');
    await page.fill('#wire-reason', 'xong');
    await page.click('#wire-send-close');
    await frame(page, '.out.close', '4000 · xong').waitFor();
    await frame(page, '.in.close', '4000').waitFor();
    await untilText(page, '.ready-state', 'readyState 3 CLOSED');
    await untilConnected(page);
    await untilText(page, '.ready-state', 'readyState 1 OPEN');
  });

  test('is on the dashboard too, with the theory of the server that runs, in both languages', async () => {
    const page = await lab.open('dashboard');
    await openWire(page);
    await frame(page, '.in.text', '"metric"').waitFor();
    await page.click('#theory-3 summary');
    await untilText(page, '.here', /^Server này: (Event loop|Một thread)/);
    await page.click('#language-switch');
    await untilText(page, '#theory-3 summary', '3. Why asynchronous?');
    await untilText(page, '.here', /^This server: (Event loop|One thread)/);
    await page.click('#theory-2 summary');
    await page.click('#wire-send-text');
    await frame(page, '.in.text', '"subscribed"').waitFor();
  });
});
