/** How the command ends, for scripts. The numbers are promised in README and in `--help`. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  absent: 3,
  refused: 4,
  notMigrated: 5,
} as const;

/** What a shell says of a command that a signal ended. */
export const INTERRUPTED: Readonly<Record<'SIGINT' | 'SIGTERM', number>> = { SIGINT: 130, SIGTERM: 143 };

/** The command can't be carried out. The message is for people and names the way out; never a secret in it. */
export class CliError extends Error {
  constructor(
    readonly code: string,
    readonly exitCode: number,
    message: string,
  ) {
    super(message);
    this.name = 'CliError';
  }
}

export class UsageError extends CliError {
  constructor(message: string) {
    super('USAGE', EXIT.usage, message);
  }
}
