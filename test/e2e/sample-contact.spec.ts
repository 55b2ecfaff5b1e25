import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { openSampleShop } from '../support/sample-shop.js';
import type { SampleShop } from '../support/sample-shop.js';
import { until } from './support/stage.js';
import { codeOf, field } from './support/wire.js';
import type { Answer } from './support/wire.js';

jest.setTimeout(60_000); // starts an application

let shop: SampleShop;

beforeAll(async () => {
  shop = await openSampleShop();
});

afterAll(async () => {
  await shop.close();
});

interface Message {
  readonly email: string;
  readonly message: string;
}

const newMessage = (): Message => ({ email: 'dora@example.com', message: `Is the lamp still there? ${randomUUID()}` });
const click = (message: Message): Promise<Answer> => shop.ask('POST', '/contact', { as: null, body: message });
const messages = ({ message }: Message): Promise<number> => shop.count('select from contact_messages where message = $1', [message]);
const mails = ({ message }: Message): Promise<number> =>
  shop.count(`select from received_mails where recipient = 'shop@shop.example' and strpos(source, $1) > 0`, [message.slice(-36)]);

/** Until every mail that is owed has been sent. */
const mailsAreSent = (): Promise<void> => until(async () => (await shop.count('select from pending_mails')) === 0);

describe('the contact form', () => {
  it('takes a second click for the first: one message, one mail, and the same thanks', async () => {
    const message = newMessage();
    const [first, second] = [await click(message), await click(message)];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.text).toBe(first.text);
    await mailsAreSent();
    expect([await messages(message), await mails(message)]).toEqual([1, 1]);
  });

  it('keeps one message of a storm of clicks', async () => {
    const message = newMessage();
    const answers = await Promise.all(Array.from({ length: 20 }, () => click(message)));
    const first = answers.filter(({ status }) => status === 201);
    const early = answers.filter(({ status }) => status !== 201); // they came before there were any thanks to repeat
    expect(new Set(first.map(({ text }) => text)).size).toBe(1);
    expect(new Set(early.map(({ status }) => status))).toEqual(new Set(early.length === 0 ? [] : [409]));
    for (const answer of early)
      expect([codeOf(answer), Number(field(answer, 'retry-after'))]).toEqual(['IDEMPOTENCY_DUPLICATE_REQUEST', expect.any(Number)]);
    await mailsAreSent();
    expect([await messages(message), await mails(message)]).toEqual([1, 1]);
  });

  it('takes other words, and the same words from another address, for other messages', async () => {
    const message = newMessage();
    const others = [
      { ...message, message: `${message.message}!` },
      { ...message, email: 'emil@example.com' },
    ];
    const statuses = [await click(message), ...(await Promise.all(others.map(click)))].map(({ status }) => status);
    expect(statuses).toEqual([201, 201, 201]);
    expect(await shop.count('select from contact_messages where strpos(message, $1) = 1', [message.message])).toBe(3);
  });

  it('answers to whoever wrote it, and takes no message without an address', async () => {
    const message = newMessage();
    expect((await click({ ...message, email: 'nobody' })).status).toBe(400);
    expect((await click(message)).status).toBe(201);
    await mailsAreSent();
    expect(await shop.count(`select from received_mails where source like '%Reply-To: dora@example.com%'`)).toBeGreaterThan(0);
  });

  it('shows what has come to those who are logged in', async () => {
    expect((await shop.ask('GET', '/contact', { as: null })).status).toBe(401);
    expect((await shop.ask('GET', '/contact')).status).toBe(200);
  });
});
