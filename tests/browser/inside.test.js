// The inside page: what the server does, live and from a recording, and what a reader can do to it.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { onEachServer, untilText } from './lab.js';

/** How many different colours a picture has: an empty one has none. */
function coloursOf(page, id) {
  return page.evaluate((id) => {
    const canvas = document.getElementById(id);
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) colours.add(`${data[i]} ${data[i + 1]} ${data[i + 2]}`);
    return colours.size;
  }, id);
}

/** Until this many views have come and been drawn. */
function untilViews(page, count = 3) {
  return page.waitForFunction((count) => live.views.length >= count, count);
}

/** Members of the room, who live as long as the page. */
function joinRoom(page, lab, count) {
  return page.evaluate(([url, count]) => Promise.all(Array.from({ length: count }, () => new Promise((resolve) => {
    const socket = new WebSocket(url);
    (window.members ??= []).push(socket);
    socket.onmessage = resolve;
  }))), [`${lab.server.socketUrl}/ws/chat`, count]);
}

const modelOf = (page) => page.evaluate(() => live.model);

onEachServer('inside', ['--chat-interval', '0s', '--experiments'], (lab) => {
  test('every picture of the model is drawn, and the figures follow the room', async () => {
    const page = await lab.open('inside');
    await joinRoom(page, lab, 5);
    await untilText(page, '#figures', /5\s*trong phòng|trong phòng\s*5/);
    await untilViews(page);
    await page.evaluate(() => members[0].send(JSON.stringify({ type: 'chat', name: 'An', text: 'x' })));
    const shown = (await modelOf(page)) === 'evloop' ? ['timeline', 'loop', 'room', 'wheel', 'outboxes', 'heat'] : ['timeline', 'grid', 'lock', 'room', 'outboxes'];
    for (const id of shown) await page.waitForFunction((id) => byId(id).width > 0 && byId(id).checkVisibility(), id);
    for (const id of shown) assert.ok(await coloursOf(page, id) >= 1, id);
    assert.equal(await page.locator('canvas:visible').count(), shown.length);
  });

  test('views come ten times a second at most, and none to a page that nobody sees', async () => {
    const page = await lab.open('inside');
    await untilViews(page);
    await page.evaluate(() => {
      window.sent = [];
      connection.on('frame', ({ direction, data }) => { if (direction === 'out') window.sent.push(JSON.parse(data).type); });
      Object.defineProperty(document, 'hidden', { value: true, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    assert.deepEqual(await page.evaluate(() => window.sent), ['unsubscribe']);
    const times = await page.evaluate(() => live.views.map(({ ts }) => ts));
    assert.ok(times.slice(1).every((time, i) => time - times[i] >= 99), times.join());
  });

  test('the time axis is read and zoomed by keyboard', async () => {
    const page = await lab.open('inside');
    await joinRoom(page, lab, 2);
    await page.evaluate(() => members[0].send(JSON.stringify({ type: 'chat', name: 'An', text: 'x' })));
    await page.waitForFunction(() => live.items.length > 1);
    await page.click('#freeze');
    await page.focus('#timeline');
    await page.keyboard.press('ArrowLeft');
    const reading = (await modelOf(page)) === 'evloop' ? /^Lượt \d+: .+ đọc/ : /^Thread #\d+: /;
    await untilText(page, '#reading', reading);
    assert.match(await page.getAttribute('#timeline', 'aria-valuetext'), reading);
    await untilText(page, '#zoom-span', '3.00 s');
    await page.keyboard.press('+');
    await untilText(page, '#zoom-span', '1.50 s');
    await page.click('#zoom-out');
    await untilText(page, '#zoom-span', '3.00 s');
    await page.click('#language-switch');
    await untilText(page, '#reading', /^(Turn \d+: .*read|Thread #\d+: (sending|waiting))/);
  });

  test('a followed message is shown at every hop, with its function and file', async () => {
    const page = await lab.open('inside');
    await joinRoom(page, lab, 3);
    await page.fill('#follow-text', '<b>đi nào</b>');
    await page.click('#follow-send');
    await untilText(page, '#follow-note', /^Trong server: [\d.]+ (µs|ms)/);
    assert.deepEqual(await page.locator('#path strong').allTextContents(), ['socket có dữ liệu', 'đã đọc JSON', 'đến lượt, có khóa', 'đúng luật',
      'vào log của phòng', 'thành viên đầu tiên', 'thành viên cuối cùng']);
    for (const place of await page.locator('#path .aside').allTextContents()) assert.match(place, /^[\w:]+ · src\/[\w/]+\.rs$/);
  });

  test('a recording is replayed slowly, saved, opened again, and exported with nested events', async () => {
    const page = await lab.open('inside');
    await joinRoom(page, lab, 2);
    await page.evaluate(() => members[0].send(JSON.stringify({ type: 'chat', name: 'An', text: 'x' })));
    await untilViews(page, 5);
    await page.click('#freeze');
    const views = await page.evaluate(() => recording.views.length);
    await page.selectOption('#speed', '1000');
    await page.click('#play');
    await page.waitForFunction(() => position > recording.from);
    assert.ok(await page.evaluate(() => position < recording.from + 1000 * TICKS_PER_MS), 'a second would take a quarter of an hour');
    await page.click('#play');

    const [file] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
    await page.click('#freeze');
    assert.ok(await page.isHidden('#play'));
    await page.setInputFiles('#file', await file.path());
    await page.locator('#play').waitFor();
    assert.equal(await page.evaluate(() => recording.views.length), views);

    const [trace] = await Promise.all([page.waitForEvent('download'), page.click('#export')]);
    const { traceEvents } = JSON.parse(await readFile(await trace.path(), 'utf8'));
    assert.ok(traceEvents.length > 0);
    for (const row of new Set(traceEvents.map(({ tid }) => tid))) {
      const events = traceEvents.filter(({ tid }) => tid === row);
      const spans = events.map(({ ts, dur }) => [Math.round(ts * 10), Math.round((ts + dur) * 10)]).sort((a, b) => a[0] - b[0] || b[1] - a[1]);
      const open = [];
      for (const [from, to] of spans) {
        while (open.length && open.at(-1) <= from) open.pop();
        assert.ok(!open.length || to <= open.at(-1), `${from} to ${to} crosses ${open.at(-1)}`);
        open.push(to);
      }
    }
  });

  test('what is no recording is named and changes nothing', async () => {
    const page = await lab.open('inside');
    await untilViews(page);
    for (const content of ['', '{}', '{"format":"wslab-inside-1","model":"evloop","views":[{"now":1}]}', '{"format":"wslab-inside-1","model":"x","views":[]}']) {
      await page.setInputFiles('#file', { name: 'bad.json', mimeType: 'application/json', buffer: Buffer.from(content) });
      await untilText(page, '#replay-note', 'bad.json không phải bản ghi của trang này');
      await page.evaluate(() => note(''));
    }
    assert.ok(await page.isHidden('#play'));
  });

  test('a held handler stops everyone on the loop, and one client on threads', async () => {
    const page = await lab.open('inside');
    await untilViews(page);
    await page.click('#hold');
    await page.locator('#hold-result .bar').first().waitFor();
    const [held, other] = (await page.locator('#hold-result .figure').allTextContents()).map((words) => Number.parseFloat(words) * (/ms$/.test(words) ? 1 : 0));
    assert.ok(held >= 200, `${held} ms`);
    if ((await modelOf(page)) === 'evloop') {
      assert.ok(other > 150, `${other} ms`);
      await untilText(page, '#hold-result', 'Mọi client chờ');
      await untilText(page, '#slow', /Lượt \d+: 20\d ms/);
    } else {
      assert.ok(other < 150, `${other} ms`);
      await untilText(page, '#hold-result', 'Chỉ client đó chờ');
    }
  });

  test('a loop is stepped turn by turn, and runs on', async () => {
    const page = await lab.open('inside');
    await untilViews(page);
    if ((await modelOf(page)) !== 'evloop') {
      assert.ok(await page.isHidden('#stepping'));
      return;
    }
    await page.click('#step');
    await untilText(page, '#step', 'Một lượt');
    await page.click('#step');
    await untilText(page, '#steps', /Lượt \d+: /);
    await page.click('#step');
    await page.waitForFunction(() => byId('steps').childElementCount === 2);
    await page.click('#run');
    await untilText(page, '#step', 'Dừng vòng lặp');
    const views = await page.evaluate(() => live.views.length);
    await untilViews(page, views + 3);
  });

  test('after a loss the page goes on with the server that is there', async () => {
    const page = await lab.open('inside');
    await untilViews(page);
    await lab.restart();
    await page.waitForFunction(() => connection.state.phase === 'waiting');
    await page.waitForFunction(() => connection.state.phase === 'open' && live.views.length > 2);
  });
});

onEachServer('inside without experiments', [], (lab) => {
  test('the page says how they are allowed', async () => {
    const page = await lab.open('inside');
    await untilText(page, '#experiments-off', '--experiments');
    assert.ok(await page.isHidden('#experiments'));
  });
});
