/** One command from its arguments to its exit code. It ends no process: whoever called does that. */
import { CommanderError } from 'commander';
import { CliError, EXIT } from './exit-codes.js';
import { programFor, type World } from './program.js';
import type { Report } from './report.js';
import { scrubbed } from './target.js';
import type { Terminal } from './terminal.js';

export async function runCli(args: readonly string[], world: World): Promise<number> {
  const { terminal } = world;
  let exitCode: number = EXIT.ok;
  const program = programFor(world, (report) => {
    print(report, inJson(), terminal);
    exitCode = report.exitCode ?? EXIT.ok;
  });
  const inJson = (): boolean => program.opts<{ json?: true }>().json === true;
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage; // it has told what is wrong
    return tell(error, inJson(), terminal);
  }
}

function print({ document, text }: Report, inJson: boolean, terminal: Terminal): void {
  terminal.print(inJson ? json(document, 2) : text);
}

/** To standard error: in words, or for a program in one line. */
function tell(error: unknown, inJson: boolean, terminal: Terminal): number {
  const { code, exitCode, message } = error instanceof CliError ? error : unexpected(error);
  terminal.note(inJson ? json({ error: { code, message } }) : message);
  return exitCode;
}

function unexpected(error: unknown): Pick<CliError, 'code' | 'exitCode' | 'message'> {
  const message = scrubbed(error instanceof Error ? error.message : String(error));
  return { code: 'UNEXPECTED', exitCode: EXIT.failed, message: `This should not have happened: ${message}` };
}

/** Beyond what JSON asks for, the control characters that a terminal may obey are escaped too. */
function json(document: unknown, indentation?: number): string {
  return JSON.stringify(document, null, indentation).replace(/[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
