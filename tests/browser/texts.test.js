// Texts as people really send them: right to left, very long, full of spaces, with addresses in any punctuation.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachServer, say, shownTexts } from './lab.js';

/** Lets the page take a message as if somebody had sent it. */
function receive(page, text, name = 'An') {
  return page.evaluate((message) => log.receive(message), { type: 'chat', name, text, ts: 1_700_000_000_000 });
}

/** Whether the last character of the element's text stands left of its first. */
function endsLeft(page, selector) {
  return page.locator(selector).last().evaluate((element) => {
    const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
    const range = document.createRange();
    const left = (i) => {
      range.setStart(text, i);
      range.setEnd(text, i + 1);
      return range.getBoundingClientRect().left;
    };
    return left(text.length - 1) < left(0);
  });
}

onEachServer('texts', ['--chat-interval', '0s'], (lab) => {
  test('a text reads in its own direction, each paragraph by itself, and so does a name', async () => {
    const page = await lab.open('chat');
    await say(page, 'An', 'שלום עולם.');
    await page.locator('.message.me.sent').waitFor();
    assert.ok(await endsLeft(page, '.message-text'));
    await receive(page, 'xin chào\nمرحبا!', 'محمد (1)');
    assert.ok(await endsLeft(page, '.message-name'));
    const sides = await page.locator('.message-text').last().evaluate((element) => {
      const range = document.createRange();
      const left = (i) => {
        range.setStart(element.firstChild, i);
        range.setEnd(element.firstChild, i + 1);
        return range.getBoundingClientRect().left;
      };
      const { length } = element.firstChild;
      return { latin: left(7) > left(0), arabic: left(length - 1) < left(length - 2) };
    });
    assert.deepEqual(sides, { latin: true, arabic: true });
    for (const id of ['name-input', 'message-input']) assert.equal(await page.locator(`#${id}`).evaluate((input) => getComputedStyle(input).unicodeBidi), 'plaintext', id);
  });

  test('a direction does not leave the text it is in', async () => {
    const page = await lab.open('chat');
    const override = '\u202e';
    await page.evaluate((text) => log.receive({ type: 'system', code: 'unheard-of', text, ts: 0 }), `server ${override}words`);
    const note = page.locator('.message.system').last();
    assert.ok(await note.evaluate((element) => element.querySelector('bdi').getBoundingClientRect().right <= element.querySelector('time').getBoundingClientRect().left));

    await page.click('#wire-toggle');
    await page.evaluate((text) => connection.send({ type: 'ping', name: text, after: 'שלום' }), `a${override}b\u2067`);
    const frame = page.locator('.frame.out.text', { hasText: 'after' }).first();
    await frame.locator('summary').click();
    for (const part of ['.frame-preview', 'pre']) {
      const text = await frame.locator(part).textContent();
      assert.deepEqual(JSON.parse(text), { type: 'ping', name: `a${override}b\u2067`, after: 'שלום' });
      assert.doesNotMatch(text, /\p{Bidi_Control}/u, 'a control that turns text is shown by its number');
      assert.ok(await frame.locator(`${part} bdi`, { hasText: 'שלום' }).count() === 1);
    }
  });

  test('an address ends where it ends', async () => {
    const page = await lab.open('chat');
    const wiki = 'https://en.wikipedia.org/wiki';
    for (const [text, ...addresses] of [
      ['xem https://example.com/docs。', 'https://example.com/docs'],
      ['（https://example.com/a）', 'https://example.com/a'],
      ['https://example.com！', 'https://example.com'],
      ['看 https://example.com/guide，详见', 'https://example.com/guide'],
      ['「https://example.com/」と', 'https://example.com/'],
      ['看https://example.com/a、https://example.com/b', 'https://example.com/a', 'https://example.com/b'],
      ['https://zh.wikipedia.org/wiki/维基百科', 'https://zh.wikipedia.org/wiki/维基百科'],
      ['انظر https://example.com/a؟', 'https://example.com/a'],
      ['\u2068https://example.com/a\u2069.', 'https://example.com/a'],
      ['https://example.com/a\u200f.', 'https://example.com/a'],
      [`${wiki}/Rust_(programming_language)`, `${wiki}/Rust_(programming_language)`],
      [`(see ${wiki}/Rust_(programming_language)).`, `${wiki}/Rust_(programming_language)`],
      [`(${wiki}/Rust_(programming_language)#a_(b), and`, `${wiki}/Rust_(programming_language)#a_(b)`],
      ['https://example.com/a(b c', 'https://example.com/a'],
      ['[https://example.com/?a[]=1&b={c}]', 'https://example.com/?a[]=1&b={c}'],
      ['[text](https://example.com/a)more', 'https://example.com/a'],
      ['http://[::1]:8765/chat.html, http://[bad', 'http://[::1]:8765/chat.html'],
      [`${wiki}/Rubik's_Cube 'https://example.com/a'`, `${wiki}/Rubik's_Cube`, 'https://example.com/a'],
      [`${wiki}/Michelson–Morley – “https://example.com/a”…`, `${wiki}/Michelson–Morley`, 'https://example.com/a'],
      ['https://example.com/a?! https://example.com/b?c... <https://example.com/c>', 'https://example.com/a', 'https://example.com/b?c', 'https://example.com/c'],
      ['`https://example.com/a`; HTTPS://EXAMPLE.COM/', 'https://example.com/a', 'HTTPS://EXAMPLE.COM/'],
      ['https:// http://. http://) xhttps://example.com'],
    ]) {
      const found = await page.evaluate((text) => linked(text).filter((node) => node.href).map((link) => link.getAttribute('href')), text);
      assert.deepEqual(found, addresses, text);
      assert.equal(await page.evaluate((text) => linked(text).map((node) => node.textContent ?? node).join(''), text), text, 'nothing is lost');
    }
  });

  test('a link shows where it leads, whatever turns the text around it', async () => {
    const page = await lab.open('chat');
    await receive(page, '\u202ehttps://evil.example/\u202egpj.exe');
    const link = page.locator('.message-text a').last();
    assert.doesNotMatch(await link.textContent(), /\p{Bidi_Control}/u);
    assert.equal(await link.textContent(), await link.getAttribute('href'));
    assert.ok(!await endsLeft(page, '.message-text a'), 'it is not turned by what is before it');
  });

  test('time taken grows with the length of a text, not with its square', async () => {
    const page = await lab.open('chat');
    const times = await page.evaluate(() => {
      const n = 200_000;
      const many = (part) => part.repeat(n / part.length);
      const taken = (act) => {
        const start = performance.now();
        act();
        return performance.now() - start;
      };
      const texts = { spaces: `a${many(' ')}b`, separators: `a${many('\x1c')}b`, stops: `https://x/${many('.')}a`, brackets: `https://x/${many('(')}`, pairs: `https://x/${many('()')}`,
        addresses: many('https://'), quotes: many('"'), escapes: `"${many('\\"')}`, digits: many('1') };
      return Object.entries(texts).flatMap(([name, text]) => Object.entries({
        tidy: () => tidy(text),
        linked: () => linked(text),
        legible: () => legible(text),
      }).map(([what, act]) => [name, what, taken(act)])).concat([
        ['spaces', 'input', taken(() => setInput(texts.spaces))],
        ['slashes', 'address', taken(() => serverAddresses(new URL(`file:?server=ws://x${many('/')}y`)))],
      ]);
    });
    assert.deepEqual(times.filter(([, , ms]) => ms > 1000), []);
  });

  test('what is white space at the ends is what the server trims', async () => {
    const page = await lab.open('chat');
    const tidied = await page.evaluate(() => ['\x1c\x1d\x1e\x1fa\x1f', '\x85\xa0\u1680\u2028\u3000a\t\n', '\ufeffa\u200b', '\x1c\x1f '].map(tidy));
    assert.deepEqual(tidied, ['a', 'a', '\ufeffa\u200b', '']);
    await say(page, 'An', '\x1c\x1d\x1e\x1f');
    await page.locator('#notice', { hasText: 'Tên và nội dung không được để trống' }).waitFor();
    assert.equal(await page.inputValue('#message-input'), '\x1c\x1d\x1e\x1f', 'what was typed stays');
  });

  test('very long words and towers of marks stay where they are', async () => {
    const page = await lab.open('chat', { viewport: { width: 320, height: 640 } });
    const word = 'W'.repeat(500);
    await receive(page, word, word.slice(0, 50));
    await receive(page, `https://example.com/${word.slice(30)}`, 'Bình');
    await page.evaluate((text) => {
      log.receive({ type: 'system', code: 'unheard-of', text, ts: 0 });
      log.receive({ type: 'error', code: 'unheard-of', text });
    }, word);
    const wide = await page.evaluate(() => [document.documentElement, messages, ...document.querySelectorAll('#messages *')]
      .filter((element) => element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== 'inline').map((element) => element.className || element.tagName));
    assert.deepEqual(wide, []);
    await receive(page, `e${'\u0301'.repeat(400)}`);
    assert.equal(await page.locator('.message-bubble').last().evaluate((bubble) => getComputedStyle(bubble).overflow), 'clip');
    assert.equal((await shownTexts(page)).at(-1).length, 401);
  });
});
