import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication, NestApplicationOptions } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { AppModule } from '../../sample-app/app.module.js';
import { PLATFORMS } from '../support/app.js';
import type { Platform } from '../support/app.js';
import { createTestDatabase } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';

jest.setTimeout(60_000); // opens whole shops

const LAMP = { amount: 4200, card: 'tok_visa', description: 'A lamp' };
const OPTIONS: NestApplicationOptions = { logger: false, abortOnError: false, rawBody: true, forceCloseConnections: true };

describe.each(PLATFORMS)("the sample's page on %s", (platform) => {
  let database: TestDatabase;
  let app: INestApplication;
  let url: string;

  beforeAll(async () => {
    database = await createTestDatabase();
    app = await openShop(platform, database.url);
    url = `http://127.0.0.1:${(app.getHttpServer().address() as { port: number }).port}`;
  });

  afterAll(async () => {
    await app?.close();
    await database.drop();
  });

  function post(path: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
    const fields = { Authorization: 'Bearer alice-token', 'Content-Type': 'application/json', ...headers };
    return fetch(url + path, { method: 'POST', headers: fields, body: JSON.stringify(body) });
  }

  const charges = async (): Promise<number> =>
    (await database.pool.query(`select from provider_charges where outcome = 'charged'`)).rowCount ?? 0;

  it('is served with everything that it refers to, and lets nothing else in', async () => {
    const page = await fetch(url);
    expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    expect(page.headers.get('content-security-policy')).toMatch(/^default-src 'none'; script-src 'self'; style-src 'self';/);
    const html = await page.text();
    expect(html).not.toMatch(/<script(?! type="module" src="\/page\/files\/main\.js")|<style|\son\w+=|\sstyle=|https?:/);

    const types = new Map([
      ['css', 'text/css; charset=utf-8'],
      ['svg', 'image/svg+xml'],
      ['js', 'text/javascript; charset=utf-8'],
    ]);
    const wanted = [...html.matchAll(/(?:src|href)="(\/page\/files\/[^"]+)"/g)].map(([, path = '']) => path);
    for (const path of wanted) {
      const file = await fetch(url + path);
      expect([path, file.status, file.headers.get('content-type')]).toEqual([path, 200, types.get(path.split('.').at(-1) ?? '')]);
      expect(file.headers.get('x-content-type-options')).toBe('nosniff');
      for (const [, next = ''] of (await file.text()).matchAll(/^import .* from '(.+)';$/gm)) {
        const { pathname } = new URL(next, url + path);
        if (!wanted.includes(pathname)) wanted.push(pathname);
      }
    }
    expect(wanted.length).toBeGreaterThan(20);
  });

  it('serves no file that is not its own', async () => {
    for (const path of [
      'nothing.js',
      'tsconfig.json',
      'types.d.ts',
      '..%2fpage.controller.ts',
      '%2e%2e/page.module.ts',
      'stories/..%2fmain.js',
    ]) {
      expect([path, (await fetch(`${url}/page/files/${path}`)).status]).toEqual([path, 404]);
    }
  });

  it('shows a customer their own rows and records, and nobody anything else', async () => {
    const [mine, theirs] = [randomUUID(), randomUUID()];
    await post('/payments', { ...LAMP, description: 'Of Alice' }, { 'Idempotency-Key': mine });
    await post('/payments', { ...LAMP, description: 'Of Bob' }, { 'Idempotency-Key': theirs, Authorization: 'Bearer bob-token' });
    const look = (token: string, query: string): Promise<Response> =>
      fetch(`${url}/page/state?${query}`, { headers: { Authorization: `Bearer ${token}` } });

    const seen = (await (await look('alice-token', `story=payments&key=${mine}&key=${theirs}`)).json()) as State;
    expect(seen.records).toEqual([
      expect.objectContaining({
        key: mine,
        state: 'completed',
        status: 201,
        attempt: 1,
        steps: [expect.objectContaining({ name: 'charge' })],
      }),
    ]);
    expect(seen.tables.find(({ table }) => table === 'payments')?.rows.map(({ description }) => description)).toEqual(['Of Alice']);
    expect(JSON.stringify(seen)).not.toContain('fingerprint');

    expect((await fetch(`${url}/page/state?story=payments`)).status).toBe(401);
    expect((await look('alice-token', 'story=pg_user')).status).toBe(400);
    expect((await look('alice-token', `story=payments${'&key=a'.repeat(21)}`)).status).toBe(400);
    for (const story of ['orders', 'profile', 'accounts', 'reservations', 'webhooks', 'mail', 'contact', 'imports']) {
      expect([story, (await look('alice-token', `story=${story}`)).status]).toEqual([story, 200]);
    }
  });

  it('loses the answer after the work and its record, and the retry gets it', async () => {
    const [before, key] = [await charges(), randomUUID()];
    await expect(post('/payments', LAMP, { 'Idempotency-Key': key, 'X-Demo-Lose-Answer': randomUUID() })).rejects.toThrow('fetch failed');
    const { rows } = await database.pool.query<{ state: number; body: Buffer }>(
      'select state, body from idempotency_records where key = $1',
      [key],
    );
    expect(rows).toMatchObject([{ state: 1 }]);
    const retried = await post('/payments', LAMP, { 'Idempotency-Key': key });
    expect([retried.status, retried.headers.get('idempotent-replayed')]).toEqual([201, 'true']);
    expect(Buffer.from(await retried.arrayBuffer())).toEqual(rows[0]?.body);
    expect(await charges()).toBe(before + 1);
  });

  it('loses answers of any kind: refusals, replays, and those of handlers that nobody protects', async () => {
    const [before, key] = [await charges(), randomUUID()];
    const lost = (): Record<string, string> => ({ 'Idempotency-Key': key, 'X-Demo-Lose-Answer': randomUUID() });
    await post('/payments', LAMP, { 'Idempotency-Key': key });
    await expect(post('/payments', LAMP, lost())).rejects.toThrow('fetch failed');
    await expect(post('/payments', { ...LAMP, amount: 1 }, lost())).rejects.toThrow('fetch failed');
    await expect(post('/unprotected/payments', LAMP, lost())).rejects.toThrow('fetch failed');
    expect(await charges()).toBe(before + 2);
  });

  it('does no work for what a browser repeats by itself after a lost answer', async () => {
    const before = await charges();
    const click = { 'X-Demo-Lose-Answer': randomUUID() };
    await expect(post('/unprotected/payments', LAMP, click)).rejects.toThrow('fetch failed');
    await expect(post('/unprotected/payments', LAMP, click)).rejects.toThrow('fetch failed');
    expect(await charges()).toBe(before + 1);
  });

  it('brings fresh data, for customers only', async () => {
    const key = randomUUID();
    await post('/payments', LAMP, { 'Idempotency-Key': key });
    expect((await fetch(`${url}/page/fresh-data`, { method: 'POST' })).status).toBe(401);
    expect((await post('/page/fresh-data', {})).status).toBe(204);
    for (const table of ['orders', 'payments', 'provider_charges', 'ledger_entries', 'transfers', 'products']) {
      expect([table, (await database.pool.query(`select from ${table}`)).rowCount]).toEqual([table, 0]);
    }
    const again = await post('/payments', LAMP, { 'Idempotency-Key': key });
    expect([again.status, again.headers.get('idempotent-replayed')]).toEqual([201, null]);
  });
});

interface State {
  readonly records: readonly object[];
  readonly tables: readonly { readonly table: string; readonly rows: readonly { readonly description?: string }[] }[];
}

async function openShop(platform: Platform, databaseUrl: string): Promise<INestApplication> {
  const shop = AppModule.with({
    databaseUrl,
    providerDelayMs: 0,
    lockTtl: '60s',
    reservationTtl: '10m',
    webhookSecret: 'a secret of this test',
    smtpUrl: undefined,
  });
  const app =
    platform === 'express'
      ? await NestFactory.create(shop, OPTIONS)
      : await NestFactory.create<NestFastifyApplication>(
          shop,
          new FastifyAdapter({ forceCloseConnections: true }) as FastifyAdapter,
          OPTIONS,
        );
  await app.listen(0, '127.0.0.1');
  return app;
}
