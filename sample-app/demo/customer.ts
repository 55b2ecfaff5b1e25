/** A customer's client: it sends payments, hangs up when told to, and tries again as the answers say. */
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

export async function pay(origin: string, { key, ...payment }: PaymentOrder, signal?: AbortSignal): Promise<Answer> {
  const response = await fetch(`${origin}/payments`, {
    method: 'POST',
    headers: { ...AUTHORIZATION, 'Content-Type': 'application/json', ...(key === undefined ? {} : { 'Idempotency-Key': key }) },
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
  const response = await fetch(`${origin}/provider/charges`, { headers: AUTHORIZATION });
  return ((await response.json()) as BookEntry[]).filter((entry) => entry.description === description);
}

/** Resolves once the provider has moved the money; its answer is still on the way then. */
export async function charged(origin: string, description: string): Promise<void> {
  while (!(await bookOf(origin, description)).some(({ outcome }) => outcome === 'charged')) await pause(20);
}

/** How many payments with this description the shop itself knows. */
export async function paymentsOf(origin: string, description: string): Promise<number> {
  const response = await fetch(`${origin}/payments`, { headers: AUTHORIZATION });
  return ((await response.json()) as { description: string }[]).filter((payment) => payment.description === description).length;
}
