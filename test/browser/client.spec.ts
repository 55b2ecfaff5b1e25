/** The client in a real browser: compiled as it is shipped, imported by a page without a bundler. */
import { readFileSync, readdirSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, expect, it, jest } from '@jest/globals';
import { Controller, Get, Header, NotFoundException, Param, Post } from '@nestjs/common';
import type { Browser, Page } from 'playwright-core';
import ts from 'typescript';
import { Idempotent } from '../../lib/index.js';
import { Ledger, bench, newKey } from '../e2e/support/bench.js';
import { Stage, until } from '../e2e/support/stage.js';
import type { RunningApp } from '../support/app.js';
import { startFrailLine } from '../support/frail-line.js';
import { launchChromium } from './support/chromium.js';
import { describeInBrowser } from './support/describe-in-browser.js';

/** A browser takes its time to start. */
jest.setTimeout(60_000);

const shared = bench();
const stage = new Stage();
const ledger = new Ledger();

const SOURCES = 'lib/client';
/** Compiled file by file, with their imports left as they are. */
const modules = new Map(
  readdirSync(SOURCES).map((name) => {
    const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022 };
    return [name.replace(/\.ts$/, '.js'), ts.transpileModule(readFileSync(`${SOURCES}/${name}`, 'utf8'), { compilerOptions }).outputText];
  }),
);

@Controller()
class Shop {
  @Get()
  @Header('content-type', 'text/html')
  page(): string {
    return `<!doctype html><link rel="icon" href="data:,"><script type="module">
      import * as client from './client/index.js';
      window.client = client;
    </script>`;
  }

  @Get('client/:name')
  @Header('content-type', 'text/javascript')
  module(@Param('name') name: string): string {
    const code = modules.get(name);
    if (code === undefined) throw new NotFoundException();
    return code;
  }

  @Idempotent({ required: true })
  @Post('payments/:order')
  pay(@Param('order') order: string): object {
    return { payment: ledger.run(order) };
  }

  @Idempotent({ required: true })
  @Post('slow-payments/:order')
  async paySlowly(@Param('order') order: string): Promise<object> {
    await stage.stopAt(order);
    return { payment: ledger.run(order) };
  }
}

/** What the page has; the functions that are handed to `evaluate` run there. */
interface ShopWindow {
  readonly client: typeof import('../../lib/client/index.js');
  readonly localStorage: { readonly length: number; key(at: number): string | null; getItem(name: string): string | null };
  readonly isSecureContext: boolean;
}

interface Told {
  readonly status: number;
  readonly body: unknown;
  readonly reasons: readonly string[];
  readonly replays: readonly string[];
  readonly keys: readonly (string | undefined)[];
}

/** Pays in the page, and tells what the client told. */
async function pay(page: Page, url: string, intent?: string): Promise<Told> {
  return page.evaluate(
    async ({ target, named }) => {
      const { client } = globalThis as unknown as ShopWindow;
      const told = { reasons: [] as string[], keys: [] as (string | undefined)[], replays: [] as string[] };
      const call = client.idempotentFetch({
        baseDelayMs: 1,
        keyStore: client.localStorageKeyStore(),
        onRetry: ({ reason, key }) => told.reasons.push(reason) && told.keys.push(key),
        onReplay: ({ key }) => told.replays.push(key),
      });
      const response = await call(target, { method: 'POST', body: new URLSearchParams({ amount: '1' }), ...(named && { intent: named }) });
      return { ...told, status: response.status, body: (await response.json()) as unknown };
    },
    { target: url, named: intent },
  );
}

/** What the page's localStorage has. */
function stored(page: Page): Promise<[string, string][]> {
  return page.evaluate(() => {
    const { localStorage } = globalThis as unknown as ShopWindow;
    return Array.from({ length: localStorage.length }, (_, at) => {
      const name = localStorage.key(at) ?? '';
      return [name, localStorage.getItem(name) ?? ''] as [string, string];
    });
  });
}

describeInBrowser('the client in Chromium', () => {
  let browser: Browser;
  let page: Page;
  let app: RunningApp;

  beforeAll(async () => {
    browser = await launchChromium(['--host-resolver-rules=MAP *.test 127.0.0.1']);
    app = await shared.start('express', {
      controllers: [Shop],
      configure: (nest) => nest.enableCors({ exposedHeaders: ['Retry-After', 'Idempotent-Replayed'] }),
    });
  });

  beforeEach(async () => {
    await page?.context().close();
    page = await (await browser.newContext()).newPage();
  });

  afterAll(async () => {
    stage.openAll();
    await browser?.close();
  });

  const open = async (url: string): Promise<void> => {
    await page.goto(url);
    await page.waitForFunction(() => 'client' in globalThis);
  };

  it('gets answers that were lost, by one effect', async () => {
    const line = await startFrailLine(app.url);
    try {
      await open(line.url);
      const order = newKey();
      // Not within the head: without TLS Chromium takes a head that broke off for all there is.
      line.breakAfter(0, -2, 0);
      const told = await pay(page, `${line.url}/payments/${order}`);
      expect(told).toMatchObject({ status: 201, body: { payment: expect.any(Number) } });
      expect(told.reasons).toContain('network'); // a lost connection that was used before is Chromium's own to repeat, and not told
      expect([new Set(told.keys).size, told.replays, ledger.runs(order)]).toEqual([1, [told.keys[0]], 1]);
    } finally {
      await line.close();
    }
  });

  it('goes on after a reload with the key in localStorage, and removes it with the answer', async () => {
    await open(app.url);
    const order = newKey();
    const target = `${app.url}/slow-payments/${order}`;
    const left = pay(page, target, `pay ${order}`).catch(() => 'the page is gone');
    await stage.reached(order);
    const kept = await stored(page);
    expect(kept).toEqual([[`idempotency-key:pay ${order}`, expect.any(String)]]);
    await page.reload();
    expect(await left).toBe('the page is gone');
    await page.waitForFunction(() => 'client' in globalThis);
    expect(await stored(page)).toEqual(kept);
    stage.open(order);
    await until(() => ledger.runs(order) === 1);

    const told = await pay(page, target, `pay ${order}`);
    expect([told.status, told.replays, ledger.runs(order)]).toEqual([201, [kept[0]?.[1]], 1]);
    expect(await stored(page)).toEqual([]);
  });

  it('makes its keys in a page that is no secure context, too', async () => {
    const url = app.url.replace('127.0.0.1', 'shop.test');
    await open(url);
    expect(await page.evaluate(() => (globalThis as unknown as ShopWindow).isSecureContext)).toBe(false);
    const order = newKey();
    const [first, second] = [await pay(page, `${url}/payments/${order}`), await pay(page, `${url}/payments/${order}`)];
    expect([first.status, second.status, ledger.runs(order)]).toEqual([201, 201, 2]);
  });

  it('hears of waits and replays from another origin that exposes their headers', async () => {
    await open(app.url);
    const order = newKey();
    const elsewhere = `${app.url.replace('127.0.0.1', 'api.test')}/slow-payments/${order}`;
    const first = pay(page, elsewhere, order);
    await stage.reached(order);
    const second = pay(page, elsewhere, order);
    await page.waitForResponse((response) => response.status() === 409);
    stage.open(order);
    const [one, two] = await Promise.all([first, second]);
    expect([two.body, two.reasons[0], two.replays.length, ledger.runs(order)]).toEqual([one.body, 'in-use', 1, 1]);
  });

  it('ends at once when the page aborts, and sends a Request again with its body', async () => {
    await open(app.url);
    const [aborted, again] = await page.evaluate(async (url) => {
      const { client } = globalThis as unknown as ShopWindow;
      const call = client.idempotentFetch();
      const controller = new AbortController();
      const name = call(url, { method: 'POST', signal: controller.signal }).catch((error: unknown) => (error as Error).name);
      controller.abort();
      const bodies: string[] = [];
      const flaky = client.idempotentFetch({
        baseDelayMs: 1,
        fetch: async (input, init) => {
          bodies.push(await new Request(input, init).text());
          if (bodies.length < 3) throw new TypeError('Failed to fetch');
          return new Response('done');
        },
      });
      await flaky(new Request(url, { method: 'POST', body: 'text' }));
      return [await name, bodies] as const;
    }, `${app.url}/payments/${newKey()}`);
    expect([aborted, again]).toEqual(['AbortError', ['text', 'text', 'text']]);
  });
});
