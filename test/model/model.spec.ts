/**
 * Random schedules of what may happen to keys, over several processes and one database, against a
 * model of what must be so. A schedule that fails is shrunk and printed, with a seed and a path:
 *
 *     FAST_CHECK_SEED=42 FAST_CHECK_PATH=17:3:0 npm test -- test/model
 */
import { afterAll, beforeAll, describe, it } from '@jest/globals';
import fc from 'fast-check';
import { createTestDatabase, migrate } from '../support/database.js';
import type { TestDatabase } from '../support/database.js';
import { Process } from './processes.js';
import { PROCESSES, SCHEDULE } from './schedule.js';
import { BUSINESS, World } from './world.js';

/** The same every time, unless somebody asks for others: a run that goes wrong by chance helps nobody. */
const { FAST_CHECK_SEED = '20251124', FAST_CHECK_PATH, FAST_CHECK_RUNS = '120' } = process.env;

/** Shrinking a schedule that fails takes its time. */
const PATIENCE_MS = 300_000;

let database: TestDatabase;
let processes: Process[];

const startAll = (): Promise<Process[]> => Promise.all(Array.from({ length: PROCESSES }, () => Process.start(database.url)));

beforeAll(async () => {
  database = await createTestDatabase();
  await migrate(database);
  await database.pool.query(BUSINESS);
  processes = await startAll();
});
afterAll(async () => {
  await Promise.all(processes.map((each) => each.die()));
  await database.drop();
});

describe(`keys under any schedule (seed ${FAST_CHECK_SEED})`, () => {
  it(
    'are in the state, give the answer and run the steps that they should',
    async () => {
      const property = fc.asyncProperty(SCHEDULE, async (schedule) => {
        const world = new World(database, processes);
        try {
          for (const action of schedule) await world.do(action);
          await world.end();
        } catch (fault) {
          await Promise.all(processes.map((each) => each.die()));
          processes.splice(0, PROCESSES, ...(await startAll()));
          throw fault;
        }
      });
      await fc.assert(property, {
        seed: Number(FAST_CHECK_SEED),
        numRuns: Number(FAST_CHECK_RUNS),
        endOnFailure: FAST_CHECK_PATH !== undefined,
        ...(FAST_CHECK_PATH !== undefined && { path: FAST_CHECK_PATH }),
      });
    },
    PATIENCE_MS,
  );
});
