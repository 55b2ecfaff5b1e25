import { createHmac, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { callbackify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { SMTPServer } from 'smtp-server';
import type { SMTPServerDataStream, SMTPServerSession } from 'smtp-server';
import { startAppProcess } from '../support/app-process.js';
import type { AppProcess } from '../support/app-process.js';
import { createTestDatabase } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';

jest.setTimeout(60_000); // starts applications

const SECRET = 'a secret that the provider and the shop share';
const AUTHORIZATION = { Authorization: 'Bearer alice-token' };

let database: TestDatabase;
let postOffice: PostOffice;
let shop: AppProcess;

beforeAll(async () => {
  database = await createTestDatabase();
  postOffice = await openPostOffice();
  shop = await startShop();
});

afterAll(async () => {
  await stop(shop);
  await postOffice.close();
  await database.drop();
});

const startShop = (): Promise<AppProcess> =>
  startAppProcess('sample-app/main.ts', {
    DATABASE_URL: database.url,
    PORT: '0',
    PROVIDER_DELAY_MS: '0',
    WEBHOOK_SECRET: SECRET,
    SMTP_URL: postOffice.url,
  });

async function stop(process: AppProcess): Promise<void> {
  process.kill('SIGTERM');
  await process.exited;
}

async function pay(description: string): Promise<{ orderId: string; chargeId: string }> {
  const response = await fetch(`${shop.url}/payments`, {
    method: 'POST',
    headers: { ...AUTHORIZATION, 'Content-Type': 'application/json', 'Idempotency-Key': randomUUID() },
    body: JSON.stringify({ amount: 4200, card: 'tok_visa', description }),
  });
  expect(response.status).toBe(201);
  return (await response.json()) as { orderId: string; chargeId: string };
}

describe("the provider's webhooks", () => {
  const now = (): number => Math.floor(Date.now() / 1000);
  const settled = (chargeId: string): string => JSON.stringify({ id: `evt_${randomUUID()}`, type: 'charge.settled', chargeId });
  const sign = (body: string, at = now(), secret = SECRET): string =>
    `t=${at},v1=${createHmac('sha256', secret).update(`${at}.${body}`).digest('hex')}`;

  function deliver(body: string, signature?: string): Promise<Response> {
    const headers = { 'Content-Type': 'application/json', ...(signature !== undefined && { 'Provider-Signature': signature }) };
    return fetch(`${shop.url}/webhooks/payments`, { method: 'POST', headers, body });
  }

  async function payoutsOf(chargeId: string): Promise<number> {
    const { rowCount } = await database.pool.query(
      `select from ledger_entries where debit = 'bank' and payment_id = (select id from payments where charge_id = $1)`,
      [chargeId],
    );
    return rowCount ?? 0;
  }

  it('are entered once, however often they are delivered', async () => {
    const { chargeId } = await pay('A cupboard');
    const event = settled(chargeId);
    const first = await deliver(event, sign(event));
    const second = await deliver(event, sign(event, now() - 60)); // another delivery is signed anew
    expect([first.status, second.status]).toEqual([200, 200]);
    expect(second.headers.get('idempotent-replayed')).toBe('true');
    expect(await second.text()).toBe(await first.text());
    expect(await payoutsOf(chargeId)).toBe(1);
  });

  it('are entered once when they are delivered at the same time', async () => {
    const { chargeId } = await pay('A wardrobe');
    const event = settled(chargeId);
    const statuses = (await Promise.all([1, 2, 3, 4].map(() => deliver(event, sign(event))))).map(({ status }) => status);
    expect(statuses).toContain(200);
    expect(statuses.every((status) => status === 200 || status === 409)).toBe(true);
    expect(await payoutsOf(chargeId)).toBe(1);
  });

  it('may come before their payment: they are refused, and accepted when they come again', async () => {
    const chargeId = randomUUID();
    const event = settled(chargeId);
    expect((await deliver(event, sign(event))).status).toBe(404);
    const again = await deliver(event, sign(event));
    expect([again.status, again.headers.get('idempotent-replayed')]).toEqual([404, null]);
    const { orderId } = await pay('A bed');
    await database.pool.query('update payments set charge_id = $1 where order_id = $2', [chargeId, orderId]);
    expect((await deliver(event, sign(event))).status).toBe(200);
    expect(await payoutsOf(chargeId)).toBe(1);
  });

  it('must be signed by the provider, lately, and as they are, before anything else is looked at', async () => {
    const { chargeId } = await pay('A desk');
    const event = settled(chargeId);
    const refused = [
      await deliver(event),
      await deliver(event, sign(event, now(), 'another secret')),
      await deliver(event, sign(event, now() - 3600)),
      await deliver(event, sign(event).slice(0, -1)),
      await deliver(event.replace('{', '{ '), sign(event)),
    ];
    expect(refused.map(({ status }) => status)).toEqual([401, 401, 401, 401, 401]);
    expect(await payoutsOf(chargeId)).toBe(0);

    expect((await deliver(event, sign(event))).status).toBe(200);
    expect((await deliver(event)).status).toBe(401); // a stored answer is not for everybody either
  });

  it('that mean nothing to the shop are accepted', async () => {
    const event = JSON.stringify({ id: `evt_${randomUUID()}`, type: 'charge.noticed', chargeId: randomUUID() });
    expect((await deliver(event, sign(event))).status).toBe(200);
  });
});

describe('confirmations by e-mail', () => {
  it('come over SMTP, one for an order that is paid', async () => {
    const { orderId } = await pay('A lamp');
    const mail = await postOffice.mailAbout(orderId);
    expect(mail).toMatchObject({ recipients: ['alice@example.com'] });
    expect(mail.source).toContain(`Subject: Your order ${orderId}`);
  });

  it('wait for a mail server that is away, and are then sent once, by whichever shop', async () => {
    postOffice.refuses = true;
    const orders = [await pay('A carpet'), await pay('A curtain'), await pay('A cushion')].map(({ orderId }) => orderId);
    await shop.waitForLine(/The mail about .* can't be sent yet/);
    await stop(shop);
    postOffice.refuses = false;

    const [one, other] = await Promise.all([startShop(), startShop()]);
    await nothingIsPending();
    await stop(other); // it finishes what it has begun
    shop = one;
    for (const orderId of orders) expect(postOffice.mails.filter(({ source }) => source.includes(orderId))).toHaveLength(1);
  });

  it('are not sent for an order that is rolled back', async () => {
    const before = postOffice.mails.length;
    const response = await fetch(`${shop.url}/payments`, {
      method: 'POST',
      headers: { ...AUTHORIZATION, 'Content-Type': 'application/json', 'Idempotency-Key': randomUUID() },
      body: JSON.stringify({ amount: 4200, card: 'tok_declined', description: 'A mirror' }),
    });
    expect(response.status).toBe(402);
    const { orderId } = await pay('A clock');
    await postOffice.mailAbout(orderId);
    expect(postOffice.mails).toHaveLength(before + 1);
  });
});

describe('a mail', () => {
  it('is sent once, however many shops and retries come upon it, and though it is noted down again afterwards', async () => {
    const other = await startShop();
    const key = randomUUID();
    const body = JSON.stringify({ amount: 4200, card: 'tok_visa', description: 'A storm lantern' });
    const headers = { ...AUTHORIZATION, 'Content-Type': 'application/json', 'Idempotency-Key': key };
    const send = (url: string): Promise<Response> => fetch(`${url}/payments`, { method: 'POST', headers, body });
    await Promise.all(Array.from({ length: 20 }, (_, number) => send(number % 2 === 0 ? shop.url : other.url)));
    const { orderId } = (await (await send(shop.url)).json()) as { orderId: string };
    await postOffice.mailAbout(orderId);
    await nothingIsPending();

    await database.pool.query(
      `insert into pending_mails (about, recipient, subject, text) values ($1::uuid, 'alice@example.com', $1::uuid::text, '')`,
      [orderId],
    );
    await pay('A snuffer'); // has both of them look
    await nothingIsPending();
    await stop(other);
    expect(postOffice.mails.filter(({ source }) => source.includes(orderId))).toHaveLength(1);
  });

  it("whose shop dies before it hears the server's yes is sent again, under the same Message-ID", async () => {
    postOffice.beforeYes = async () => {
      shop.kill('SIGKILL');
      await shop.exited;
    };
    const { orderId } = await pay('A tinderbox');
    await shop.exited;
    postOffice.beforeYes = undefined;
    shop = await startShop();
    await nothingIsPending();
    const copies = postOffice.mails.filter(({ source }) => source.includes(orderId));
    expect(copies).toHaveLength(2);
    const ids = copies.map(({ source }) => /^Message-ID:\s+(<\S+>)/im.exec(source)?.[1]); // a long one is on a line of its own
    expect(ids).toEqual([expect.any(String), ids[0]]);
  });
});

async function nothingIsPending(): Promise<void> {
  while ((await database.pool.query('select from pending_mails')).rowCount !== 0) await pause(20);
}

interface Mail {
  readonly recipients: readonly string[];
  readonly source: string;
}

interface PostOffice {
  readonly url: string;
  readonly mails: readonly Mail[];
  /** Whether it is out of order. */
  refuses: boolean;
  /** What happens when a mail is there and nobody has been told so yet. */
  beforeYes: (() => Promise<void>) | undefined;
  mailAbout(orderId: string): Promise<Mail>;
  close(): Promise<void>;
}

async function openPostOffice(): Promise<PostOffice> {
  const mails: Mail[] = [];
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['AUTH', 'STARTTLS'],
    disableReverseLookup: true,
    onConnect: (_session, done) => done(office.refuses ? new Error('Out of order') : null),
    onData: callbackify(async (stream: SMTPServerDataStream, { envelope }: SMTPServerSession) => {
      mails.push({ recipients: envelope.rcptTo.map(({ address }) => address), source: await text(stream) });
      await office.beforeYes?.();
    }),
  });
  server.on('error', () => undefined); // a shop that ends does not say goodbye
  const listener = server.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const office: PostOffice = {
    url: `smtp://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    mails,
    refuses: false,
    beforeYes: undefined,
    async mailAbout(orderId) {
      for (;;) {
        const mail = mails.find(({ source }) => source.includes(orderId));
        if (mail !== undefined) return mail;
        await pause(20);
      }
    },
    close: () => new Promise((closed) => server.close(() => closed())),
  };
  return office;
}
