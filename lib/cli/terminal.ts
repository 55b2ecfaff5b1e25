/**
 * The one place that knows the standard streams. Results go to standard output, and everything else
 * (questions, progress, failures) to standard error, so that a result can be piped on.
 */
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

export interface Streams {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
}

/** A log that nobody watches gets a line of progress this often. */
const LINE_EVERY_MS = 10_000;

export class Terminal {
  #inPlace = false;
  #lastLineAt: number;

  constructor(
    private readonly streams: Streams,
    private readonly env: NodeJS.ProcessEnv,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#lastLineAt = now();
    // Whoever reads has read enough: `… | head`. Without a listener that would be a crash.
    for (const stream of [streams.stdout, streams.stderr]) stream.on('error', ignoreBrokenPipe);
  }

  print(text: string): void {
    this.#endProgress();
    this.streams.stdout.write(`${text}\n`);
  }

  note(text: string): void {
    this.#endProgress();
    this.streams.stderr.write(`${text}\n`);
  }

  /** Rewrites one line where somebody watches; elsewhere a line now and then. */
  progress(text: string): void {
    if (this.streams.stderr.isTTY === true) {
      this.streams.stderr.write(`\r${text}`);
      this.#inPlace = true;
      return;
    }
    if (this.now() - this.#lastLineAt < LINE_EVERY_MS) return;
    this.#lastLineAt = this.now();
    this.note(text);
  }

  readonly heading = (text: string): string => (this.#isColoured ? `\u001b[1m${text}\u001b[22m` : text);

  /** Whether somebody sits there who could be asked. */
  get isInteractive(): boolean {
    return this.streams.stdin.isTTY === true && this.streams.stderr.isTTY === true;
  }

  /** `undefined`: neither yes nor no, but Ctrl-C. */
  confirm(question: string): Promise<boolean | undefined> {
    const lines = createInterface({ input: this.streams.stdin, output: this.streams.stderr });
    return new Promise((settle) => {
      const end = (answer: boolean | undefined): void => {
        settle(answer);
        lines.close();
      };
      lines.once('SIGINT', () => {
        this.streams.stderr.write('\n');
        end(undefined);
      });
      lines.once('close', () => settle(false)); // the end of the input is no yes
      lines.question(`${question} [y/N] `, (answer) => end(/^y(es)?$/i.test(answer.trim())));
    });
  }

  /** What was given on standard input. */
  async input(): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.streams.stdin) chunks.push(Buffer.from(chunk as Uint8Array));
    return Buffer.concat(chunks);
  }

  /** https://no-color.org */
  get #isColoured(): boolean {
    return this.streams.stdout.isTTY === true && !this.env['NO_COLOR'] && this.env['TERM'] !== 'dumb';
  }

  #endProgress(): void {
    if (this.#inPlace) this.streams.stderr.write('\n');
    this.#inPlace = false;
  }
}

function ignoreBrokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}
