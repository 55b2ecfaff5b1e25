/**
 * A shop in a process of its own, for tests that kill or freeze it. What it has done to the world is
 * in the table `charges`, which knows nothing of keys being unique. A payment stands still until the
 * table `go_on` has its key; where it stands is printed.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Controller, Headers, Post } from '@nestjs/common';
import { Pool } from 'pg';
import { CurrentExecution, Idempotent, IdempotencyEvents } from '../../../lib/index.js';
import type { IdempotentExecution } from '../../../lib/index.js';
import { startApp } from '../app.js';
import type { Platform } from '../app.js';

const { DATABASE_URL, PLATFORM, DIE_WHEN_COMPLETED } = process.env;
const pool = new Pool({ connectionString: DATABASE_URL });

async function isTold(key: string): Promise<boolean> {
  const { rowCount } = await pool.query('select from go_on where key = $1', [key]);
  return rowCount === 1;
}

@Controller()
class Payments {
  @Idempotent()
  @Post('payments')
  async pay(@Headers('idempotency-key') key: string, @CurrentExecution() execution: IdempotentExecution): Promise<object> {
    const { rows } = await pool.query<{ id: number }>('insert into charges (key) values ($1) returning id', [key]);
    console.log(`charged ${key}`);
    while (!(await isTold(key))) await pause(10);
    return { charge: rows[0]?.id, attempt: execution.attempt, by: process.pid };
  }
}

const { app, url } = await startApp(PLATFORM as Platform, { controllers: [Payments], options: { pool } });
app.get(IdempotencyEvents).events$.subscribe(({ type }) => {
  console.log(`event ${type}`);
  // The record is committed, and not one byte of the answer has left.
  if (type === 'completed' && DIE_WHEN_COMPLETED !== undefined) process.kill(process.pid, 'SIGKILL');
});
console.log(`listening on ${url}`);
