/** Shops in processes of their own that are there to be killed. One is always warming up while another is used. */
import type { Answer } from '../e2e/support/wire.js';
import { startAppProcess } from '../support/app-process.js';
import type { AppProcess } from '../support/app-process.js';
import { JOURNEY_HEADER, STOP_HEADER } from '../support/apps/crash-points.js';
import type { TestDatabase } from '../support/database.js';
import { pay } from './judge.js';
import type { Payment } from './judge.js';

/** As many as there are points; each request that is stopped may hold one of either pool. */
const CONNECTIONS = 40;

export class Victims {
  readonly #waiting: Promise<Victim>[] = [];

  constructor(private readonly database: TestDatabase) {
    this.#waiting.push(this.#start(), this.#start());
  }

  next(): Promise<Victim> {
    this.#waiting.push(this.#start());
    return this.#waiting.shift()!;
  }

  async close(): Promise<void> {
    for (const victim of await Promise.all(this.#waiting)) await victim.kill();
  }

  async #start(): Promise<Victim> {
    const { url } = this.database;
    const app = await startAppProcess('test/support/apps/crash-victim.ts', {
      DATABASE_URL: url,
      PROVIDER_URL: url,
      CONNECTIONS: `${CONNECTIONS}`,
    });
    return new Victim(app, this.database);
  }
}

export class Victim {
  readonly #answers = new Map<string, Promise<Answer | undefined>>();

  constructor(
    private readonly app: AppProcess,
    private readonly database: TestDatabase,
  ) {}

  /** Lets it through; all points that it has passed, in their order. */
  async pointsOf(payment: Payment): Promise<string[]> {
    const { key } = payment;
    await pay(this.app.url, payment, { [JOURNEY_HEADER]: key });
    return JSON.parse(after(await this.app.waitForLine(new RegExp(`^${key} passed: `)))) as string[];
  }

  /** Sends it, and resolves with the point's name once it stands there. */
  async stop(payment: Payment, at: number): Promise<string> {
    const { key } = payment;
    this.#answers.set(
      key,
      pay(this.app.url, payment, { [JOURNEY_HEADER]: key, [STOP_HEADER]: at }).catch(() => undefined),
    );
    return after(await this.app.waitForLine(new RegExp(`^${key} (stands at|passed): `)));
  }

  /** What a request was answered before its process was killed, if it was. */
  answerTo({ key }: Payment): Promise<Answer | undefined> {
    return this.#answers.get(key) ?? Promise.resolve(undefined);
  }

  /** Returns when the process is gone, and Postgres has noticed and rolled back what it left open. */
  async kill(): Promise<void> {
    this.app.kill('SIGKILL');
    await this.app.exited;
    const left = 'select from pg_stat_activity where application_name = $1';
    while (((await this.database.pool.query(left, [`victim ${this.app.pid}`])).rowCount ?? 0) > 0);
  }
}

const after = (line: string): string => line.slice(line.indexOf(': ') + 2);
