/**
 * Answers of 1 MiB to sixteen clients at once: how much memory each of them holds when garbage is not
 * counted. Once while its record is being written, which is stopped in the middle by a lock on the
 * table: so every answer is there and none has left. And once at any moment, looked for all the
 * time, until clients that are slow to read have their last byte.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { LARGE_ANSWER, LARGE_ANSWER_BYTES, LARGE_WORK_MS } from '../apps/orders.js';
import { bare, ours } from '../contestants.js';
import type { Contestant } from '../contestants.js';
import type { Entrant } from '../entrants.js';
import { AnswerReader } from '../load/answer-reader.js';
import type { Answer } from '../load/answer-reader.js';
import { post } from '../load/request-template.js';
import type { Fault, Table, Verdict } from '../results.js';
import type { RunningApp } from '../running-app.js';
import type { BenchDatabase } from '../server.js';
import { atMost } from '../verdicts.js';
import { OURS } from '../workload.js';
import type { Bench, Workload } from '../workload.js';

const TITLE = 'answer of 1 MiB, 16 clients at once, Fastify';
const CLIENTS = 16;
/** Before a client begins to read: long enough for all answers to be made. And before a look: for any memory of them to be over. */
const SLOW_MS = 2_000;
const EXPECTED = Buffer.from(JSON.stringify(LARGE_ANSWER));

export const large: Workload = {
  name: 'large',
  about: 'the memory that answers of 1 MiB hold',
  async run(bench) {
    const rows: Table['rows'][number][] = [];
    const verdicts: Verdict[] = [];
    const faults: Fault[] = [];
    if (!bench.wants(TITLE)) return { workload: 'large', races: [], tables: [], verdicts, faults };
    for (const contestant of [bare(bench.builds[0], 'fastify'), ...bench.builds.map((build) => ours(build, 'fastify'))]) {
      for (const { kind, written, most } of await measure(bench, contestant, (fault) =>
        faults.push({ contestant: contestant.name, fault }),
      )) {
        rows.push([`${contestant.name}, ${kind}`, written, most]);
        const held = Number.isNaN(written) ? most : Math.max(written, most);
        if (contestant.name === OURS) verdicts.push(atMost(`${TITLE}, ${kind}: memory held`, 2, held, '× its size'));
      }
    }
    const head = ['', 'MiB an answer while its record is written', 'most at any moment'];
    return { workload: 'large', races: [], tables: [{ title: TITLE, head, rows }], verdicts, faults };
  },
};

/** MiB an answer. */
interface Held {
  readonly kind: string;
  /** NaN where nothing is written. */
  readonly written: number;
  readonly most: number;
}

async function measure(bench: Bench, contestant: Contestant, note: (fault: string) => void): Promise<Held[]> {
  const entrant = await bench.entrants.enter(contestant, '/large', { execArgv: ['--expose-gc'] });
  const { app } = entrant;
  const askAll = async (keys: readonly string[], slowMs = 0): Promise<void> => {
    const answers = await Promise.all(keys.map((key) => ask(app.port, key, slowMs)));
    if (answers.some(({ status, body }) => status !== 201 || !body.equals(EXPECTED))) note('a large answer is not what it should be');
  };
  const mostFor = async (keys: readonly string[]): Promise<number> => heldBeyondQuiet(app, () => askAll(keys, SLOW_MS));
  try {
    await askAll(newKeys()); // code, connections and statements are made once
    const keys = newKeys();
    const first = await mostFor(keys);
    if (!contestant.guards) return [{ kind: 'first', written: NaN, most: first }];
    const [one = ''] = keys;
    return [
      { kind: 'first', written: await whileWritten(entrant, askAll), most: first },
      { kind: 'replay', written: NaN, most: await mostFor(keys) },
      { kind: 'replay of one key', written: NaN, most: await mostFor(keys.map(() => one)) },
    ];
  } finally {
    await bench.entrants.leave();
  }
}

const newKeys = (): string[] => Array.from({ length: CLIENTS }, () => randomUUID());

/** The lock comes when all have their claim and their handlers are still at work. */
async function whileWritten({ app, database }: Entrant, askAll: (keys: readonly string[]) => Promise<void>): Promise<number> {
  const quiet = await quietly(app);
  const answered = askAll(newKeys());
  await until(async () => (await running(database)) === CLIENTS);
  const held = await database.whileLocked('idempotency_records', async () => {
    await pause(2 * LARGE_WORK_MS);
    return mostAlive(app, async () => undefined);
  });
  await answered;
  return (held - quiet) / LARGE_ANSWER_BYTES / CLIENTS;
}

async function running(database: BenchDatabase): Promise<number> {
  const [row] = await database.run<{ count: number }>('select count(*)::int as count from idempotency_records where completed_at is null');
  return row?.count ?? 0;
}

async function until(reached: () => Promise<boolean>): Promise<void> {
  while (!(await reached())) await pause(5);
}

async function heldBeyondQuiet(app: RunningApp, work: () => Promise<void>): Promise<number> {
  const quiet = await quietly(app);
  return ((await mostAlive(app, work)) - quiet) / LARGE_ANSWER_BYTES / CLIENTS;
}

async function quietly(app: RunningApp): Promise<number> {
  await pause(SLOW_MS);
  return mostAlive(app, async () => undefined);
}

async function mostAlive(app: RunningApp, work: () => Promise<void>): Promise<number> {
  app.watchMemory();
  await work();
  return (await app.usage()).mostAlive ?? NaN;
}

async function ask(port: number, key: string, slowMs: number): Promise<Answer> {
  const socket = connect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  const { bytes, keyAt = 0 } = post('/large', { keyed: true });
  bytes.write(key, keyAt, 'latin1');
  socket.write(bytes);
  await pause(slowMs); // nothing is read as long as nobody listens
  const answer = await new Promise<Answer>((resolve, reject) => {
    const reader = new AnswerReader((read) => resolve({ ...read, body: Buffer.from(read.body) }));
    socket.on('data', (chunk: Buffer) => reader.read(chunk)).on('error', reject);
    socket.on('close', () => reject(new Error('The application closed a connection.')));
  });
  socket.destroy();
  return answer;
}
