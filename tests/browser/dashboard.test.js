// The dashboard beyond the guide: the server's vitals, and charts that can be read.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { onEachServer, untilConnected, untilText } from './lab.js';

const VITALS = ['clients', 'deliveries', 'lag', 'memory', 'threads'];
const READING = /^\d\d:\d\d:\d\d: \d+\.\d\d °C$/;

/** Until the chart of `metric` has drawn `count` values. */
async function untilDrawn(page, metric, count) {
  await page.waitForFunction(([metric, count]) => cards.get(metric).chart.values.length >= count, [metric, count]);
}

onEachServer('dashboard', ['--metric-interval', '100ms'], (lab) => {
  test('the server\'s vitals are off until ticked, and real', async () => {
    const page = await lab.open('dashboard');
    await untilDrawn(page, 'cpu', 2);
    for (const name of VITALS) {
      assert.ok(!await page.isChecked(`#metric-${name}`));
      assert.ok(await page.isHidden(`#card-${name}`));
    }
    for (const name of VITALS) await page.check(`#metric-${name}`);
    for (const name of VITALS) await untilText(page, `#value-${name}`, /^[\d\u202f]+(\.\d\d)?$/);
    await untilText(page, '#value-clients', /^1$/);
    assert.ok(Number(await page.textContent('#value-threads')) >= 1);
    await page.uncheck('#metric-lag');
    assert.ok(await page.isHidden('#card-lag'));
  });

  test('a chart is read by keyboard', async () => {
    const page = await lab.open('dashboard');
    await untilDrawn(page, 'temperature', 4);
    const chart = page.locator('#chart-temperature');
    const reading = () => chart.getAttribute('aria-valuetext');
    assert.equal(await reading(), 'Dùng phím mũi tên để đọc từng điểm');
    await chart.focus();
    await page.keyboard.press('ArrowLeft');
    const newest = await reading();
    assert.match(newest, READING);
    await page.keyboard.press('Home');
    assert.equal(await chart.getAttribute('aria-valuenow'), '1');
    const first = await reading();
    await untilDrawn(page, 'temperature', 8);
    assert.equal(await reading(), first, 'new values do not move the reader');
    await page.keyboard.press('End');
    assert.match(await reading(), READING);
    await page.keyboard.press('Escape');
    assert.equal(await reading(), 'Dùng phím mũi tên để đọc từng điểm');
  });

  test('a chart is read by pointer', async () => {
    const page = await lab.open('dashboard');
    await untilDrawn(page, 'temperature', 3);
    await page.hover('#chart-temperature');
    await page.waitForFunction(() => cards.get('temperature').canvas.getAttribute('aria-valuenow') > 0);
    assert.match(await page.getAttribute('#chart-temperature', 'aria-valuetext'), READING);
    await page.hover('h1');
    await page.waitForFunction(() => cards.get('temperature').canvas.getAttribute('aria-valuenow') === '0');
  });

  test('a chart has a table of the same values, newest first', async () => {
    const page = await lab.open('dashboard');
    await untilDrawn(page, 'stock', 3);
    assert.equal(await page.locator('#card-stock tbody tr').count(), 0, 'nothing is kept up to date that nobody sees');
    await page.click('#card-stock summary');
    // A value that has come and is not drawn yet is not in the table yet either.
    await page.waitForFunction(() => {
      const rows = [...document.querySelectorAll('#card-stock tbody tr')].map((row) => row.cells[1].textContent);
      const values = cards.get('stock').chart.values.map((value) => `${value.toFixed(2)} USD`).reverse();
      return rows.length >= 5 && rows.join() === values.join();
    });
  });

  test('scales are round and take in every value', async () => {
    const page = await lab.open('dashboard');
    const scales = await page.evaluate(() => [[20.2, 24.9], [3, 3], [0, 0], [0.1, 0.4], [-5, 5], [1e6, 4e6]].map(([low, high]) => niceScale(low, high, 4, 0.01)));
    for (const [i, [low, high]] of [[20.2, 24.9], [3, 3], [0, 0], [0.1, 0.4], [-5, 5], [1e6, 4e6]].entries()) {
      const { from, to, step } = scales[i];
      assert.ok(from <= low && to >= high && from < to && (to - from) / step <= 7, JSON.stringify(scales[i]));
      assert.match(step.toExponential(), /^[125](\.0+1)?e/);
      assert.ok(low < 0 || from >= 0);
    }
    assert.deepEqual(await page.evaluate(() => niceTimes(1_000, 60_000, 3.5)), [20_000, 40_000, 60_000]);
    assert.equal(await page.evaluate(() => niceScale(3, 3, 4, 1).digits), 0, 'no fractions of a client');
  });

  test('where data is missing the line has a gap, and only the last 60 values are kept', async () => {
    const page = await lab.open('dashboard');
    for (const metric of ['temperature', 'stock', 'cpu']) await page.uncheck(`#metric-${metric}`);
    const painted = await page.evaluate(() => new Promise((resolve) => {
      const { chart, canvas } = cards.get('stock');
      for (let i = 0; i < 130; i += 1) if (i < 90 || i >= 110) chart.push(i * 1000, 100 + (i % 2) * 50);
      chart.addEventListener('draw', () => {
        // 59 intervals fill the width: values 71 to 89, nothing, 110 to 129.
        const { data, width, height } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const opaque = (part) => {
          const x = Math.round(width * part);
          let count = 0;
          for (let y = 0; y < height; y += 1) count += data[(y * width + x) * 4 + 3] > 0;
          return count / height;
        };
        resolve({ kept: chart.values.length, before: opaque(0.3), gap: opaque(0.52), after: opaque(0.9) });
      }, { once: true });
    }));
    assert.equal(painted.kept, 60);
    assert.ok(painted.before > 0.25 && painted.after > 0.25 && painted.gap < 0.1, JSON.stringify(painted));
  });

  test('however much comes in a frame is one draw, and none in a tab that gets no frames', async () => {
    const page = await lab.open('dashboard', { prepare: (page) => page.clock.install() });
    await untilDrawn(page, 'cpu', 1);
    await page.clock.pauseAt(new Date(Date.now() + 60_000));
    await page.evaluate(() => {
      window.draws = 0;
      cards.get('cpu').chart.addEventListener('draw', () => { window.draws += 1; });
    });
    const before = await page.evaluate(() => cards.get('cpu').chart.times.at(-1));
    await page.waitForFunction((before) => cards.get('cpu').updated > before + 400, before, { polling: 50 });
    assert.equal(await page.evaluate(() => window.draws), 0);
    await page.clock.runFor(20);
    assert.equal(await page.evaluate(() => window.draws), 1);
  });

  test('charts are as sharp as the screen, at any size', async () => {
    const page = await lab.open('dashboard', { deviceScaleFactor: 2.5, viewport: { width: 391, height: 800 } });
    await untilDrawn(page, 'cpu', 1);
    const isSharp = () => page.waitForFunction(() => {
      const canvas = document.getElementById('chart-cpu');
      const { width, height } = canvas.getBoundingClientRect();
      return Math.abs(canvas.width - width * 2.5) <= 1 && Math.abs(canvas.height - height * 2.5) <= 1;
    });
    await isSharp();
    await page.setViewportSize({ width: 1024, height: 800 });
    await isSharp();
  });

  test('the subscription survives the server', async () => {
    const page = await lab.open('dashboard');
    await page.uncheck('#metric-stock');
    await page.check('#metric-memory');
    await untilDrawn(page, 'memory', 1);
    await page.evaluate(() => {
      window.sent = [];
      connection.on('frame', ({ direction, type, data }) => {
        if (direction === 'out' && type === 'text') window.sent.push(data);
      });
    });
    const stock = await page.textContent('#value-stock');
    await lab.restart();
    await untilText(page, '#status-text', /^Kết nối lại/);
    await untilConnected(page);
    const { times } = await page.evaluate(() => ({ times: cards.get('memory').chart.times.length }));
    await untilDrawn(page, 'memory', times + 2);
    assert.deepEqual(await page.evaluate(() => window.sent), ['{"type":"subscribe","metrics":["temperature","cpu","memory"]}']);
    assert.equal(await page.textContent('#value-stock'), stock);
  });
});
