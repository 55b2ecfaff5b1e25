/** Stands in the way of the ledger, so that a payment can be met between its charge and its entry. */
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';

/** Nobody can enter anything until the returned function has been called. Looking stays possible. */
export async function holdLedger(databaseUrl: string): Promise<() => Promise<void>> {
  const client = await connect(databaseUrl);
  await client.query('begin; lock table ledger_entries in share mode');
  return () => client.end();
}

/** Resolves once somebody wants to enter something and can't. */
export async function ledgerIsWaitedFor(databaseUrl: string): Promise<void> {
  const client = await connect(databaseUrl);
  const waiting = `select from pg_locks where relation = 'ledger_entries'::regclass and not granted`;
  while ((await client.query(waiting)).rowCount === 0) await pause(20);
  await client.end();
}

async function connect(connectionString: string): Promise<Client> {
  const client = new Client({ connectionString });
  await client.connect();
  return client;
}
