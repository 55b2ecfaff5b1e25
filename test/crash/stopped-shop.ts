/** The shop of crash-shop.ts in this very process, whose requests can be stopped at a point and told to go on. */
import type { Answer } from '../e2e/support/wire.js';
import { JOURNEY_HEADER, STOP_HEADER, makeStatementsPoints } from '../support/apps/crash-points.js';
import type { Stand } from '../support/apps/crash-points.js';
import { startCrashShop } from '../support/apps/crash-shop.js';
import type { CrashShop, CrashShopParts } from '../support/apps/crash-shop.js';
import { pay } from './judge.js';
import type { Payment } from './judge.js';

let pointsAreMade = false;

/** A payment that stands at a point, or has passed it all. */
export interface Stopped {
  readonly payment: Payment;
  readonly stand: Stand | undefined;
  readonly answer: Promise<Answer>;
}

export class StoppedShop {
  readonly #standing = new Map<string, (stand: Stand | undefined) => void>();
  readonly #passed = new Map<string, readonly string[]>();
  #shop!: CrashShop;

  static async start(parts: Omit<CrashShopParts, 'name' | 'stops' | 'sharedStatements'>): Promise<StoppedShop> {
    if (!pointsAreMade) makeStatementsPoints();
    pointsAreMade = true;
    const shop = new StoppedShop();
    shop.#shop = await startCrashShop({
      ...parts,
      name: 'stopped shop',
      sharedStatements: false,
      stops: {
        standsAt: (stand) => shop.#standing.get(stand.journey)?.(stand),
        arrived: (journey, points) => {
          shop.#passed.set(journey, points);
          shop.#standing.get(journey)?.(undefined);
        },
      },
    });
    return shop;
  }

  get url(): string {
    return this.#shop.url;
  }

  close(): Promise<void> {
    return this.#shop.close();
  }

  /** Lets it through; its answer, and all points that it has passed, in their order. */
  async pass(payment: Payment): Promise<{ readonly answer: Answer; readonly points: readonly string[] }> {
    const { answer } = await this.stop(payment, 0);
    return { answer: await answer, points: this.#passed.get(payment.key) ?? [] };
  }

  /** Sends it, and resolves once it stands there. */
  async stop(payment: Payment, at: number): Promise<Stopped> {
    const { key } = payment;
    const standing = new Promise<Stand | undefined>((stand) => this.#standing.set(key, stand));
    const answer = pay(this.url, payment, { [JOURNEY_HEADER]: key, [STOP_HEADER]: at });
    return { payment, stand: await standing, answer };
  }
}
