// What holds for the pages wherever they come from: their contract with scripts written for the user's original
// pages, pages opened as files, and servers that speak only the frozen part of the protocol.

import assert from 'node:assert/strict';
import { readFile, readdir, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { SERVERS, fileUrl, openPage, say, shownTexts, startBrowser, startServer, untilConnected, untilText } from './lab.js';

const PAGES = ['index.html', 'chat.html', 'dashboard.html', 'inside.html'];
const CHAT_IDS = ['status-indicator', 'status-text', 'online-count', 'messages', 'name-input', 'message-input', 'send-button'];
const DASHBOARD_IDS = ['status-indicator', 'status-text',
  ...['temperature', 'stock', 'cpu'].flatMap((metric) => ['metric', 'card', 'value', 'time', 'chart'].map((part) => `${part}-${metric}`))];

/** Of one page with all it loads, and of all the pages together. */
const PAGE_LIMIT = 100 * 1024;
const CLIENT_LIMIT = 160 * 1024;
const CLIENT = new URL('../../client/', import.meta.url);

let browser;
before(async () => { browser = await startBrowser(); });
after(() => browser.close());

describe('pages as files', () => {
  /** Whatever may be listening on this machine, such a page reaches no server. */
  async function openAlone(name) {
    const page = await openPage(browser);
    await page.routeWebSocket(/./, (socket) => socket.close({ code: 1013 }));
    await page.goto(fileUrl(name));
    return page;
  }

  test('keep the element ids of the original pages', async () => {
    for (const [name, ids] of [['chat.html', CHAT_IDS], ['dashboard.html', DASHBOARD_IDS]]) {
      const page = await openAlone(name);
      for (const id of ids) assert.equal(await page.locator(`#${id}`).count(), 1, `${name} #${id}`);
      await page.context().close();
    }
  });

  test('have no inline script, style or handler, and load nothing from elsewhere', async () => {
    for (const name of PAGES) {
      const html = await readFile(new URL(`../../client/${name}`, import.meta.url), 'utf8');
      assert.doesNotMatch(html, /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|(src|href)="(\w+:)?\/\//);
    }
  });

  test('have each text in both languages, and use each', async () => {
    const page = await openAlone('inside.html');
    const texts = await page.evaluate(() => TEXTS);
    const sources = await Promise.all((await readdir(CLIENT)).filter((name) => !['i18n.js', 'inside-texts.js'].includes(name)).map((name) => readFile(new URL(name, CLIENT), 'utf8')));
    const source = sources.join();
    for (const [key, [vi, en]] of Object.entries(texts)) {
      assert.ok(vi && en, key);
      const placeholders = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
      assert.deepEqual(placeholders(vi), placeholders(en), key);
      // A key is written out, or put together from a family and a code: `error.${code}`.
      const family = key.slice(0, key.lastIndexOf('.'));
      assert.ok(source.includes(`'${key}'`) || source.includes(`"${key}"`) || source.includes(`\`${family}.$`) || source.includes(`\`${family.split('.')[0]}.$`)
        || /^theory\.3\.a?sync/.test(key), key);
    }
    await page.context().close();
  });

  test('are under 160 KiB, all of them', async () => {
    const sizes = await Promise.all((await readdir(CLIENT)).map(async (name) => (await stat(new URL(name, CLIENT))).size));
    const weight = sizes.reduce((sum, size) => sum + size);
    assert.ok(weight < CLIENT_LIMIT, `${weight} bytes`);
  });

  test('show their texts before any server is reached', async () => {
    for (const name of PAGES) {
      const page = await openPage(browser);
      await page.routeWebSocket(/./, () => {});
      await page.goto(fileUrl(name));
      assert.ok((await page.textContent('h1')).length > 3);
      await untilText(page, '#status-text', 'Đang kết nối...');
      await page.context().close();
    }
  });

  test('speak to ws://localhost:8765', async () => {
    const page = await openPage(browser);
    const asked = new Promise((resolve) => { page.routeWebSocket(/./, (socket) => resolve(socket.url())); });
    await page.goto(fileUrl('dashboard.html'));
    assert.equal(await asked, 'ws://localhost:8765/ws/dashboard');
    await page.context().close();
  });

  test('name a wrong ?server= and stay usable', async () => {
    const page = await openPage(browser, fileUrl('chat.html', '?server=not-an-address'));
    await untilText(page, '#status-text', 'Địa chỉ server không hợp lệ: not-an-address');
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });
});

describe('with a server that knows only the frozen part', () => {
  /** Answers as the Python original does: no codes, ids or acknowledgements, and no query in the path. */
  async function openLegacyChat({ answer }) {
    const page = await openPage(browser);
    const connections = [];
    await page.routeWebSocket(/\/ws\/chat/, (socket) => {
      if (new URL(socket.url()).search) {
        socket.close({ code: 1002, reason: 'Unknown endpoint' });
        return;
      }
      connections.push(socket);
      const send = (message) => socket.send(JSON.stringify({ ts: Date.now(), ...message }));
      send({ type: 'system', text: 'Chào mừng đến chat room! Hiện có 4 người online.', online_count: 4 });
      socket.onMessage((data) => answer(JSON.parse(data), send));
    });
    await page.goto(fileUrl('chat.html'));
    await untilConnected(page);
    return { page, connections };
  }

  test('one\'s own message is shown once, as one\'s own', async () => {
    const { page } = await openLegacyChat({
      answer({ name, text }, send) {
        send({ type: 'chat', name: 'Other', text: 'in between' });
        send({ type: 'chat', name, text });
      },
    });
    await untilText(page, '#messages', 'Chào mừng đến chat room! Hiện có 4 người online.');
    await untilText(page, '#online-count', '4');
    await say(page, '  An ', ' xin chào ');
    await untilText(page, '.message.me.sent', 'xin chào');
    assert.deepEqual(await shownTexts(page), ['in between', 'xin chào']);
    await page.context().close();
  });

  test('a refusal is shown in the server\'s words, and the text comes back', async () => {
    const { page } = await openLegacyChat({
      answer: (_, send) => send({ type: 'error', text: 'Words of the server' }),
    });
    await say(page, 'An', 'refused');
    await untilText(page, '#messages', 'Words of the server');
    assert.equal(await page.inputValue('#message-input'), 'refused');
    assert.deepEqual(await shownTexts(page), []);
    await page.context().close();
  });

  test('after a loss it says what it cannot know', async () => {
    const { page, connections } = await openLegacyChat({ answer() {} });
    await say(page, 'An', 'sent or not?');
    await page.locator('.message.pending').waitFor();
    await connections[0].close({ code: 1012 });
    await untilText(page, '#messages', 'Có thể thiếu một số tin nhắn trong lúc mất kết nối.');
    await untilText(page, '.message.unsure', 'mất kết nối, chưa rõ đã gửi hay chưa');
    await page.context().close();
  });
});

for (const binary of SERVERS) {
  describe(`pages and ${basename(binary)}`, () => {
    let server;
    before(async () => { server = await startServer(binary, { flags: ['--chat-interval', '0s'] }); });
    after(() => server.stop());

    test('a file speaks to the server it is told, and its links lead on to it', async () => {
      const page = await openPage(browser, fileUrl('index.html', `?server=${server.socketUrl}`));
      await page.click('nav a[href*="chat.html"]');
      await untilConnected(page);
      await say(page, 'File', 'from a file');
      await untilText(page, '.message.me.sent', 'from a file');
      assert.deepEqual(page.faults, []);
      await page.context().close();
    });

    test('every page loads without a fault or a request to elsewhere, and weighs under 100 KiB', async () => {
      for (const name of ['', ...PAGES]) {
        const page = await openPage(browser);
        const elsewhere = [];
        const sizes = [];
        page.on('request', (request) => { if (!request.url().startsWith(server.url)) elsewhere.push(request.url()); });
        page.on('requestfinished', (request) => sizes.push(request.sizes()));
        await page.goto(`${server.url}/${name}`);
        await untilConnected(page);
        assert.deepEqual([...page.faults, ...elsewhere], [], name);
        const weight = (await Promise.all(sizes)).reduce((sum, { responseBodySize }) => sum + responseBodySize, 0);
        assert.ok(weight > 10_000 && weight < PAGE_LIMIT, `${name}: ${weight} bytes`);
        await page.context().close();
      }
    });

    test('from a development server that takes any upgrade, a page goes on to ws://localhost:8765', async () => {
      const page = await openPage(browser);
      await page.routeWebSocket(`${server.socketUrl}/**`, (socket) => socket.send('connected'));
      const asked = new Promise((resolve) => {
        page.routeWebSocket('ws://localhost:8765/**', (socket) => resolve(new URL(socket.url()).pathname));
      });
      await page.goto(`${server.url}/chat.html`);
      assert.equal(await asked, '/ws/chat');
      await page.context().close();
    });

    test('what was said before is shown on opening, and what was missed after a loss, in order and once', async () => {
      const speaker = await openPage(browser, `${server.url}/chat.html`);
      await untilConnected(speaker);
      await say(speaker, 'Speaker', 'before');
      await untilText(speaker, '.message.me.sent', 'before');

      const listener = await openPage(browser);
      const sockets = [];
      let network = 'up';
      await listener.routeWebSocket(/\/ws\/chat/, (socket) => {
        if (network === 'down') {
          socket.close({ code: 1006 });
          return;
        }
        sockets.push(socket);
        socket.connectToServer();
      });
      await listener.goto(`${server.url}/chat.html`);
      await untilText(listener, '#messages', 'before');

      network = 'down';
      await sockets[0].close();
      await untilText(listener, '#messages', 'Mất kết nối với server.');
      for (const text of ['missed 1', 'missed 2']) {
        await say(speaker, 'Speaker', text);
        await speaker.locator('.message.me.sent', { hasText: text }).waitFor();
      }
      network = 'up';
      await untilConnected(listener);
      await say(speaker, 'Speaker', 'live');
      await untilText(listener, '#messages', 'live');
      assert.deepEqual((await shownTexts(listener)).slice(-4), ['before', 'missed 1', 'missed 2', 'live']);
      assert.doesNotMatch(await listener.textContent('#messages'), /Có thể thiếu/);
      for (const page of [speaker, listener]) await page.context().close();
    });

    test('a message sent just before a loss is sent again, and is in the room once', async () => {
      const page = await openPage(browser);
      const sockets = [];
      await page.routeWebSocket(/\/ws\/chat/, (socket) => {
        const upstream = socket.connectToServer();
        sockets.push(socket);
        // On the first connection our message arrives, but neither its ack nor its broadcast comes back.
        upstream.onMessage((data) => {
          if (sockets.length > 1 || JSON.parse(data).type === 'system') socket.send(data);
          else if (JSON.parse(data).type === 'chat') socket.close();
        });
      });
      await page.goto(`${server.url}/chat.html`);
      await untilConnected(page);
      await say(page, 'Once', 'only once, please');
      await page.locator('.message.me.sent').waitFor();
      assert.deepEqual((await shownTexts(page)).filter((text) => text === 'only once, please').length, 1);
      assert.deepEqual(page.faults, []);
      await page.context().close();
    });

    test('languages and themes switch at once and are remembered', async () => {
      const page = await openPage(browser, `${server.url}/chat.html`);
      await untilConnected(page);
      await page.click('#language-switch');
      await untilText(page, '#status-text', 'Connected');
      await untilText(page, '#messages', 'Welcome to the chat room!');
      assert.equal(await page.getAttribute('html', 'lang'), 'en');
      await page.click('#theme-switch');
      await page.click('#theme-switch');
      await page.goto(`${server.url}/dashboard.html`);
      await untilText(page, 'h1', 'Realtime dashboard');
      assert.equal(await page.getAttribute('html', 'data-theme'), 'dark');
      await page.context().close();
    });
  });
}
