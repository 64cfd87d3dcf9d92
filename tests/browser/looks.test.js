// What can be measured of how the pages look.

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AxeBuilder } from '@axe-core/playwright';
import { SERVERS, onEachServer, openPage, say, startBrowser, startServer, untilText } from './lab.js';

const PAGES = ['index', 'chat', 'dashboard', 'inside'];

/** Shows all there is on a page: messages, a notice, the wire view with its cards, every chart and table. */
async function unfold(page, name) {
  if (name === 'index') return;
  if (name === 'inside') {
    await unfoldInside(page);
    return;
  }
  await page.click('#wire-toggle');
  for (const box of await page.locator('.choice-list input').all()) await box.check();
  if (name === 'chat') {
    await say(page, 'An', 'see https://example.org');
    await page.locator('.message.me.sent').first().waitFor();
    await page.evaluate(() => {
      log.setStatus(log.write('An', 'lost?'), 'unsure');
      log.receive({ type: 'error', code: 'rate_limited', retry_after_ms: 60_000 });
      messageInput.value = 'a'.repeat(501);
      renderInput();
    });
  }
  await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
}

/** A recording that is looked at, a followed message, and a held handler. */
async function unfoldInside(page) {
  await page.click('#follow-send');
  await page.locator('#path li').first().waitFor();
  await page.click('#hold');
  await page.locator('#hold-result .bar').first().waitFor();
  await page.click('#freeze');
  await page.locator('#position').waitFor();
}

onEachServer('looks', ['--chat-interval', '0s', '--experiments'], (lab) => {
  test('axe finds nothing serious on any page, in both schemes and languages', async () => {
    for (const name of PAGES) {
      const page = await lab.open(name, { reducedMotion: 'reduce' });
      await unfold(page, name);
      // Contrast does not depend on the language, nor a name on the scheme.
      for (const [language, colorScheme] of [['vi', 'light'], ['en', 'dark']]) {
        await page.emulateMedia({ colorScheme });
        if (language === 'en') await page.click('#language-switch');
        const { violations } = await new AxeBuilder({ page }).setLegacyMode().options({ resultTypes: ['violations'] }).analyze();
        const bad = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
        assert.deepEqual(bad.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => html + failureSummary)]), [], `${name} ${colorScheme} ${language}`);
      }
    }
  });

  test('nothing scrolls sideways from 320 px on, and what is pressed is 44 px high', async () => {
    for (const name of PAGES) {
      const page = await lab.open(name, { viewport: { width: 320, height: 640 } });
      await unfold(page, name);
      for (const width of [320, 768, 1440]) {
        await page.setViewportSize({ width, height: 640 });
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} at ${width} px`);
        const small = await page.evaluate(() => [...document.querySelectorAll('button, input:not([type=checkbox]), textarea, select, nav a, .check, .brand')]
          .filter((target) => target.checkVisibility() && target.getBoundingClientRect().height < 43.5)
          .map((target) => target.outerHTML));
        assert.deepEqual(small, [], name);
      }
    }
  });

  test('who asks for less motion gets none', async () => {
    const page = await lab.open('chat', { reducedMotion: 'reduce' });
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
    await page.evaluate(() => { byId('status-indicator').className = 'status-indicator connecting'; });
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  });

  test('the keyboard reaches everything, in order, and its place is seen', async () => {
    const page = await lab.open('chat');
    await page.evaluate(() => document.querySelectorAll('.message a').forEach((link) => link.remove()));
    await page.focus('.brand');
    const reached = [];
    while (reached.at(-1)?.[0] !== 'message-input') {
      await page.keyboard.press('Tab');
      reached.push(await page.evaluate(() => {
        const { id, textContent } = document.activeElement;
        return [id || textContent, getComputedStyle(document.activeElement).outlineStyle];
      }));
    }
    assert.deepEqual(reached, ['Chat', 'Dashboard', 'Inside', 'language-switch', 'theme-switch', 'wire-toggle', 'messages', 'name-input', 'message-input']
      .map((id) => [id, 'solid']));
  });

  test('the index page tells which server runs, and how many clients it has', async () => {
    const page = await lab.open('index');
    await untilText(page, '#server-model', /^(Event loop: mọi client trên một thread|Một thread cho mỗi client)$/);
    await untilText(page, '#client-count', /^1$/);
    await lab.open('chat');
    await untilText(page, '#client-count', /^2$/);
    assert.equal(await page.getAttribute('[data-http="/metrics"]', 'href'), `${lab.server.url}/metrics`);
    assert.ok(await page.isHidden('#report'));
  });
});

test('a report that the server was given is linked from the index page', async () => {
  const report = join(tmpdir(), `wslab-report-${process.pid}.html`);
  await writeFile(report, '<!DOCTYPE html><title>Report</title>');
  const server = await startServer(SERVERS[0], { flags: ['--report', report] });
  const browser = await startBrowser();
  const page = await openPage(browser, server.url);
  await page.click('#report a');
  assert.equal(await page.title(), 'Report');
  await browser.close();
  await server.stop();
});
