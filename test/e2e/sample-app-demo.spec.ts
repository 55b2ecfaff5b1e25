import { expect, it } from '@jest/globals';
import { runToExit } from '../support/app-process.js';
import { createTestDatabase } from '../support/database.js';

it('plays the whole story against running shops, and everything holds', async () => {
  const database = await createTestDatabase();
  try {
    const { code, output } = await runToExit('sample-app/demo.ts', { DATABASE_URL: database.url });
    expect(output).not.toContain('NOT SO');
    expect(output).toContain('Everything held.');
    expect(output).toContain('11. A confirmation by e-mail, once');
    expect(code).toBe(0);
    const { rows } = await database.pool.query(
      'select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
    );
    expect(rows).toEqual([]); // no shop was left behind
  } finally {
    await database.drop();
  }
}, 120_000);
