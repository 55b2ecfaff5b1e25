/**
 * Lets a plain `node` run this repository's TypeScript without a build: `node --import <this file> entry.ts`.
 *
 * A process that was started by `startAppProcess` also ends itself as soon as the test that started
 * it is gone, in whatever way it went: nobody else could end it then.
 */
import { register } from 'node:module';

register('./swc-hooks.mjs', import.meta.url);
process.setSourceMapsEnabled(true);

if (process.channel) {
  process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  process.channel.unref(); // watching for the parent is no reason to stay alive
}
