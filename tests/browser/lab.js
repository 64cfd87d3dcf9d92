// Starts servers and pages for the tests, and waits for what they do. Nothing here sleeps: a wait ends with the
// event it is for, or fails with what it saw instead.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { basename, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, describe } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const here = fileURLToPath(new URL('.', import.meta.url));

/** Every test runs against each of these server binaries. */
export const SERVERS = (process.env.WSLAB_SERVERS ?? '../../target/debug/evloop-server')
  .split(',')
  .map((path) => resolve(here, path));

const WAIT_MS = 10_000;

/** A server binary on a free port of the loopback, or on `port`. */
export async function startServer(binary, { port = 0, flags = [] } = {}) {
  const process = spawn(binary, ['--bind', `127.0.0.1:${port}`, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaints = '';
  process.stderr.on('data', (data) => { complaints += data; });
  const url = await listeningAddress(process, () => complaints);
  return {
    url,
    port: Number(new URL(url).port),
    socketUrl: url.replace(/^http/, 'ws'),
    /** Ctrl+C; gives the exit status. */
    async stop() {
      if (process.exitCode !== null) return process.exitCode;
      const exited = once(process, 'exit');
      process.kill('SIGINT');
      const [status] = await exited;
      return status;
    },
  };
}

/**
 * A proxy that serves `server` under `prefix`, which it takes off, and nothing else: `url` is where the pages are,
 * `strayed` what was asked for outside.
 */
export async function startProxy(server, prefix) {
  const strayed = [];
  /** The path as the server behind knows it; null for what is not under the prefix. */
  const inside = ({ url }) => {
    if (url.startsWith(`${prefix}/`)) return url.slice(prefix.length);
    strayed.push(url);
    return null;
  };
  const proxy = http.createServer((request, response) => {
    const path = inside(request);
    if (path === null) {
      response.writeHead(404).end();
      return;
    }
    const { method, headers } = request;
    http.request({ host: '127.0.0.1', port: server.port, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    }).end();
  });
  proxy.on('upgrade', (request, client) => {
    const path = inside(request);
    client.on('error', () => {});
    if (path === null) {
      client.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    const upstream = net.connect(server.port, '127.0.0.1', () => {
      const fields = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      upstream.write(`GET ${path} HTTP/1.1\r\n${fields.join('')}\r\n`);
      upstream.pipe(client).pipe(upstream);
    });
    upstream.on('error', () => client.destroy());
    client.on('close', () => upstream.destroy());
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    url: `http://127.0.0.1:${proxy.address().port}${prefix}`,
    strayed,
    stop() {
      proxy.closeAllConnections();
      proxy.close();
    },
  };
}

async function listeningAddress(process, complaints) {
  for await (const line of createInterface({ input: process.stdout })) {
    const match = line.match(/^listening on (http:\S+)$/);
    if (match) {
      process.stdout.resume();
      return match[1];
    }
  }
  throw new Error(`the server ended before it listened: ${complaints()}`);
}

export function startBrowser() {
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/**
 * A page in a browser profile of its own. What the page throws or logs as an error, a violated content security
 * policy among it, is collected in `page.faults`.
 */
export async function openPage(browser, url, contextOptions = {}) {
  const context = await browser.newContext({ locale: 'vi-VN', ...contextOptions });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error' && !isExpected(message)) page.faults.push(message.text());
  });
  if (url) await page.goto(url);
  return page;
}

/** The browser logs a refused WebSocket, and the answer that there is no report; a page cannot keep it from that. */
function isExpected(message) {
  return message.text().startsWith('WebSocket connection to') || message.location().url.endsWith('/report');
}

/**
 * A suite on each of the servers: one browser, one server. `define` gets what is to be had in a test:
 * `open(name, { prepare, connected, ...context })` for a page that must have no faults and ends with its test,
 * `restart()` for another server on the same port, and the `server` itself.
 */
export function onEachServer(title, flags, define) {
  for (const binary of SERVERS) {
    describe(`${title} on ${basename(binary)}`, () => {
      let browser;
      let pages = [];
      const lab = {
        async open(name, { prepare, connected = true, ...context } = {}) {
          const page = await openPage(browser, null, context);
          pages.push(page);
          await prepare?.(page);
          await page.goto(`${lab.server.url}/${name}.html`);
          if (connected) await untilConnected(page);
          return page;
        },
        async restart() {
          await lab.server.stop();
          lab.server = await startServer(binary, { port: lab.server.port, flags });
        },
      };
      before(async () => {
        browser = await startBrowser();
        lab.server = await startServer(binary, { flags });
      });
      afterEach(async () => {
        const faults = pages.flatMap((page) => page.faults);
        for (const page of pages) await page.context().close();
        pages = [];
        assert.deepEqual(faults, []);
      });
      after(async () => {
        await browser.close();
        await lab.server.stop();
      });
      define(lab);
    });
  }
}

/** The page as a file of the work tree, as a reader opens it with Ctrl+O. */
export function fileUrl(name, search = '') {
  return pathToFileURL(resolve(here, '../../client', name)).href + search;
}

/** Waits until the text of `selector` matches. */
export async function untilText(page, selector, pattern) {
  const { source, flags } = pattern instanceof RegExp ? pattern : new RegExp(escape(pattern));
  try {
    await page.waitForFunction(
      ([selector, source, flags]) => new RegExp(source, flags).test(document.querySelector(selector)?.textContent ?? ''),
      [selector, source, flags],
    );
  } catch {
    const said = await page.locator(selector).first().textContent();
    throw new Error([`${selector} does not say ${pattern}, but: ${said}`, ...(page.faults ?? [])].join('\n'));
  }
}

function escape(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

export function untilConnected(page) {
  return untilText(page, '#status-text', /^Đã kết nối/);
}

/** Types as a reader does: into the fields, then the button. */
export async function say(page, name, text) {
  await page.fill('#name-input', name);
  await page.fill('#message-input', text);
  await page.click('#send-button');
}

/** The texts of the messages shown, in order. */
export function shownTexts(page) {
  return page.locator('.message.user .message-text').allTextContents();
}

/** Makes the page believe that its tab went to the background, or came back. */
export async function setHidden(page, hidden) {
  await page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
}

/** Keeps every text the status line shows from now on, however short. */
export async function recordStatus(page) {
  await page.evaluate(() => {
    const text = document.getElementById('status-text');
    window.statusTexts = [text.textContent];
    new MutationObserver(() => window.statusTexts.push(text.textContent)).observe(text, { childList: true });
  });
  return () => page.evaluate(() => window.statusTexts);
}
