/** A Postgres of a test's own, flushed to disk, that can crash and come back where it was. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startPostgres } from '../../sample-app/support/embedded-postgres.mjs';

export class OwnPostgres {
  private constructor(
    private readonly folder: string,
    private running: Awaited<ReturnType<typeof startPostgres>>,
  ) {}

  static async start(): Promise<OwnPostgres> {
    const folder = await mkdtemp(join(tmpdir(), 'idempotency-crash-'));
    return new OwnPostgres(folder, await startPostgres({ dataDir: join(folder, 'data') }));
  }

  /** Stays the same over restarts. */
  get url(): string {
    return this.running.url;
  }

  /** An immediate stop, without a checkpoint and without a word to anybody; and the recovery from it. */
  async crashAndRecover(): Promise<void> {
    const [pid] = (await readFile(join(this.folder, 'data', 'postgres', 'postmaster.pid'), 'utf8')).split('\n');
    process.kill(Number(pid), 'SIGQUIT');
    await this.running.stop(); // returns once the server is gone
    this.running = await startPostgres({ dataDir: join(this.folder, 'data'), port: this.running.port });
  }

  async stop(): Promise<void> {
    await this.running.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}
