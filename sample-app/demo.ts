/** Plays what goes wrong with payments against a running shop, and exits with 0 only if every charge was made once. */
import { acts } from './demo/acts.js';
import { Narrator } from './demo/narrator.js';
import { openStage } from './demo/stage.js';

const narrator = new Narrator();
const stage = await openStage();
try {
  for (const act of acts) await act(stage, narrator);
} finally {
  await stage.close();
}
console.log(narrator.everythingHeld ? '\nEverything held.' : '\nNot everything held; see above.');
process.exitCode = narrator.everythingHeld ? 0 : 1;
