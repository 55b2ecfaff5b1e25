/** A contestant made ready: a database of its own with its tables, and its application running on it. */
import type { Route } from './app-protocol.js';
import type { Build, Contestant } from './contestants.js';
import { Ledger } from './load/ledger.js';
import { RunningApp } from './running-app.js';
import type { AppSurroundings } from './running-app.js';
import type { BenchDatabase, Server } from './server.js';

export interface Entrant {
  readonly contestant: Contestant;
  /** Where its orders are placed. */
  readonly route: Route;
  readonly app: RunningApp;
  readonly database: BenchDatabase;
  readonly ledger: Ledger;
}

export type Wishes = Pick<AppSurroundings, 'env' | 'execArgv'>;

export class Entrants {
  readonly #entered: Entrant[] = [];
  #started = 0;

  constructor(
    private readonly server: Server,
    private readonly build: Build,
    private readonly redisUrl: string | undefined,
    /** Where applications write their profiles; `undefined`: they don't. */
    private readonly profiles: string | undefined,
  ) {}

  async enter(contestant: Contestant, route: Route, wishes: Wishes = {}): Promise<Entrant> {
    const database = await this.server.createDatabase();
    await contestant.prepare?.(database.url);
    const app = await this.start(contestant, database.url, wishes);
    const entrant = { contestant, route, app, database, ledger: new Ledger() };
    this.#entered.push(entrant);
    return entrant;
  }

  /** One more process of a contestant, on a database that is there. */
  start(contestant: Contestant, databaseUrl: string, wishes: Wishes = {}): Promise<RunningApp> {
    const redis = this.redisUrl === undefined ? {} : { redisUrl: this.redisUrl };
    const execArgv = [...(wishes.execArgv ?? []), ...this.#profiling(contestant)];
    return RunningApp.start(contestant, { databaseUrl, ...redis, folder: this.build.folder, ...wishes, execArgv });
  }

  #profiling({ name }: Contestant): string[] {
    if (this.profiles === undefined) return [];
    this.#started += 1;
    return ['--cpu-prof', `--cpu-prof-dir=${this.profiles}`, `--cpu-prof-name=${this.#started} ${name}.cpuprofile`];
  }

  /** Everybody who has entered so far: their processes end, and their databases are gone. */
  async leave(): Promise<void> {
    for (const { app, database } of this.#entered.splice(0)) {
      await app.stop();
      await database.drop();
    }
  }
}
