/** Asks before something is changed that can't be changed back: where somebody sits, and has not said yes beforehand. */
import { CliError, EXIT, INTERRUPTED } from './exit-codes.js';
import type { Terminal } from './terminal.js';

/**
 * Shows what it is about, and returns when the answer was yes.
 *
 * @throws CliError for every other answer
 */
export type Ask = (what: string, question: string) => Promise<void>;

export function asking(terminal: Terminal, yes: boolean): Ask | undefined {
  if (yes || !terminal.isInteractive) return undefined; // a script has no one to ask: whoever wrote it has decided
  return async (what, question) => {
    if (what !== '') terminal.note(`${what}\n`);
    const answer = await terminal.confirm(question);
    if (answer !== true) throw new CliError('DECLINED', answer === false ? EXIT.failed : INTERRUPTED.SIGINT, 'Nothing was changed.');
  };
}
