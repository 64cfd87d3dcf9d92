// What pages of other sites can do to a server on this machine: nothing directly, and next to nothing from a sandboxed
// frame, whose `Origin: null` cannot be told from that of a page opened as a file.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { SERVERS, fileUrl, openPage, say, shownTexts, startBrowser, startServer, untilConnected, untilText } from './lab.js';

/** A page of another site that opens a WebSocket itself and from a sandboxed frame, and gathers what each hears. */
function strangersPage(socketUrl) {
  const script = (who) => `
    const tell = (what) => parent.postMessage({ who: '${who}', what }, '*');
    const socket = new WebSocket('${socketUrl}/ws/chat?history=1000');
    socket.onmessage = ({ data }) => tell(data);
    socket.onclose = () => tell('closed');`;
  return `<!DOCTYPE html><script>
    const heard = { page: [], frame: [] };
    addEventListener('message', ({ data }) => heard[data.who].push(data.what));
    {${script('page')}}
    </script><iframe sandbox="allow-scripts" srcdoc="<script>${script('frame')}</script>"></iframe>`;
}

describe('a page of another site', () => {
  let browser;
  before(async () => { browser = await startBrowser(); });
  after(() => browser.close());

  /** Says something in the room, then lets the stranger try; gives what it heard. */
  async function heardByStranger(server) {
    const ours = await openPage(browser, fileUrl('chat.html', `?server=${server.socketUrl}`));
    if (server.takesFiles) {
      await untilConnected(ours);
      await say(ours, 'Alice', 'not for strangers');
      await untilText(ours, '.message.me.sent', 'not for strangers');
      assert.ok((await shownTexts(ours)).some((text) => text.includes('not for strangers')));
    }
    const stranger = await openPage(browser);
    await stranger.route('http://stranger.example/', (route) => (
      route.fulfill({ contentType: 'text/html', body: strangersPage(server.socketUrl) })));
    await stranger.goto('http://stranger.example/');
    await stranger.waitForFunction('heard.page.length > 0 && heard.frame.length > 0');
    const heard = await stranger.evaluate('heard');
    await stranger.context().close();
    await ours.context().close();
    return heard;
  }

  for (const binary of SERVERS) {
    test(`gets nothing of the past, not even from a sandboxed frame (${binary.split('/').at(-1)})`, async () => {
      const server = await startServer(binary);
      server.takesFiles = true;
      const heard = await heardByStranger(server);
      assert.deepEqual(heard.page, ['closed']);
      assert.ok(!JSON.stringify(heard.frame).includes('not for strangers'), JSON.stringify(heard.frame));
      await server.stop();
    });

    test(`is kept out whole with --refuse-null-origin (${binary.split('/').at(-1)})`, async () => {
      const server = await startServer(binary, { flags: ['--refuse-null-origin'] });
      assert.deepEqual(await heardByStranger(server), { page: ['closed'], frame: ['closed'] });
      await server.stop();
    });
  }
});
