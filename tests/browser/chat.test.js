// The chat page beyond the guide: reading a long log, writing in Vietnamese, and a busy room.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachServer, say, setHidden, shownTexts, untilConnected, untilText } from './lab.js';

const HOUR_MS = 3_600_000;

/** Lets the page take messages as if the server had sent them. */
function receive(page, ...messages) {
  return page.evaluate((messages) => messages.forEach((message) => log.receive(message)), messages);
}

/** As many messages as fill the log several times over. */
function fillLog(page) {
  const filler = Array.from({ length: 60 }, (_, i) => ({ type: 'chat', name: 'Filler', text: `line ${i}`, ts: Date.now() }));
  return receive(page, ...filler);
}

/** Two animation frames: what the page had queued for the next one is done. */
function nextFrame(page) {
  return page.evaluate(() => new Promise((resolve) => {
    requestAnimationFrame(() => requestAnimationFrame(resolve));
  }));
}

function scrollGap(page) {
  return page.evaluate(() => {
    const log = document.getElementById('messages');
    return Math.round(log.scrollHeight - log.scrollTop - log.clientHeight);
  });
}

async function scrollUp(page) {
  await page.evaluate(() => { document.getElementById('messages').scrollTop = 0; });
  await page.locator('#jump-button').waitFor();
}

onEachServer('chat', ['--chat-interval', '0s'], (lab) => {
  test('messages of one sender stand together; another sender, a pause and a day part them', async () => {
    const page = await lab.open('chat');
    const noon = new Date().setHours(12, 0, 0, 0) - 24 * HOUR_MS;
    const chat = (name, ts, text = 'x') => ({ type: 'chat', name, text, ts });
    await receive(page, chat('An', noon, 'first'), chat('An', noon + 1000), chat('Bình', noon + 2000), chat('Bình', noon + HOUR_MS),
      chat('Bình', noon + 24 * HOUR_MS));
    const rows = await page.locator('.row:has(.user)').evaluateAll((rows) => rows.slice(-5).map((row) => row.classList.contains('continues')));
    assert.deepEqual(rows, [false, true, false, false, false]);
    assert.equal(await page.locator('.day').count(), 2, 'before yesterday and before today');
    const weekday = new Intl.DateTimeFormat('vi', { weekday: 'long' }).format(noon);
    await untilText(page, '.day', new RegExp(weekday, 'i'));
    assert.equal(await page.textContent('.row:has-text("first") .message-time'), '12:00');

    await page.click('#language-switch');
    await untilText(page, '.day', new Intl.DateTimeFormat('en-GB', { weekday: 'long' }).format(noon));
  });

  test('comings and goings in a row are one line', async () => {
    const page = await lab.open('chat');
    const other = await lab.open('index');
    await other.evaluate((url) => {
      window.sockets = Array.from({ length: 4 }, () => new WebSocket(url));
    }, `${lab.server.socketUrl}/ws/chat`);
    await untilText(page, '#messages', '4 người đã tham gia');
    await other.evaluate(() => window.sockets.slice(1).forEach((socket) => socket.close()));
    await untilText(page, '#messages', '4 người đã tham gia, 3 người đã rời đi');
    assert.equal(await page.locator('.message.system').count(), 2);

    await say(page, 'An', 'in between');
    await page.locator('.message.me.sent').waitFor();
    await other.evaluate(() => window.sockets[0].close());
    await untilText(page, '.row:nth-last-child(2)', 'Một người dùng đã rời khỏi chat');
  });

  test('the view follows what is new, but not while the reader is above', async () => {
    const page = await lab.open('chat');
    await fillLog(page);
    await nextFrame(page);
    assert.equal(await scrollGap(page), 0);
    assert.ok(await page.isHidden('#jump-button'));

    await scrollUp(page);
    assert.equal(await page.textContent('#jump-button'), '↓ Mới nhất');
    await receive(page, ...['one', 'two'].map((text) => ({ type: 'chat', name: 'An', text, ts: Date.now() })));
    await nextFrame(page);
    assert.equal(await page.evaluate(() => document.getElementById('messages').scrollTop), 0);
    assert.equal(await page.textContent('#jump-button'), '↓ 2 tin nhắn mới');
    await untilText(page, '.row:has(.unread-marker)', /^Tin nhắn mới.*one/);

    await page.click('#jump-button');
    await page.locator('#jump-button').waitFor({ state: 'hidden' });
    await nextFrame(page);
    assert.equal(await scrollGap(page), 0);
    assert.equal(await page.locator('.unread-marker').count(), 1, 'where the reader left off');
    await receive(page, { type: 'chat', name: 'An', text: 'three', ts: Date.now() });
    await nextFrame(page);
    assert.equal(await scrollGap(page), 0);
  });

  test('sending goes back to the end', async () => {
    const page = await lab.open('chat');
    await fillLog(page);
    await nextFrame(page);
    await scrollUp(page);
    await say(page, 'An', 'back to the end');
    await page.locator('.message.me.sent').waitFor();
    await nextFrame(page);
    assert.equal(await scrollGap(page), 0);
  });

  test('in a hidden tab the title counts what is unread', async () => {
    const page = await lab.open('chat');
    await setHidden(page, true);
    await receive(page, ...['one', 'two'].map((text) => ({ type: 'chat', name: 'An', text, ts: Date.now() })));
    assert.match(await page.title(), /^\(2\) Chat/);
    await setHidden(page, false);
    assert.match(await page.title(), /^Chat/);
  });

  test('web addresses are links, and nothing else is', async () => {
    const page = await lab.open('chat');
    await say(page, 'An', 'see https://example.org/a?b=1&c=2). <b>not bold</b> javascript:alert(1) http://[bad ftp://x.org (http://example.com)');
    await page.locator('.message.me.sent').waitFor();
    const links = await page.locator('.message-text a').evaluateAll((links) => links.map(({ href, rel, target }) => [href, rel, target]));
    const safe = ['noopener noreferrer nofollow', '_blank'];
    assert.deepEqual(links, [['https://example.org/a?b=1&c=2', ...safe], ['http://example.com/', ...safe]]);
    assert.equal(await page.locator('.message-text b').count(), 0);
    assert.match((await shownTexts(page)).at(-1), /^see https:\S+\)\. <b>not bold<\/b> javascript:alert\(1\) .*\(http:\/\/example\.com\)$/);
  });

  test('the counter counts characters as the server does', async () => {
    const page = await lab.open('chat');
    await page.fill('#message-input', 'a'.repeat(399));
    assert.ok(await page.isHidden('#counter'));
    // A decomposed letter is one character, as is an emoji; white space at the ends is none.
    await page.fill('#message-input', `  ${'e\u0302\u0301'.repeat(250)}${'👋'.repeat(250)}  `);
    assert.equal(await page.textContent('#counter'), '500/500');
    assert.equal(await page.getAttribute('#message-input', 'aria-invalid'), 'false');
    await page.fill('#name-input', 'An');
    await page.click('#send-button');
    await page.locator('.message.me.sent').waitFor();
    assert.ok(await page.isHidden('#counter'));

    await page.fill('#message-input', '👋'.repeat(501));
    assert.equal(await page.textContent('#counter'), '501/500');
    assert.equal(await page.getAttribute('#message-input', 'aria-invalid'), 'true');
  });

  test('Enter sends, Shift+Enter starts a line, and the Enter of an input method does neither', async () => {
    const page = await lab.open('chat');
    await page.fill('#name-input', 'An');
    const devtools = await page.context().newCDPSession(page);
    await page.focus('#message-input');
    await devtools.send('Input.imeSetComposition', { text: 'tieengs', selectionStart: 7, selectionEnd: 7 });
    await page.evaluate(() => {
      for (const init of [{ isComposing: true }, { keyCode: 229 }]) {
        messageInput.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', cancelable: true, ...init }));
      }
    });
    assert.equal(await page.inputValue('#message-input'), 'tieengs');
    await devtools.send('Input.insertText', { text: 'tiếng' });
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('Anh');
    assert.equal(await page.inputValue('#message-input'), 'tiếng\nAnh');
    await page.keyboard.press('Enter');
    await page.locator('.message.me.sent').waitFor();
    assert.deepEqual(await shownTexts(page), [...(await shownTexts(page)).slice(0, -1), 'tiếng\nAnh']);
    assert.equal(await page.inputValue('#message-input'), '');
  });

  test('a name has one colour, which is that of another reader too', async () => {
    const [page, other] = [await lab.open('chat'), await lab.open('chat')];
    const colours = [];
    for (const reader of [page, other]) {
      await receive(reader, { type: 'chat', name: 'Colour A', text: 'a', ts: 1 }, { type: 'chat', name: 'Colour B', text: 'b', ts: 2 });
      colours.push(await reader.locator('.message-name', { hasText: /^Colour [AB]$/ }).evaluateAll((names) => names.map((name) => getComputedStyle(name).color)));
    }
    assert.deepEqual(colours[0], colours[1]);
    assert.notEqual(colours[0][0], colours[0][1]);
  });

  test('the up arrow brings back what was said last, and a slash leads to the input', async () => {
    const page = await lab.open('chat');
    await say(page, 'An', 'say it again');
    await page.locator('.message.me.sent').waitFor();
    await page.keyboard.press('ArrowUp');
    assert.equal(await page.inputValue('#message-input'), 'say it again');
    await page.focus('#messages');
    await page.keyboard.press('/');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'message-input');
    await page.keyboard.type('/');
    assert.match(await page.inputValue('#message-input'), /\//);
  });

  test('after a reload one\'s name and one\'s own messages are known', async () => {
    const page = await lab.open('chat');
    await say(page, 'Tú', 'mine before the reload');
    await page.locator('.message.me.sent', { hasText: 'mine before' }).waitFor();
    await page.reload();
    await untilConnected(page);
    await page.locator('.message.me.sent', { hasText: 'mine before' }).waitFor();
    assert.equal(await page.inputValue('#name-input'), 'Tú');
    assert.equal(await page.title(), 'Chat · WebSocket Realtime Lab', 'history is not news');
  });

  test('what was still on its way at a reload is sent again, once', async () => {
    let lossy = true;
    const page = await lab.open('chat', {
      prepare: (page) => page.routeWebSocket(/\/ws\/chat/, (socket) => {
        const upstream = socket.connectToServer();
        upstream.onMessage((data) => {
          if (!lossy || JSON.parse(data).type === 'system') socket.send(data);
        });
      }),
    });
    await say(page, 'Tú', 'over the reload');
    await page.locator('.message.me.pending').waitFor();
    lossy = false;
    await page.reload();
    await page.locator('.message.me.sent', { hasText: 'over the reload' }).waitFor();
    await say(page, 'Tú', 'and the next');
    await page.locator('.message.me.sent', { hasText: 'and the next' }).waitFor();
    assert.deepEqual((await shownTexts(page)).slice(-2), ['over the reload', 'and the next']);
  });

  test('a message whose fate is unknown can be sent again or discarded', async () => {
    const page = await lab.open('chat');
    await page.evaluate(() => ['keep', 'drop'].forEach((text) => log.setStatus(log.write('An', text), 'unsure')));
    await page.locator('.unsure', { hasText: 'drop' }).getByText('Bỏ').click();
    await page.locator('.unsure', { hasText: 'keep' }).getByText('Gửi lại').click();
    await page.locator('.message.me.sent', { hasText: 'keep' }).waitFor();
    assert.equal(await page.locator('.unsure').count(), 0);
  });

  test('another life of the room is another room, and the page says what may be missing', async () => {
    const page = await lab.open('chat');
    await say(page, 'An', 'in the old room');
    await page.locator('.message.me.sent', { hasText: 'in the old room' }).waitFor();
    await lab.restart();
    await untilText(page, '#messages', 'Có thể thiếu một số tin nhắn trong lúc mất kết nối.');
    await say(page, 'An', 'in the new room');
    await page.locator('.message.me.sent', { hasText: 'in the new room' }).waitFor();
  });

  test('what could not be stored is sent again; a rewound history is another room', async () => {
    const sent = [];
    const page = await lab.open('chat', {
      prepare: (page) => page.routeWebSocket(/\/ws\/chat/, (socket) => {
        const tell = (message) => socket.send(JSON.stringify({ ts: 1, ...message }));
        tell({ type: 'system', code: 'welcome', text: '', epoch: 'first', last_id: 4 });
        socket.onMessage((data) => {
          const { type, name, text, cid } = JSON.parse(data);
          if (type !== 'chat') return;
          sent.push(cid);
          if (sent.length === 1) {
            tell({ type: 'error', code: 'unavailable', text: '', cid, retry_after_ms: 10, stored: 'unknown' });
            return;
          }
          tell({ type: 'ack', cid, id: 5, stored: 'stream' });
          tell({ type: 'chat', name, text, id: 5 });
          tell({ type: 'system', code: 'resync', text: 'rewound', epoch: 'second', last_id: 2, recovered: false });
          tell({ type: 'chat', name: 'Bình', text: 'the third of the second', id: 3 });
        });
      }),
    });
    await say(page, 'An', 'the fifth of the first');
    await page.locator('.message', { hasText: 'the third of the second' }).waitFor();
    await page.locator('.message.me.sent', { hasText: 'the fifth of the first' }).waitFor();
    assert.equal(sent.length, 2);
    assert.equal(sent[0], sent[1], 'under the same cid');
  });

  test('200 messages a second leave the page smooth, and the log capped', async (t) => {
    const seconds = Number(process.env.WSLAB_BUSY_SECONDS ?? 5);
    const page = await lab.open('chat');
    const crowd = await lab.open('index');
    const devtools = await page.context().newCDPSession(page);
    await devtools.send('Performance.enable');
    const measure = async () => Object.fromEntries((await devtools.send('Performance.getMetrics')).metrics.map(({ name, value }) => [name, value]));
    await page.evaluate(() => {
      window.frameGaps = [];
      let last = performance.now();
      const watch = (now) => {
        window.frameGaps.push(now - last);
        last = now;
        requestAnimationFrame(watch);
      };
      requestAnimationFrame(watch);
    });
    const start = await measure();
    const count = seconds * 200;
    await crowd.evaluate(([url, count]) => new Promise((resolve) => {
      const socket = new WebSocket(url);
      let sent = 0;
      socket.onopen = () => {
        const started = performance.now();
        const timer = setInterval(() => {
          for (; sent < count && sent < (performance.now() - started) / 5; sent += 1) {
            socket.send(JSON.stringify({ type: 'chat', name: `Guest ${sent % 7}`, text: `busy ${sent} https://example.org/${sent}` }));
          }
          if (sent === count) {
            clearInterval(timer);
            resolve();
          }
        }, 10);
      };
    }), [`${lab.server.socketUrl}/ws/chat`, count]);
    await page.locator('.message-text', { hasText: `busy ${count - 1} ` }).waitFor();
    await nextFrame(page);
    assert.ok(await page.locator('.row').count() <= 500);
    assert.ok(await scrollGap(page) <= 1, 'it still follows');

    // A machine with other work to do shows frames late that the page had drawn in time: what counts is the page's own work.
    const end = await measure();
    const work = ['ScriptDuration', 'LayoutDuration', 'RecalcStyleDuration'].reduce((sum, name) => sum + end[name] - start[name], 0);
    const gaps = (await page.evaluate(() => window.frameGaps)).sort((a, b) => a - b);
    const late = gaps.filter((gap) => gap > 34).length;
    await devtools.send('HeapProfiler.collectGarbage');
    const heap = (await measure()).JSHeapUsedSize / 2 ** 20;
    t.diagnostic(`${gaps.length} frames, ${late} late, the latest after ${gaps.at(-1).toFixed()} ms; ${(work / seconds * 1000).toFixed()} ms of work a second; ${heap.toFixed(1)} MiB`);
    assert.ok(work < seconds * 0.5, `${work} s of work in ${seconds} s`);
    assert.ok(heap < 30, `${heap} MiB`);
  });
});

onEachServer('chat with a rate limit', ['--chat-interval', '3s'], (lab) => {
  test('being too fast is a short wait, said once', async () => {
    const page = await lab.open('chat');
    await say(page, 'An', 'one');
    await page.locator('.message.me.sent').waitFor();
    await page.fill('#message-input', 'two');
    for (let i = 0; i < 5; i += 1) await page.press('#message-input', 'Enter');
    // How long depends on when the second one came.
    await untilText(page, '#notice.wait', /Vui lòng đợi [123] giây\./);
    await untilText(page, '#send-button', /^Đợi \ds$/);
    assert.equal(await page.inputValue('#message-input'), 'two');
    assert.equal(await page.locator('.message.wait, .message.error').count(), 1);
    await page.locator('#send-button:enabled').waitFor();
    await page.press('#message-input', 'Enter');
    await page.locator('.message.me.sent', { hasText: 'two' }).waitFor();
    assert.ok(await page.isHidden('#notice'));
  });
});
