// How a page keeps its connection, through a network that the tests break, on a clock that they turn.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachServer, recordStatus, setHidden, untilConnected, untilText } from './lab.js';

/**
 * A network in front of the server that can be `up`, `down` (every connection is closed with `code`) or `silent`
 * (nothing gets through, and nobody says so), and a page's clock that `fastForward` turns.
 */
function brokenNetwork() {
  const network = { state: 'up', code: 1006, sockets: [] };
  network.prepare = async (page) => {
    await page.clock.install();
    await page.routeWebSocket(/\/ws\//, (socket) => {
      network.sockets.push(socket);
      if (network.state === 'down') {
        socket.close({ code: network.code });
        return;
      }
      const upstream = socket.connectToServer();
      socket.onMessage((data) => { if (network.state === 'up') upstream.send(data); });
      upstream.onMessage((data) => { if (network.state === 'up') socket.send(data); });
    });
  };
  network.breakDown = async (code = 1006) => {
    Object.assign(network, { state: 'down', code });
    await network.sockets.at(-1).close({ code });
  };
  return network;
}

/** Keeps what the page sends and hears from now on, as `direction type`. */
async function recordFrames(page) {
  await page.evaluate(() => {
    window.frames = [];
    connection.on('frame', ({ direction, type, data }) => {
      window.frames.push(`${direction} ${type === 'text' ? JSON.parse(data).type : type}`);
    });
  });
  return () => page.evaluate(() => window.frames);
}

/** Keeps each wait from now on, as the attempt it is before and its length; `until(count)` there were so many. */
async function recordWaits(page) {
  await page.evaluate(() => {
    window.waits = [];
    connection.on('state', ({ phase, attempt, since, until }) => {
      if (phase === 'waiting') window.waits.push([attempt, until - since]);
    });
  });
  return {
    until: (count) => page.waitForFunction((count) => window.waits.length >= count, count),
    /** In whole seconds, without the jitter. */
    async all() {
      return (await page.evaluate(() => window.waits)).map(([attempt, ms]) => [attempt, 2 ** Math.ceil(Math.log2(ms / 1000))]);
    },
  };
}

onEachServer('connection', [], (lab) => {
  test('five attempts after 1, 2, 4, 8 and 16 s, then a word and a button; the network\'s return is enough', async () => {
    const network = brokenNetwork();
    const page = await lab.open('chat', network);
    const waits = await recordWaits(page);
    const texts = await recordStatus(page);
    await network.breakDown();
    for (let attempt = 1; attempt <= 5; attempt += 1) {
      await waits.until(attempt);
      // The last wait is long enough to be looked at while it lasts.
      if (attempt === 5) await untilText(page, '.status-detail', 'Lần thử 5/5');
      await page.clock.fastForward(2 ** (attempt - 1) * 1000);
    }
    await untilText(page, '#status-text', 'Không thể kết nối. Vui lòng tải lại trang.');
    assert.deepEqual(await waits.all(), [[1, 1], [2, 2], [3, 4], [4, 8], [5, 16]]);
    assert.ok((await texts()).some((text) => /^Kết nối lại sau \d+s\.\.\.$/.test(text)));
    assert.ok(await page.isVisible('#retry-button'));
    assert.equal(network.sockets.length, 6);

    network.state = 'up';
    await page.evaluate(() => dispatchEvent(new Event('online')));
    await untilConnected(page);
    assert.ok(await page.isHidden('#retry-button'));
  });

  test('"now" and the tab\'s return do not sit out the delay', async () => {
    const network = brokenNetwork();
    const page = await lab.open('dashboard', network);
    for (const comeBack of [() => page.click('#retry-button'), () => setHidden(page, false)]) {
      await network.breakDown();
      for (const seconds of [1, 2, 4]) {
        await untilText(page, '#status-text', `Kết nối lại sau ${seconds}s...`);
        await page.clock.fastForward(seconds * 1000);
      }
      await untilText(page, '#status-text', /Kết nối lại sau 8s/);
      const left = await page.evaluate(() => connection.state.until - performance.now());
      assert.ok(left > 5000, `${left} ms`);
      network.state = 'up';
      await comeBack();
      await page.waitForFunction(() => connection.state.phase === 'open', null, { timeout: 4000 });
    }
  });

  test('a close code that a server uses for coming back is followed by coming back', async () => {
    const network = brokenNetwork();
    const page = await lab.open('chat', network);
    for (const code of [1001, 1013]) {
      await network.breakDown(code);
      await untilText(page, '#status-text', 'Kết nối lại sau 1s...');
      network.state = 'up';
      await untilConnected(page);
      await page.clock.fastForward(16_000);
    }
  });

  test('a restarting server is waited for within the time it named, and no attempt counts meanwhile', async () => {
    const network = brokenNetwork();
    const page = await lab.open('chat', network);
    await page.evaluate(() => { Math.random = () => 0.5; });
    const waits = await recordWaits(page);
    const restart = { type: 'system', code: 'restart', text: 'x', ts: Date.now(), retry_after_ms: 64_000 };
    await network.sockets.at(-1).send(JSON.stringify(restart));
    await untilText(page, '#messages', 'Server sắp khởi động lại.');
    await network.breakDown(1012);
    for (let attempt = 1; attempt <= 6; attempt += 1) {
      await waits.until(attempt);
      await page.clock.fastForward(2 ** (6 - attempt) * 1000);
    }
    // Half of what is left each time, and then as after any other loss.
    assert.deepEqual((await waits.all()).slice(0, 6), [[1, 32], [1, 16], [1, 8], [1, 4], [1, 2], [1, 1]]);
    network.state = 'up';
    await page.clock.fastForward(64_000);
    await untilConnected(page);
  });

  test('a server that greets and breaks off is a failed attempt each time, told once', async () => {
    const sockets = [];
    let patient = true;
    const page = await lab.open('chat', {
      async prepare(page) {
        await page.clock.install();
        await page.routeWebSocket(/\/ws\/chat/, (socket) => {
          sockets.push(socket);
          socket.send(JSON.stringify({ type: 'system', code: 'welcome', text: 'x', ts: Date.now(), online_count: 1, epoch: `e${sockets.length}`, last_id: 0, server: 'evloop', ping_interval_ms: 20_000 }));
          if (!patient) socket.close({ code: 1011 });
        });
      },
    });
    const waits = await recordWaits(page);
    patient = false;
    await sockets[0].close({ code: 1011 });
    for (const attempt of [1, 2, 3, 4, 5]) {
      await waits.until(attempt);
      await page.clock.fastForward(2 ** (attempt - 1) * 1000);
    }
    await untilText(page, '#status-text', 'Không thể kết nối. Vui lòng tải lại trang.');
    assert.deepEqual(await waits.all(), [[1, 1], [2, 2], [3, 4], [4, 8], [5, 16]]);
    assert.equal(sockets.length, 6);
    const notes = await page.locator('.message.system').evaluateAll((notes) => notes.map(({ textContent }) => textContent.replace(/\.? ?\d\d:\d\d$/, '')));
    assert.deepEqual(notes, ['Có thể thiếu một số tin nhắn trong lúc mất kết nối', 'Mất kết nối với server']);

    patient = true;
    await page.evaluate(() => dispatchEvent(new Event('online')));
    await untilConnected(page);
    assert.equal(await page.locator('.message.system').count(), 3);
  });

  test('a server that greets and falls silent is a failed attempt each time', async () => {
    const network = brokenNetwork();
    const page = await lab.open('chat', network);
    const waits = await recordWaits(page);
    for (const attempt of [1, 2]) {
      network.state = 'silent';
      await page.clock.fastForward(26_000);
      await page.clock.fastForward(5_000);
      await waits.until(attempt);
      network.state = 'up';
      await page.clock.fastForward(attempt * 1000);
      await untilConnected(page);
    }
    assert.deepEqual(await waits.all(), [[1, 1], [2, 2]]);
  });

  test('one that lasted is a success: the next loss starts anew at 1 s', async () => {
    const network = brokenNetwork();
    const page = await lab.open('dashboard', network);
    const waits = await recordWaits(page);
    for (const [i, lasted] of [5_000, 5_000, 16_000].entries()) {
      await page.clock.fastForward(lasted);
      await untilConnected(page);
      await network.breakDown();
      network.state = 'up';
      await waits.until(i + 1);
      await page.clock.fastForward(2000);
      await untilConnected(page);
    }
    assert.deepEqual(await waits.all(), [[1, 1], [2, 2], [1, 1]]);
  });

  test('a wall clock that is set back or forth changes no wait', async () => {
    const network = brokenNetwork();
    const page = await lab.open('chat', network);
    const waits = await recordWaits(page);
    await network.breakDown();
    for (const attempt of [1, 2, 3]) {
      await waits.until(attempt);
      await page.clock.fastForward(2 ** (attempt - 1) * 1000);
    }
    await waits.until(4);
    for (const time of [0, Date.now() + 86_400_000]) {
      await page.clock.setSystemTime(time);
      await page.clock.runFor(200);
      await untilText(page, '#status-text', /^Kết nối lại sau [5678]s\.\.\.$/);
    }
    await page.evaluate(() => log.receive({ type: 'error', code: 'rate_limited', retry_after_ms: 3000 }));
    await page.clock.setSystemTime(0);
    await page.clock.runFor(200);
    await untilText(page, '#send-button', /^Đợi [123]s$/);
    network.state = 'up';
    await page.clock.fastForward(8000);
    await untilConnected(page);
    await untilText(page, '#send-button', /^Gửi$/);
  });

  test('what slept through an answer\'s time asks once more before it gives up', async () => {
    const network = brokenNetwork();
    const page = await lab.open('chat', network);
    const frames = await recordFrames(page);
    network.state = 'silent';
    await page.clock.fastForward(26_000);
    await page.waitForFunction(() => window.frames.includes('out ping'));
    network.state = 'up';
    await page.clock.fastForward(3_600_000);
    await page.waitForFunction(() => window.frames.includes('in pong'));
    assert.ok(!(await frames()).includes('in silence'));
    await untilConnected(page);
  });

  test('closed for its conduct (1008), a page says why and stays away until it is told otherwise', async () => {
    const network = brokenNetwork();
    const page = await lab.open('dashboard', network);
    await page.evaluate(() => {
      for (let i = 0; i < 51; i += 1) connection.sendData('{');
    });
    await untilText(page, '#status-text', /^Server đã từ chối kết nối\. \S/);
    await page.clock.fastForward(120_000);
    assert.equal(network.sockets.length, 1);
    await page.click('#retry-button');
    await untilConnected(page);
  });

  test('a quiet link is asked, and an answer is enough', async () => {
    const page = await lab.open('chat', brokenNetwork());
    const frames = await recordFrames(page);
    await page.clock.fastForward(26_000);
    await page.waitForFunction(() => window.frames.includes('in pong'));
    await page.clock.fastForward(5_000);
    await page.clock.fastForward(5_000);
    assert.equal((await frames())[0], 'out ping');
    assert.ok(!(await frames()).includes('in silence'));
    await untilConnected(page);
  });

  test('a link that answers nothing is dead, and the page comes back by itself', async () => {
    const network = brokenNetwork();
    const page = await lab.open('chat', network);
    const frames = await recordFrames(page);
    network.state = 'silent';
    await page.clock.fastForward(26_000);
    await page.waitForFunction(() => window.frames.includes('out ping'));
    await page.clock.fastForward(5_000);
    await untilText(page, '#messages', 'Mất kết nối với server.');
    network.state = 'up';
    await page.clock.fastForward(1_000);
    await untilConnected(page);
    assert.deepEqual((await frames()).slice(0, 3), ['out ping', 'in silence', 'out handshake']);
    await untilText(page, '#online-count', '1 người online');
  });

  test('a tab that wakes does not trust a link that slept', async () => {
    const network = brokenNetwork();
    const page = await lab.open('chat', network);
    const frames = await recordFrames(page);
    network.state = 'silent';
    await setHidden(page, false);
    await page.waitForFunction(() => window.frames.includes('out ping'));
    await page.clock.fastForward(5_000);
    await untilText(page, '#status-text', /^(Mất kết nối|Kết nối lại)/);
    assert.ok((await frames()).includes('in silence'));
  });

  test('a server that does not speak of pings is never sent one', async () => {
    const sent = [];
    const page = await lab.open('chat', {
      async prepare(page) {
        await page.clock.install();
        await page.routeWebSocket(/\/ws\/chat/, (socket) => {
          socket.onMessage((data) => sent.push(data));
          socket.send(JSON.stringify({ type: 'system', text: 'Chào mừng đến chat room! Hiện có 1 người online.', ts: 0, online_count: 1 }));
        });
      },
    });
    await page.clock.fastForward(600_000);
    await setHidden(page, false);
    await untilConnected(page);
    assert.deepEqual(sent, []);
  });

  test('what takes the connection but never greets is given up', async () => {
    const page = await lab.open('chat', {
      connected: false,
      async prepare(page) {
        await page.clock.install();
        await page.routeWebSocket(/\/ws\/chat/, () => {});
      },
    });
    await page.waitForFunction(() => connection.readyState === WebSocket.OPEN);
    assert.equal(await page.textContent('#status-text'), 'Đang kết nối...');
    await page.clock.fastForward(10_000);
    await untilText(page, '#status-text', 'Kết nối lại sau 1s...');
  });
});
