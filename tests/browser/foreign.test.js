// What a page meets that is not the lab's own: a proxy in front, other people's data in its storage, any address it is
// told, and any server it may find there. It keeps working, says what is wrong, and loses nothing that was typed.

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { SERVERS, fileUrl, onEachServer, openPage, say, startBrowser, startProxy, startServer, untilConnected, untilText } from './lab.js';

const WELCOME = { type: 'system', code: 'welcome', text: 'x', ts: 1_700_000_000_000, online_count: 1, epoch: 'e', last_id: 0, server: 'evloop', ping_interval_ms: 20_000 };

let browser;
before(async () => { browser = await startBrowser(); });
after(() => browser.close());

for (const binary of SERVERS) {
  test(`behind a proxy that serves the lab under a path, every page stays under it, on ${basename(binary)}`, async () => {
    const report = join(tmpdir(), `wslab-proxied-report-${process.pid}.html`);
    await writeFile(report, '<!DOCTYPE html><title>Report</title>');
    const server = await startServer(binary, { flags: ['--report', report] });
    const proxy = await startProxy(server, '/the/lab');
    const page = await openPage(browser);
    for (const path of ['/', '/index.html', '/chat', '/chat.html', '/dashboard.html']) {
      await page.goto(proxy.url + path);
      await untilConnected(page);
    }
    await page.click('#wire-toggle');
    await page.locator('.out.handshake', { hasText: 'GET /the/lab/ws/dashboard' }).waitFor();

    await page.click('.brand');
    await untilConnected(page);
    await page.locator('#report').waitFor();
    const links = await page.locator('[data-http]').evaluateAll((links) => links.map(({ href }) => href));
    assert.deepEqual(links, ['/healthz', '/metrics', '/report'].map((path) => proxy.url + path));
    await page.click('#report a');
    assert.equal(await page.title(), 'Report');
    assert.deepEqual(proxy.strayed, []);
    assert.deepEqual(page.faults, []);
    await page.context().close();
    proxy.stop();
    await server.stop();
  });
}

describe('?server= may be', () => {
  /** A page from a web server, or from a file, and the addresses that it asks for. */
  async function openWith(named, { from = 'http://lab.test/', mocked = true } = {}) {
    const page = await openPage(browser);
    const asked = [];
    if (mocked) {
      await page.routeWebSocket(/./, (socket) => {
        asked.push(socket.url());
        socket.send(JSON.stringify(WELCOME));
      });
    }
    const files = new URL('../../client/', import.meta.url);
    await page.route(/lab\.test/, async (route) => {
      const name = new URL(route.request().url()).pathname.slice(1);
      const contentType = { html: 'text/html', css: 'text/css', js: 'text/javascript', svg: 'image/svg+xml' }[name.split('.').at(-1)];
      await route.fulfill({ contentType, body: await readFile(new URL(name, files)) });
    });
    const search = `?${new URLSearchParams({ server: named })}`;
    await page.goto((from === 'file' ? fileUrl('dashboard.html') : `${from}dashboard.html`) + search);
    return { page, asked };
  }

  for (const [named, url] of [
    ['ws://other.test:1234', 'ws://other.test:1234/ws/dashboard'],
    ['ws://other.test/lab///', 'ws://other.test/lab/ws/dashboard'],
    ['http://other.test/lab', 'ws://other.test/lab/ws/dashboard'],
    ['HTTPS://other.test', 'wss://other.test/ws/dashboard'],
    ['  ws://other.test/?a=b#c ', 'ws://other.test/ws/dashboard'],
    ['', 'ws://lab.test/ws/dashboard'],
  ]) {
    test(`an address: "${named}"`, async () => {
      const { page, asked } = await openWith(named);
      await untilConnected(page);
      assert.deepEqual(asked, [url]);
      assert.deepEqual(page.faults, []);
      await page.context().close();
    });
  }

  test('no address, and the page says so', async () => {
    const { page } = await openWith('not-an-address', { mocked: false });
    for (const named of ['not-an-address', 'localhost:8765', '/lab', '//other.test', 'javascript:alert(1)', 'ws://', 'ws://other.test:99999', ' ',
      '\u202etset.rehto', 'x'.repeat(5000), '\ud800']) {
      await page.goto(`http://lab.test/dashboard.html?${new URLSearchParams({ server: named })}`);
      await untilText(page, '#status-text', `Địa chỉ server không hợp lệ: ${named.toWellFormed()} (ví dụ`);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'nothing scrolls sideways');
      assert.ok(await page.isHidden('#retry-button'), 'trying again would not help');
    }
    await page.click('#language-switch');
    await untilText(page, '#status-text', 'Not a server address');
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test('an address that a secure page may not call, and the page says so', async () => {
    const { page } = await openWith('ws://other.test', { from: 'https://lab.test/', mocked: false });
    await untilText(page, '#status-text', 'Trang https chỉ kết nối được tới wss://, không phải ws://other.test');
    await page.context().close();
  });
});

onEachServer('foreign data in storage', ['--chat-interval', '0s'], (lab) => {
  /** Opens the page anew with `value` under these keys of its storage. */
  async function reloadWithStored(page, storage, keys, value) {
    await page.evaluate(({ storage, keys, value }) => {
      for (const key of keys) window[storage].setItem(`wslab.${key}`, value);
    }, { storage, keys, value });
    await page.reload();
    await untilConnected(page);
  }

  test('in the tab\'s storage: what is not ours is not taken for ours', async () => {
    const page = await lab.open('chat');
    const own = { cid: 'a'.repeat(24), name: 'An', text: 'x', ts: 1_700_000_000_000, status: 'unsure' };
    const faults = [{ text: 7 }, { text: '' }, { text: 'x'.repeat(501) }, { text: '\ud800' }, { name: null }, { ts: 1e300 }, { ts: 'now' }, { status: 'sent' },
      { status: 'x y' }, { cid: 'x'.repeat(65) }, { cid: undefined }];
    for (const value of ['hello', '', 'null', '[]', '7', '{"own":null,"outbox":null}', '{"outbox":{"length":-1}}', '{"outbox":[null,7,"x",[],{}]}',
      '{"own":{"epoch":[],"ids":{}}}', '{"own":{"epoch":"e","ids":[null,"x",{}]}}', ...faults.map((fault) => JSON.stringify({ outbox: [{ ...own, ...fault }] }))]) {
      await reloadWithStored(page, 'sessionStorage', ['chat'], value);
      assert.equal(await page.locator('.me:not(.sent)').count(), 0, value);
    }
    await say(page, 'An', 'xin chào');
    await page.locator('.message.user.me.sent', { hasText: 'xin chào' }).waitFor();
    await reloadWithStored(page, 'sessionStorage', ['chat'], JSON.stringify({ outbox: [own] }));
    assert.equal(await page.locator('.me.unsure').count(), 1, 'and what is ours is');
  });

  test('in the site\'s storage, for every page', async () => {
    for (const name of ['index', 'chat', 'dashboard']) {
      const page = await lab.open(name);
      for (const value of ['x y', '{}', '__proto__', '\u202e'.repeat(100), 'n'.repeat(60_000)]) {
        await reloadWithStored(page, 'localStorage', ['theme', 'language', 'chatName'], value);
        await reloadWithStored(page, 'sessionStorage', ['draft'], value);
      }
    }
  });

  test('other people\'s keys are left alone', async () => {
    const page = await lab.open('chat', {
      prepare: (page) => page.addInitScript(() => {
        if (sessionStorage.length + localStorage.length > 0) return;
        for (const key of ['chat', 'draft', 'theme', 'language', 'chatName']) for (const storage of [localStorage, sessionStorage]) storage.setItem(key, 'theirs');
      }),
    });
    await page.click('#language-switch');
    await page.click('#theme-switch');
    await say(page, 'An', 'mine');
    await page.locator('.message.me.sent', { hasText: 'mine' }).waitFor();
    const kept = await page.evaluate(() => [localStorage, sessionStorage].flatMap((storage) => ['chat', 'draft', 'theme', 'language', 'chatName'].map((key) => storage.getItem(key))));
    assert.deepEqual(kept, Array(10).fill('theirs'));
  });

  test('storage that is full or forbidden is only not used', async () => {
    for (const breakIt of [
      () => { Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }; },
      () => ['localStorage', 'sessionStorage'].forEach((name) => Object.defineProperty(window, name, { get() { throw new DOMException('forbidden', 'SecurityError'); } })),
    ]) {
      for (const name of ['index', 'dashboard', 'chat']) {
        const page = await lab.open(name, { prepare: (page) => page.addInitScript(breakIt) });
        await page.click('#language-switch');
        await page.click('#theme-switch');
        if (name !== 'chat') continue;
        await say(page, 'An', 'no storage');
        await page.locator('.message.me.sent', { hasText: 'no storage' }).first().waitFor();
      }
    }
  });

  test('a text that is being written outlives a reload', async () => {
    const page = await lab.open('chat');
    await page.fill('#message-input', 'half a mess');
    await page.reload();
    await untilConnected(page);
    assert.equal(await page.inputValue('#message-input'), 'half a mess');
    await say(page, 'An', 'half a message');
    await page.locator('.message.me.sent', { hasText: 'half a message' }).waitFor();
    await page.reload();
    assert.equal(await page.inputValue('#message-input'), '');
  });

  test('half of a character from the clipboard is no reason to refuse the rest', async () => {
    const page = await lab.open('chat');
    await page.evaluate(() => {
      nameInput.value = 'A\udc00';
      setInput('half \ud83d of it');
      send();
    });
    await page.locator('.message.me.sent', { hasText: 'half \ufffd of it' }).waitFor();
    assert.ok(await page.isHidden('#notice'));
  });
});

/** Values of every kind, for a field whose kind a server may mistake. */
const ANYTHING = [null, true, -1, 0.5, 1e300, '', 'x', '<b>', '__proto__', '\ud800', [], [1], {}, { length: 1e9 }, { toString: 1, valueOf: 1 }];

describe('a server may send anything', () => {
  async function openWithServer(name, speak) {
    const page = await openPage(browser);
    await page.routeWebSocket(/\/ws\//, (socket) => {
      const send = (message) => socket.send(typeof message === 'string' ? message : JSON.stringify(message));
      speak(send, socket);
    });
    await page.goto(fileUrl(`${name}.html`));
    return page;
  }

  /** `message` with each field in turn replaced by each of ANYTHING, or left out. */
  function* mistaken(message) {
    for (const field of Object.keys(message).filter((field) => field !== 'type')) {
      const { [field]: _, ...without } = message;
      yield without;
      for (const value of ANYTHING) yield { ...message, [field]: value };
    }
  }

  test('to the chat', async () => {
    const kinds = [
      WELCOME,
      { type: 'system', code: 'joined', text: 'x', ts: 1, online_count: 2 },
      { type: 'chat', id: 1, name: 'An', text: 'x', ts: 1 },
      { type: 'ack', cid: 'x', id: 1, ts: 1 },
      { type: 'error', code: 'rate_limited', cid: 'x', text: 'x', retry_after_ms: 1 },
      { type: 'constructor' },
    ];
    const page = await openWithServer('chat', (send) => {
      send(WELCOME);
      for (const raw of ['', 'null', '[]', '"x"', '{"type":{}}', '['.repeat(50_000)]) send(raw);
      for (const kind of kinds) for (const message of mistaken(kind)) send(message);
      send({ type: 'chat', name: 'An', text: 'the last', ts: Date.now() });
    });
    await page.locator('.message-text', { hasText: 'the last' }).waitFor();
    await page.click('#language-switch');
    assert.deepEqual(page.faults, []);
    assert.doesNotMatch(await page.textContent('body'), /undefined|NaN|Invalid Date|\[object/);
    await page.context().close();
  });

  test('as its greeting, and the page can still resume', async () => {
    const greetings = [WELCOME, ...mistaken(WELCOME)];
    const asked = [];
    const page = await openWithServer('chat', (send, socket) => {
      send(greetings[asked.length]);
      asked.push(new URL(socket.url()).search);
      send({ type: 'chat', id: 1, name: 'An', text: `hello ${asked.length}`, ts: 1 });
    });
    for (let i = 1; i < greetings.length; i += 1) {
      await untilConnected(page);
      await page.evaluate(() => connection.retry());
      await page.waitForFunction(() => connection.state.phase === 'open');
    }
    assert.equal(asked.length, greetings.length);
    for (const [i, query] of asked.entries()) assert.match(query, /^\?(history=50|since=[\w.%-]*:[01])$/, JSON.stringify(greetings[i - 1]));
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test('to the dashboard, and the charts go on', async () => {
    const metric = { type: 'metric', metric: 'cpu', value: 1.5, ts: 1_700_000_000_000 };
    const page = await openWithServer('dashboard', (send) => {
      send(WELCOME);
      for (const message of mistaken(metric)) send(message);
      send('{"type":"metric","metric":"cpu","value":1e999,"ts":1700000001000}');
      // A server's clock that was far ahead, and set back.
      send({ ...metric, ts: 8e15 });
      send({ ...metric, ts: 1_700_000_002_000 });
      send({ ...metric, value: 1e20, ts: 1_700_000_003_000 });
      send({ ...metric, value: 42, ts: 1_700_000_004_000 });
    });
    await untilText(page, '#value-cpu', /^42\.00$/);
    await page.click('#card-cpu summary');
    await page.locator('#card-cpu tbody tr').first().waitFor();
    const times = await page.evaluate(() => cards.get('cpu').chart.times);
    assert.deepEqual(times, [...times].sort((a, b) => a - b));
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test('to the index page', async () => {
    const page = await openWithServer('index', (send) => {
      for (const welcome of mistaken(WELCOME)) send(welcome);
      for (const value of [...ANYTHING, 3]) send({ type: 'metric', metric: 'clients', value, ts: 1 });
    });
    await untilText(page, '#client-count', /^3$/);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });

  test('an absurd ping interval neither spins nor stops the questions', async () => {
    for (const ping_interval_ms of [-1e9, 1e-9, 1e12]) {
      const page = await openWithServer('dashboard', (send) => send({ ...WELCOME, ping_interval_ms }));
      await untilConnected(page);
      const timers = await page.evaluate(() => new Promise((resolve) => {
        let count = 0;
        const real = window.setTimeout;
        window.setTimeout = (...given) => {
          count += 1;
          return real(...given);
        };
        real(() => resolve(count), 300);
      }));
      assert.ok(timers < 5, `${ping_interval_ms}: ${timers}`);
      await page.context().close();
    }
  });
});
