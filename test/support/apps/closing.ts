/**
 * An application that serves one keyed request, closes, and has nothing left to do. It never calls
 * `process.exit`: if anything of the module is left, the process does not end.
 */
import { Controller, Post } from '@nestjs/common';
import { Pool } from 'pg';
import { Idempotent, IdempotencyEvents } from '../../../lib/index.js';
import { startApp } from '../app.js';
import type { Platform } from '../app.js';

@Controller()
class Payments {
  @Idempotent()
  @Post('payments')
  pay(): object {
    return { paid: true };
  }
}

const pool = new Pool({ connectionString: process.env['DATABASE_URL'] });
const { app, post, close } = await startApp(process.env['PLATFORM'] as Platform, { controllers: [Payments], options: { pool } });
app.get(IdempotencyEvents).events$.subscribe({ complete: () => console.log('the events are complete') });
for (const attempt of ['first', 'second']) {
  const answer = await post('/payments', { key: 'closing' });
  console.log(`${attempt}: ${answer.status} ${await answer.text()} replayed=${answer.headers.get('idempotent-replayed')}`);
}
await close();
console.log('closed');
