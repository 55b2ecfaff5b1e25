/** Waiting for somebody who may never answer, and no longer than is said. */
import type { Clock } from '../contract/clock.js';
import type { Deadline } from './session.js';

/** Somebody stopped waiting. Unlike a broken connection, this must not lead to another try. */
export class GaveUp extends Error {}

/** What `work` comes to after the deadline concerns nobody. */
export function inTime<T>(work: Promise<T>, deadline: Deadline, clock: Clock): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const cancel = clock.after(deadline.leftMs(), () => reject(new GaveUp('Postgres did not answer in time.')));
    work.then(
      (result) => {
        cancel();
        resolve(result);
      },
      (error: unknown) => {
        cancel();
        reject(error as Error);
      },
    );
  });
}
