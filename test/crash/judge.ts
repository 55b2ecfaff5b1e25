/**
 * Says what is wrong with a payment whose execution was cut short: by the shop's tables, by the
 * provider's books, and by what a retry is answered. It knows nothing of how or where it was cut.
 */
import type { Pool } from 'pg';
import { isReplay, json, send } from '../e2e/support/wire.js';
import type { Answer } from '../e2e/support/wire.js';
import type { Receipt } from '../support/apps/crash-shop.js';
import type { Variant } from './variants.js';

/** One payment, under a key of its own. */
export interface Payment {
  readonly key: string;
  readonly variant: Variant;
  /** How it was cut short, for people. */
  readonly cut: string;
}

/** What there is of it. */
interface Traces {
  readonly record:
    { readonly state: number; readonly status: number | null; readonly body: string | null; readonly lease: number | null } | undefined;
  /** Results of the recorded steps, by name. */
  readonly steps: ReadonlyMap<string, unknown>;
  readonly calls: readonly { readonly id: number; readonly name: string; readonly provider_key: string }[];
  /** Rows of the business, by id. */
  readonly payments: readonly number[];
  readonly mails: readonly number[];
}

const BODY = { amount: 10 };
const COMPLETED = 1;

/** What an atomic claim may last whose transaction never began: seconds, not the minute of a plain one. */
const SHORT_LEASE_MS = 5_000;

/** After a crash the first retry should do; a few more are allowed to one that meets the end of another. */
const MOST_TRIES = 3;

export function pay(url: string, { key, variant }: Payment, headers = {}): Promise<Answer> {
  return send(`${url}/${variant.path}`, { key, body: BODY, headers });
}

export class Judge {
  constructor(
    /** The shop's database. */
    private readonly shop: Pool,
    private readonly provider: Pool,
    /** Where retries go. */
    private readonly url: string,
  ) {}

  /** The leases of whatever was cut short run out, on the database's clock, which nobody waits for. */
  async letLeasesPass(): Promise<void> {
    await this.shop.query(`update idempotency_records set locked_until = statement_timestamp() - interval '1 second' where state = 0`);
  }

  /**
   * After a crash and before any retry: what must not be half done is not.
   *
   * @param answer of the request itself, if it got one
   */
  async afterCut(payment: Payment, answer?: Answer): Promise<string[]> {
    const { variant } = payment;
    const traces = await this.#traces(payment);
    const { record, steps, calls, payments, mails } = traces;
    const completed = record?.state === COMPLETED;
    const faults = new Faults(payment);
    if (variant.atomic) {
      faults.unless(
        payments.length === (completed ? variant.payments : 0),
        `${payments.length} payments beside a record that is ${completed ? '' : 'not '}completed`,
      );
      faults.unless(
        mails.length === (completed ? variant.mails : 0),
        `${mails.length} mails beside a record that is ${completed ? '' : 'not '}completed`,
      );
      faults.unless((record?.lease ?? 0) <= SHORT_LEASE_MS, `its key is taken for ${record?.lease} ms`);
    } else if (variant.steps.length > 0) {
      faults.unless(
        payments.length === (steps.has('book') ? 1 : 0),
        `${payments.length} payments, and the steps ${[...steps.keys()].join()}`,
      );
    }
    for (const name of steps.keys())
      faults.unless(name === 'book' || calls.some((call) => call.name === name), `the step ${name} without its call`);
    if (answer?.status === variant.status) {
      faults.unless(completed && answer.text === record.body, `it was answered ${answer.text}, and that is not in its record`);
    }
    if (answer !== undefined && !completed) return faults.found; // its process lives, and may give the key back this very moment
    if (calls.length > 0) faults.unless(record !== undefined, 'it has called the provider, and its claim is forgotten');
    if (record !== undefined) {
      const other = await send(`${this.url}/${variant.path}`, { key: payment.key, body: { amount: 11 } });
      faults.unless(other.status === 422, `another request with its key is answered ${other.status}`);
    }
    return faults.found;
  }

  /** Retries until it is done, and once more; and compares what there is with what there was. */
  async afterRetry(payment: Payment, attemptsBefore = 1, mostTries = MOST_TRIES): Promise<string[]> {
    const { variant } = payment;
    const before = await this.#traces(payment);
    const faults = new Faults(payment);
    const answers = [await pay(this.url, payment)];
    while (answers.at(-1)!.status !== variant.status && answers.length < mostTries) answers.push(await pay(this.url, payment));
    const answer = answers.at(-1)!;
    faults.unless(
      answer.status === variant.status,
      `retries were answered ${answers.map(({ status, text }) => `${status} ${text}`).join()}`,
    );
    if (faults.found.length > 0) return faults.found;

    const after = await this.#traces(payment);
    this.#compareAnswer(answer, before, after, faults);
    this.#compareEffects(variant, before, after, attemptsBefore + answers.length, faults);
    const again = await pay(this.url, payment);
    faults.unless(
      again.body.equals(answer.body) && again.status === answer.status && isReplay(again),
      `the replay is ${again.status} ${again.text}`,
    );
    faults.unless(same(after, await this.#traces(payment)), 'the replay has left traces');
    return faults.found;
  }

  #compareAnswer(answer: Answer, before: Traces, after: Traces, faults: Faults): void {
    const { record } = after;
    faults.unless(
      record?.state === COMPLETED && record.status === answer.status && record.body === answer.text,
      'the answer is not the record',
    );
    const { payment, mail, charge, receipt } = json(answer) as Receipt;
    if (answer.status === 201) faults.unless(after.payments.includes(payment ?? 0), `it tells of payment ${payment}, which is not there`);
    if (mail !== undefined) faults.unless(after.mails.includes(mail), `it tells of mail ${mail}, which is not there`);
    for (const [name, result] of Object.entries({ charge, receipt })) {
      if (result === undefined) continue;
      const recorded = before.steps.get(name) ?? result;
      faults.unless(result === recorded, `the ${name} is ${result}, and ${JSON.stringify(recorded)} was recorded`);
      faults.unless(
        after.calls.some((call) => call.name === name && call.id === result),
        `the provider knows no ${name} ${result}`,
      );
    }
  }

  #compareEffects(variant: Variant, before: Traces, after: Traces, attempts: number, faults: Faults): void {
    const { payments, mails } = after;
    // Plain and without steps: every attempt may have left a row, and the last one has.
    const [least, most] = variant.effects === 'one for an attempt' ? [1, attempts] : [variant.payments, variant.payments];
    faults.unless(least <= payments.length && payments.length <= most, `${payments.length} payments`);
    faults.unless(mails.length === variant.mails, `${mails.length} mails`);
    for (const name of variant.steps) {
      const called = callsOf(after, name);
      faults.unless(
        called.length >= 1 && after.steps.has(name),
        `${called.length} calls ${name}, and ${after.steps.has(name) ? 'a' : 'no'} step`,
      );
      faults.unless(called.length <= attempts, `${called.length} calls ${name} in ${attempts} attempts`);
      if (before.steps.has(name))
        faults.unless(called.length === callsOf(before, name).length, `the call ${name} was made again after it was recorded`);
      faults.unless(new Set(called.map((call) => call.provider_key)).size === 1, `the call ${name} went out under different keys`);
    }
  }

  async #traces({ key }: Payment): Promise<Traces> {
    const [records, steps, calls, payments, mails] = await Promise.all([
      this.shop.query<NonNullable<Traces['record']>>(
        `select state, status, convert_from(body, 'UTF8') as body,
                (extract(epoch from locked_until - statement_timestamp()) * 1000)::float8 as lease
           from idempotency_records where key = $1 and operation = ''`,
        [key],
      ),
      this.shop.query<{ name: string; result: string }>(
        `select step.name, convert_from(step.result, 'UTF8') as result
           from idempotency_steps as step join idempotency_records as record on record.id = step.id and record.created_at = step.life
          where record.key = $1 and record.operation = ''
          order by step.name`,
        [key],
      ),
      this.provider.query<Traces['calls'][number]>('select id, name, provider_key from calls where key = $1 order by id', [key]),
      this.#rows('payments', key),
      this.#rows('mails', key),
    ]);
    return {
      record: records.rows[0],
      steps: new Map(steps.rows.map(({ name, result }) => [name, JSON.parse(result)])),
      calls: calls.rows,
      payments,
      mails,
    };
  }

  async #rows(table: string, key: string): Promise<number[]> {
    const { rows } = await this.shop.query<{ id: number }>(`select id from ${table} where key = $1 order by id`, [key]);
    return rows.map(({ id }) => id);
  }
}

const callsOf = ({ calls }: Traces, name: string): Traces['calls'] => calls.filter((call) => call.name === name);

function same(one: Traces, other: Traces): boolean {
  const text = ({ record, steps, ...rest }: Traces): string => JSON.stringify([record, [...steps], rest]);
  return text(one) === text(other);
}

/** Sentences that say where it was cut, so that one of them is enough to look for the fault. */
class Faults {
  readonly found: string[] = [];

  constructor(private readonly payment: Payment) {}

  unless(holds: boolean | undefined, sentence: string): void {
    if (holds !== true) this.found.push(`${this.payment.variant.path}, ${this.payment.cut}: ${sentence}`);
  }
}
