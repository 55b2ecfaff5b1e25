/**
 * A hundred requests with one key at the same moment, while its handler takes 100 ms: how many
 * statements that costs, how long until all have their answer, and what others notice of it.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { startTcpProxy } from '../../support/tcp-proxy.js';
import type { TcpProxy } from '../../support/tcp-proxy.js';
import { ours } from '../contestants.js';
import type { Contestant } from '../contestants.js';
import type { Entrant } from '../entrants.js';
import { Connections } from '../load/connections.js';
import type { Traffic } from '../load/connections.js';
import { difference, kept } from '../load/ledger.js';
import type { KeptAnswer } from '../load/ledger.js';
import { post } from '../load/request-template.js';
import { plain } from '../load/traffic.js';
import type { Fault, Table, Verdict } from '../results.js';
import type { RunningApp } from '../running-app.js';
import { median, percentile } from '../statistics.js';
import { atMost } from '../verdicts.js';
import { OURS } from '../workload.js';
import type { Bench, Workload } from '../workload.js';

const REQUESTS = 100;
/** Until every connection of every pool is open and has its statements. */
const WARM_UP_STORMS = 5;
const STORMS = 20;
const STORM_EVERY_MS = 500;
/** Statements of a storm may end a moment after its last answer. */
const SETTLE_MS = 50;
/** The application's own statements, by their names: what the others are is the guard's doing. */
const APPLICATIONS = new Set(['place_order', 'quiet']);

type Manner = 'wait' | 'reject';

interface Scene {
  readonly manner: Manner;
  readonly processes: 1 | 3;
}

const SCENES: readonly Scene[] = [
  { manner: 'wait', processes: 1 },
  { manner: 'wait', processes: 3 },
  { manner: 'reject', processes: 1 },
  { manner: 'reject', processes: 3 },
];

interface Storms {
  readonly statements: readonly number[];
  readonly answeredMs: readonly number[];
}

export const storm: Workload = {
  name: 'storm',
  about: 'a hundred requests with one key at once',
  async run(bench) {
    const rows: Table['rows'][number][] = [];
    const verdicts: Verdict[] = [];
    const faults: Fault[] = [];
    for (const build of bench.builds) {
      const contestant = ours(build, 'fastify');
      for (const scene of SCENES.filter((one) => bench.wants(titleOf(one)))) {
        const { storms, quietMs, stormyMs } = await play(bench, contestant, scene, faults);
        const statements = median(storms.statements);
        rows.push([
          `${contestant.name}, ${titleOf(scene)}`,
          statements,
          Math.max(...storms.statements),
          median(storms.answeredMs),
          quietMs,
          stormyMs,
        ]);
        if (contestant.name !== OURS) continue;
        verdicts.push(atMost(`${titleOf(scene)}: statements`, scene.processes === 1 ? 2 : 8, statements, ''));
        if (scene.processes === 1)
          verdicts.push(atMost(`${titleOf(scene)}: p99 of another route`, 1.5, stormyMs / quietMs, '× its quiet p99'));
      }
    }
    const head = ['', 'statements, median', 'most', 'all answered, ms', 'another route, quiet p99 ms', 'in a storm'];
    return {
      workload: 'storm',
      races: [],
      tables: rows.length === 0 ? [] : [{ title: 'storm of 100 on one key, handler of 100 ms, Fastify', head, rows }],
      verdicts,
      faults,
    };
  },
};

function titleOf({ manner, processes }: Scene): string {
  return `storm, ${processes === 1 ? 'one process' : 'three processes'}, ${manner}`;
}

async function play(
  bench: Bench,
  contestant: Contestant,
  { manner, processes }: Scene,
  faults: Fault[],
): Promise<{ storms: Storms; quietMs: number; stormyMs: number }> {
  const { entrants } = bench;
  const wishes = { env: { BENCH_OPTIONS: JSON.stringify({ onDuplicate: manner }) } };
  const entrant = await entrants.enter(contestant, '/slow', wishes);
  const proxy = await startTcpProxy(entrant.database.url);
  const counted: RunningApp[] = [];
  const others: RunningApp[] = [];
  try {
    for (let nth = 0; nth < processes; nth += 1) counted.push(await entrants.start(contestant, proxy.url, wishes));
    for (let nth = 1; nth < processes; nth += 1) others.push(await entrants.start(contestant, entrant.database.url, wishes));
    const storms = await countStatements(counted, proxy, manner, (fault) => faults.push({ contestant: contestant.name, fault }));
    const p99 = await neighbours(bench, entrant, [entrant.app, ...others], manner);
    const { rows, keys } = await entrant.database.orders();
    if (rows !== keys) faults.push({ contestant: contestant.name, fault: `${keys} storms ran their handlers ${rows} times` });
    return { storms, ...p99 };
  } finally {
    for (const app of [...counted, ...others]) await app.stop();
    await proxy.close();
    await entrants.leave();
  }
}

async function countStatements(
  apps: readonly RunningApp[],
  proxy: TcpProxy,
  manner: Manner,
  note: (fault: string) => void,
): Promise<Storms> {
  const crowd = await Crowd.gather(apps);
  const statements: number[] = [];
  const answeredMs: number[] = [];
  const guards = (): number => proxy.statements.filter((name) => !APPLICATIONS.has(name)).length;
  for (let nth = 0; nth < WARM_UP_STORMS + STORMS; nth += 1) {
    const before = guards();
    const { seconds, faults } = await crowd.storm(manner);
    await pause(SETTLE_MS);
    faults.forEach(note);
    if (nth < WARM_UP_STORMS) continue;
    statements.push(guards() - before);
    answeredMs.push(seconds * 1000);
  }
  crowd.disperse();
  return { statements, answeredMs };
}

/** What those notice who ask the first process for something else. */
async function neighbours(
  { course }: Bench,
  { app }: Entrant,
  apps: readonly RunningApp[],
  manner: Manner,
): Promise<{ quietMs: number; stormyMs: number }> {
  const crowd = await Crowd.gather(apps);
  const others = await Connections.open(app.port, 4);
  const traffic = plain('/quiet');
  for (let nth = 0; nth < WARM_UP_STORMS; nth += 1) await crowd.storm(manner);
  await others.fire(traffic, course.pace.warmUpSeconds);
  const quiet = await others.fire(traffic, course.pace.seconds);
  let over = false;
  const storms = (async () => {
    while (!over) await Promise.all([crowd.storm(manner), pause(STORM_EVERY_MS)]);
  })();
  const stormy = await others.fire(traffic, course.pace.seconds);
  over = true;
  await storms;
  others.close();
  crowd.disperse();
  return { quietMs: percentile(quiet.latenciesMs, 0.99), stormyMs: percentile(stormy.latenciesMs, 0.99) };
}

/** A hundred clients, spread over the processes. */
class Crowd {
  private constructor(private readonly parts: readonly Connections[]) {}

  static async gather(apps: readonly RunningApp[]): Promise<Crowd> {
    const share = (nth: number): number => Math.floor(REQUESTS / apps.length) + (nth < REQUESTS % apps.length ? 1 : 0);
    return new Crowd(await Promise.all(apps.map(({ port }, nth) => Connections.open(port, share(nth)))));
  }

  async storm(manner: Manner): Promise<{ readonly seconds: number; readonly faults: readonly string[] }> {
    const answers = new Answers(manner);
    const key = randomUUID();
    const volleys = await Promise.all(this.parts.map((part) => part.fire(answers.traffic(key, part.count))));
    return {
      seconds: Math.max(...volleys.map(({ seconds }) => seconds)),
      faults: [...volleys.flatMap(({ faults }) => faults), ...answers.verdict()],
    };
  }

  disperse(): void {
    for (const part of this.parts) part.close();
  }
}

/** One client's request ran; the others got the same answer, or were told that it is running. */
class Answers {
  #first: KeptAnswer | undefined;
  #ran = 0;

  constructor(private readonly manner: Manner) {}

  traffic(key: string, count: number): Traffic {
    let left = count;
    return {
      request: post('/slow', { keyed: true }),
      next: () => (left-- > 0 ? key : undefined),
      check: (_key, answer) => {
        if (answer.status === 409 && this.manner === 'reject') return undefined;
        if (!answer.replayed) this.#ran += 1;
        this.#first ??= kept(answer);
        return answer.status === 201 ? difference(this.#first, answer) : `status ${answer.status} in a storm`;
      },
    };
  }

  verdict(): string[] {
    return this.#ran === 1 ? [] : [`${this.#ran} answers of a storm say that their handler ran`];
  }
}
