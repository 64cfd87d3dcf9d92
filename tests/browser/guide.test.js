// The four tests of the user's guide, as a reader would do them by hand.

import assert from 'node:assert/strict';
import { basename } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { SERVERS, openPage, recordStatus, say, shownTexts, startBrowser, startServer, untilConnected, untilText } from './lab.js';

for (const binary of SERVERS) {
  describe(`the guide's tests on ${basename(binary)}`, () => {
    let browser;
    let server;
    let pages;

    before(async () => { browser = await startBrowser(); });
    after(() => browser.close());

    beforeEach(async () => {
      server = await startServer(binary);
      pages = [];
    });
    afterEach(async () => {
      for (const page of pages) {
        assert.deepEqual(page.faults, []);
        await page.context().close();
      }
      await server.stop();
    });

    async function open(name) {
      const page = await openPage(browser, `${server.url}/${name}`);
      pages.push(page);
      await untilConnected(page);
      return page;
    }

    test('1: a message is shown in every tab, with its sender and the number of people online', async () => {
      const alice = await open('chat.html');
      const bob = await open('chat.html');
      const carol = await open('chat.html');
      for (const page of [alice, bob, carol]) await untilText(page, '#online-count', '3');

      await say(alice, 'Alice', 'Xin chào <b>mọi người</b> 👋');

      for (const page of [bob, carol]) await untilText(page, '#messages', /AliceXin chào <b>mọi người<\/b> 👋/);
      await untilText(alice, '.message.me.sent .message-text', 'Xin chào <b>mọi người</b> 👋');
      for (const page of [alice, bob, carol]) assert.deepEqual(await shownTexts(page), ['Xin chào <b>mọi người</b> 👋']);

      await carol.close();
      await untilText(alice, '#messages', 'Một người dùng đã rời khỏi chat');
      await untilText(alice, '#online-count', '2');
    });

    test('1: two people of one name are told apart', async () => {
      const first = await open('chat.html');
      const second = await open('chat.html');
      await second.fill('#name-input', 'Alex');
      await say(first, 'Alex', 'which Alex?');
      await untilText(second, '#messages', 'which Alex?');
      await untilText(first, '.message.me.sent', 'which Alex?');
      assert.equal(await second.locator('.message.me').count(), 0);
    });

    test('2: the dashboard draws each metric every second, and only those ticked', async () => {
      const page = await open('dashboard.html');
      for (const metric of ['temperature', 'stock', 'cpu']) {
        await untilText(page, `#value-${metric}`, /^\d+\.\d\d$/);
        await untilText(page, `#time-${metric}`, /\d\d:\d\d:\d\d/);
        await page.waitForFunction((id) => {
          const canvas = document.getElementById(id);
          return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte !== 0);
        }, `chart-${metric}`);
      }

      await page.uncheck('#metric-stock');
      await page.locator('#card-stock.inactive').waitFor();
      const stock = await page.textContent('#value-stock');
      const time = await page.textContent('#time-cpu');
      await page.waitForFunction((before) => document.getElementById('time-cpu').textContent !== before, time);
      assert.equal(await page.textContent('#value-stock'), stock);

      await page.check('#metric-stock');
      await untilText(page, '#time-stock', /\d\d:\d\d:\d\d/);
    });

    test('2: with nothing ticked nothing is sent', async () => {
      const page = await open('dashboard.html');
      await untilText(page, '#value-cpu', /^\d/);
      const frames = await page.evaluate(() => new Promise((resolve) => {
        let metricsAfter = 0;
        connection.addEventListener('message', ({ detail }) => {
          if (detail.type === 'metric') metricsAfter += 1;
          if (detail.type !== 'system') return;
          if (detail.subscribed.length === 0) {
            metricsAfter = 0;
            // Two ticks of the server's clock, as another connection sees them.
            const witness = new Connection('/ws/dashboard');
            let ticks = 0;
            witness.addEventListener('message', (event) => {
              if (event.detail.metric === 'cpu' && (ticks += 1) === 2) resolve(metricsAfter);
            });
            witness.start();
          }
        });
        for (const box of document.querySelectorAll('#metric-choices input')) box.click();
      }));
      assert.equal(frames, 0);
    });

    test('3: the pages say that the connection is lost, try again, and come back with the server', async () => {
      const chat = await open('chat.html');
      const dashboard = await open('dashboard.html');
      await dashboard.uncheck('#metric-cpu');
      const chatStatus = await recordStatus(chat);
      const dashboardStatus = await recordStatus(dashboard);

      assert.equal(await server.stop(), 0);
      for (const page of [chat, dashboard]) {
        await untilText(page, '#status-text', /^Kết nối lại sau \ds\.\.\.$/);
        assert.match(await page.getAttribute('#status-indicator', 'class'), /connecting|disconnected/);
      }
      assert.ok(await chat.isDisabled('#send-button'));
      await chat.fill('#message-input', 'kept while offline');

      server = await startServer(binary, { port: server.port });
      for (const page of [chat, dashboard]) await untilConnected(page);
      for (const status of [await chatStatus(), await dashboardStatus()]) {
        assert.equal(status[0], 'Đã kết nối');
        assert.equal(status[1], 'Mất kết nối');
        assert.ok(status.includes('Kết nối lại sau 1s...'), status.join());
        assert.equal(status.at(-1), 'Đã kết nối');
      }

      assert.equal(await chat.inputValue('#message-input'), 'kept while offline');
      await say(chat, 'Alice', 'back again');
      await untilText(chat, '.message.me.sent', 'back again');

      const value = await dashboard.textContent('#time-temperature');
      await dashboard.waitForFunction((old) => document.getElementById('time-temperature').textContent !== old, value);
      assert.match(await dashboard.textContent('#time-cpu'), /Không theo dõi/);
    });

    test('4: too fast is refused with the reason, and the text is not lost', async () => {
      const page = await open('chat.html');
      await say(page, 'Spam', 'one');
      await say(page, 'Spam', 'two');
      await untilText(page, '#messages', 'Bạn đang gửi tin nhắn quá nhanh. Vui lòng đợi 1 giây.');
      await page.waitForFunction(() => document.getElementById('message-input').value === 'two');
      assert.deepEqual(await shownTexts(page), ['one']);

      await page.click('#send-button');
      await untilText(page, '#messages', 'two');
      await page.locator('.message.me.sent').nth(1).waitFor();
      assert.deepEqual(await shownTexts(page), ['one', 'two']);
      assert.ok(await page.isHidden('#notice'));
    });

    test('4: an empty name or message is refused with the reason', async () => {
      const page = await open('chat.html');
      for (const [name, text, focused] of [['', 'text', 'name-input'], ['Name', '  \n ', 'message-input']]) {
        await page.fill('#name-input', 'x');
        await say(page, name, text);
        await untilText(page, '#messages', 'Tên và nội dung không được để trống');
        assert.equal(await page.evaluate(() => document.activeElement.id), focused);
      }
    });

    test('4: a text over 500 characters is refused with the reason, 500 emoji are not', async () => {
      const page = await open('chat.html');
      await say(page, 'Long', '👋'.repeat(501));
      await untilText(page, '#messages', 'Tin nhắn quá dài (tối đa 500 ký tự)');
      await say(page, 'Long', '👋'.repeat(500));
      await untilText(page, '.message.me.sent', '👋'.repeat(500));
    });
  });
}
