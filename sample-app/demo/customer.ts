/** A customer's client: it sends payments, hangs up when told to, tries again as the answers say, and looks into all the books. */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

export interface PaymentOrder {
  readonly key?: string;
  readonly amount: number;
  readonly card: string;
  readonly description: string;
}

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly replayed: boolean;
  /** The `code` of a refusal by the idempotency module. */
  readonly code: string | undefined;
  /** Seconds. */
  readonly retryAfter: number | undefined;
}

export interface BookEntry {
  readonly description: string;
  readonly outcome: string;
}

const AUTHORIZATION = { Authorization: 'Bearer alice-token' };
const JSON_HEADERS = { ...AUTHORIZATION, 'Content-Type': 'application/json' };

export async function pay(origin: string, { key, ...payment }: PaymentOrder, signal?: AbortSignal): Promise<Answer> {
  const response = await fetch(`${origin}/payments`, {
    method: 'POST',
    headers: { ...JSON_HEADERS, ...(key === undefined ? {} : { 'Idempotency-Key': key }) },
    body: JSON.stringify(payment),
    ...(signal === undefined ? {} : { signal }),
  });
  const body = Buffer.from(await response.arrayBuffer());
  const retryAfter = response.headers.get('retry-after');
  return {
    status: response.status,
    body,
    replayed: response.headers.get('idempotent-replayed') === 'true',
    code: (JSON.parse(body.toString()) as { code?: string }).code,
    retryAfter: retryAfter === null ? undefined : Number(retryAfter),
  };
}

/** Sends the payment again for as long as the answer is “still running”. All answers, in their order. */
export async function payUntilAnswered(origin: string, payment: PaymentOrder): Promise<readonly Answer[]> {
  const answers: Answer[] = [];
  for (;;) {
    const answer = await pay(origin, payment);
    answers.push(answer);
    if (answer.code !== 'IDEMPOTENCY_KEY_IN_USE') return answers;
    await pause(1000 * (answer.retryAfter ?? 1));
  }
}

/** What the provider has in its book about payments with this description. */
export async function bookOf(origin: string, description: string): Promise<readonly BookEntry[]> {
  return (await list<BookEntry>(origin, '/provider/charges')).filter((entry) => entry.description === description);
}

/** Resolves once the provider has moved the money; its answer is still on the way then. */
export async function charged(origin: string, description: string): Promise<void> {
  while (!(await bookOf(origin, description)).some(({ outcome }) => outcome === 'charged')) await pause(20);
}

/** What the shop has of a purchase, and its customer. */
export interface Traces {
  readonly orders: number;
  readonly payments: number;
  /** Ledger entries of what was earned, and of what the provider has paid out. */
  readonly sales: number;
  readonly payouts: number;
  /** The Message-ID of every mail that has come. */
  readonly mails: readonly string[];
}

export async function tracesOf(origin: string, description: string): Promise<Traces> {
  const orders = (await list<{ id: string; item: string }>(origin, '/orders')).filter(({ item }) => item === description);
  const payments = (await list<{ id: string; description: string }>(origin, '/payments')).filter(
    (each) => each.description === description,
  );
  const ledger = await list<{ paymentId: string; debit: string }>(origin, '/ledger');
  const entries = ledger.filter(({ paymentId }) => payments.some(({ id }) => id === paymentId));
  const mails = (await list<{ source: string }>(origin, '/mails')).filter(({ source }) => orders.some(({ id }) => source.includes(id)));
  return {
    orders: orders.length,
    payments: payments.length,
    sales: entries.filter(({ debit }) => debit === 'provider').length,
    payouts: entries.filter(({ debit }) => debit === 'bank').length,
    mails: mails.map(({ source }) => /^Message-ID: (.*)$/im.exec(source)?.[1] ?? ''),
  };
}

/** Resolves once the order's confirmation is there. */
export async function mailed(origin: string, description: string): Promise<void> {
  while ((await tracesOf(origin, description)).mails.length === 0) await pause(50);
}

export interface Delivery {
  readonly status: number;
  readonly replayed: boolean;
}

/** Has the provider pay out what was charged, and tell the shop: what the shop has said to each delivery. */
export async function payOut(origin: string, description: string): Promise<readonly Delivery[]> {
  const response = await fetch(`${origin}/provider/payouts`, {
    method: 'POST',
    headers: JSON_HEADERS,
    body: JSON.stringify({ description }),
  });
  return (await response.json()) as Delivery[];
}

/** Tells the shop of a payout that never was. The status of its answer. */
export async function forgeEvent(origin: string): Promise<number> {
  const body = JSON.stringify({ id: 'evt_forged', type: 'charge.settled', chargeId: randomUUID() });
  return (await fetch(`${origin}/webhooks/payments`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })).status;
}

async function list<Entry>(origin: string, path: string): Promise<Entry[]> {
  return (await (await fetch(origin + path, { headers: AUTHORIZATION })).json()) as Entry[];
}
