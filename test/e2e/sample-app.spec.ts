import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { get } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { runToExit, startAppProcess } from '../support/app-process.js';
import type { AppProcess } from '../support/app-process.js';
import { runCommand } from '../support/command.js';
import { sendCurlLine } from '../support/curl-line.js';
import { createTestDatabase } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';

const MAIN = 'sample-app/main.ts';
const LAMP = { amount: 4200, card: 'tok_visa', description: 'A lamp' };

jest.setTimeout(60_000); // every test here starts a process or a Postgres

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});

afterAll(async () => {
  await database.drop();
});

const startShop = (env: NodeJS.ProcessEnv = {}): Promise<AppProcess> =>
  startAppProcess(MAIN, { DATABASE_URL: database.url, PORT: '0', PROVIDER_DELAY_MS: '0', ...env });

async function stop(shop: AppProcess): Promise<void> {
  shop.kill('SIGTERM');
  await shop.exited;
}

function post(shop: AppProcess, path: string, body: object, key?: string, token = 'alice-token'): Promise<Response> {
  const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', ...(key && { 'Idempotency-Key': key }) };
  return fetch(shop.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
}

async function bookOf(shop: AppProcess, description: string): Promise<string[]> {
  const entries = await list<{ description: string; outcome: string }>(shop, '/provider/charges');
  return entries.filter((entry) => entry.description === description).map(({ outcome }) => outcome);
}

/** What the shop itself has of a purchase. */
async function tracesOf(shop: AppProcess, description: string): Promise<{ orders: number; payments: number; ledger: string[] }> {
  const orders = (await list<{ item: string }>(shop, '/orders')).filter(({ item }) => item === description);
  const payments = (await list<{ id: string; description: string }>(shop, '/payments')).filter((each) => each.description === description);
  const ledger = await list<{ paymentId: string; debit: string }>(shop, '/ledger');
  const entries = ledger.filter(({ paymentId }) => payments.some(({ id }) => id === paymentId));
  return { orders: orders.length, payments: payments.length, ledger: entries.map(({ debit }) => debit) };
}

async function list<Entry>(shop: AppProcess, path: string): Promise<Entry[]> {
  return (await (await fetch(shop.url + path, { headers: { Authorization: 'Bearer alice-token' } })).json()) as Entry[];
}

async function getPage(shop: AppProcess, host: string): Promise<{ contentType: string | undefined; page: string }> {
  const [response] = (await once(get(`${shop.url}/things-to-try`, { headers: { host } }), 'response')) as [IncomingMessage];
  return { contentType: response.headers['content-type'], page: await text(response) };
}

describe('the sample shop', () => {
  let shop: AppProcess;

  beforeAll(async () => {
    shop = await startShop();
  });

  afterAll(async () => {
    await stop(shop);
  });

  it('prints command lines to try, and each does what is said above it', async () => {
    await shop.waitForLine(/Your orders and payments/);
    const lines = shop.output().split('\n');
    const commands = lines.filter((line) => line.startsWith('curl ') && !line.includes('tok_slow')).flatMap((line) => line.split('; '));
    const twice: [number, number][] = [];
    for (const command of commands) twice.push([(await sendCurlLine(command)).status, (await sendCurlLine(command)).status]);
    expect(twice).toEqual([
      [201, 201], // the payment and its replay
      [422, 422], // its key for another payment
      [200, 200], // the provider's book
      [200, 200], // the shop's own
      [200, 200], // the mailbox
      [201, 201], // the payout and its webhooks
      [201, 201], // the refund and its own
      [402, 402], // the declined card
      [502, 201], // the provider that is down once
      [400, 400], // no key
      [201, 201], // two orders without a key
      [201, 200], // an order under an id of the client
      [201, 409], // a second order of the same reference
      [200, 200], // the profile
      [200, 412], // two changes of one version of it
      [201, 201], // the contact form, clicked twice
      [201, 200], // the transfer, and the same one again
      [200, 200], // the accounts
      [201, 201], // the reservation and its replay
      [200, 200], // the stock
      [502, 201], // the import whose supplier is down once
      [200, 200], // all orders
      [200, 200], // all payments
    ]);
    expect(await bookOf(shop, 'A lamp')).toEqual(['charged']);
    expect(await tracesOf(shop, 'A lamp')).toEqual({ orders: 3, payments: 1, ledger: ['provider', 'bank', 'sales'] }); // two orders have no payment
    expect(await bookOf(shop, 'A mug')).toEqual(['declined']);
    expect(await tracesOf(shop, 'A mug')).toEqual({ orders: 0, payments: 0, ledger: [] });
    expect(await bookOf(shop, 'A spoon')).toEqual(['unavailable', 'charged']);
    expect(await tracesOf(shop, 'A spoon')).toEqual({ orders: 1, payments: 1, ledger: ['provider'] });
  });

  it('prints no more than one heading before them', () => {
    expect(shop.output().trimStart().split('\n').slice(0, 3)).toEqual([
      expect.stringContaining(`The shop is open at ${shop.url}`),
      '',
      expect.stringMatching(/^# Pay\./),
    ]);
  });

  it("names the command line below them, and keeps the user's own DATABASE_URL to itself", async () => {
    expect(await shop.waitForLine(/cli\/main\.js/)).toBe('node dist/lib/cli/main.js status');
    expect(shop.output()).not.toContain(database.url);
  });

  it('has a page that says what to try, and takes no markup from a Host header', async () => {
    const { contentType, page } = await getPage(shop, new URL(shop.url).host);
    expect(contentType).toBe('text/html; charset=utf-8');
    expect(page).toContain('<html lang="en">');
    expect(page).toContain(`curl -i ${shop.url}/payments`);
    expect((await getPage(shop, '<script>')).page).not.toContain('<script>');
  });

  it('asks for a token everywhere else', async () => {
    expect((await fetch(`${shop.url}/payments`)).status).toBe(401);
    expect((await post(shop, '/payments', LAMP, randomUUID(), 'nobody')).status).toBe(401);
  });

  it("keeps one customer's keys apart from another's", async () => {
    const key = randomUUID();
    const alice = await post(shop, '/orders', { item: 'A cup', quantity: 1 }, key);
    const bob = await post(shop, '/orders', { item: 'A bowl', quantity: 9 }, key, 'bob-token');
    expect([alice.status, bob.status]).toEqual([201, 201]);
    expect(await bob.json()).toMatchObject({ userId: 'bob', item: 'A bowl' });
  });

  it('does not use up a key on an order that its validation refuses', async () => {
    const key = randomUUID();
    expect((await post(shop, '/orders', { item: 'A cup', quantity: 0 }, key)).status).toBe(400);
    expect((await post(shop, '/orders', { item: 'A cup', quantity: 1 }, key)).status).toBe(201);
  });

  it('takes orders without a key, each for itself', async () => {
    const first = (await (await post(shop, '/orders', { item: 'A pan', quantity: 1 })).json()) as { id: string };
    const second = (await (await post(shop, '/orders', { item: 'A pan', quantity: 1 })).json()) as { id: string };
    expect(first.id).not.toBe(second.id);
  });

  it('carries out more payments at once than it has connections', async () => {
    const description = `A candle ${randomUUID()}`;
    const answers = await Promise.all(Array.from({ length: 30 }, () => post(shop, '/payments', { ...LAMP, description }, randomUUID())));
    expect(answers.map(({ status }) => status)).toEqual(Array(30).fill(201));
    expect(await tracesOf(shop, description)).toEqual({ orders: 30, payments: 30, ledger: Array(30).fill('provider') });
  });

  it('says in one sentence that its port is taken', async () => {
    const port = new URL(shop.url).port;
    const second = await runToExit(MAIN, { DATABASE_URL: database.url, PORT: port });
    expect(second.code).toBe(1);
    expect(second.output).toContain(`Port ${port} is taken. Choose another one`);
  });
});

describe('the sample shop, interrupted', () => {
  it('answers with the same bytes and charges once, also when it was killed between the two and started again', async () => {
    const [key, description] = [randomUUID(), 'A mirror'];
    const before = await startShop();
    const first = await post(before, '/payments', { ...LAMP, description }, key);
    const firstBytes = Buffer.from(await first.arrayBuffer());
    before.kill('SIGKILL');
    await before.exited;

    const after = await startShop();
    const second = await post(after, '/payments', { ...LAMP, description }, key);
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.headers.get('idempotent-replayed')).toBe('true');
    expect(Buffer.from(await second.arrayBuffer())).toEqual(firstBytes);
    expect(await bookOf(after, description)).toEqual(['charged']);
    await stop(after);
  });

  it('finishes a payment under way before it closes', async () => {
    const description = 'A bench';
    const shop = await startShop({ PROVIDER_DELAY_MS: '1500' });
    const payment = post(shop, '/payments', { ...LAMP, description }, randomUUID());
    while (!(await bookOf(shop, description)).includes('charged'));
    shop.kill('SIGINT');
    shop.kill('SIGINT'); // as npm does when it passes Ctrl-C on
    expect((await payment).status).toBe(201);
    expect(await shop.exited).toEqual({ code: 0, signal: null });
  });

  it('keeps its data on a Postgres of its own when no DATABASE_URL is given', async () => {
    const cwd = await mkdtemp(join(tmpdir(), 'shop-'));
    await chmod(cwd, 0o755); // root's Postgres runs as another user, who must get in
    try {
      const env = { DATABASE_URL: '', PORT: '0', PROVIDER_DELAY_MS: '0' };
      const key = randomUUID();
      const before = await startAppProcess(MAIN, env, { cwd });
      const first = await (await post(before, '/payments', LAMP, key)).text();
      before.kill('SIGKILL');
      await before.exited;

      const after = await startAppProcess(MAIN, env, { cwd });
      const second = await post(after, '/payments', LAMP, key);
      expect(second.headers.get('idempotent-replayed')).toBe('true');
      expect(await second.text()).toBe(first);
      const [, args = ''] = (await after.waitForLine(/cli\/main\.js/)).split('main.js ');
      expect(await runCommand(args.split(' '))).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Tables +current$/m) });
      await stop(after);
    } finally {
      await rm(cwd, { recursive: true, force: true });
    }
  });
});
