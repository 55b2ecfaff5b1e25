/** Removes what has expired, for those who run the reaper elsewhere (`reaper: false`) or have much to catch up with. */
import { withTables, type Access } from './database.js';
import { INTERRUPTED } from './exit-codes.js';
import type { Report } from './report.js';
import type { Terminal } from './terminal.js';
import { counted } from './wording.js';

export type Interruption = keyof typeof INTERRUPTED;

/** Calls back at the first such signal, instead of ending the process. The returned function takes that back. */
export type OnInterruption = (listener: (signal: Interruption) => void) => () => void;

export function reap(access: Access, batch: number, terminal: Terminal, onInterruption: OnInterruption): Promise<Report> {
  return withTables(access, async ({ store }) => {
    let interruption: Interruption | undefined;
    const forgetInterruption = onInterruption((signal) => {
      interruption = signal;
      terminal.note('Ending after this bite; the same signal again ends at once.');
    });
    let removed = 0;
    try {
      // A bite that others have eaten from is smaller than asked for and not the last one: only an empty one is.
      for (let bite = batch; bite > 0 && interruption === undefined;) {
        bite = await store.reap(batch);
        removed += bite;
        if (bite > 0) terminal.progress(`${counted(removed, 'expired record')} removed`);
      }
    } finally {
      forgetInterruption();
    }
    return reportOf(removed, interruption);
  });
}

function reportOf(removed: number, interruption: Interruption | undefined): Report {
  const text = `${counted(removed, 'expired record')} removed`;
  if (interruption === undefined) return { document: { removed }, text: `${text}; none is left.` };
  return {
    document: { removed, interrupted: true },
    text: `${text}, then interrupted; there may be more.`,
    exitCode: INTERRUPTED[interruption],
  };
}
