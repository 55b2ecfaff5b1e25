/** A logger that remembers, to see what the module says and what it must never say. */
import type { LoggerService } from '@nestjs/common';

export class Journal implements LoggerService {
  readonly lines: string[] = [];

  log = (...said: unknown[]): void => this.#note('log', said);
  error = (...said: unknown[]): void => this.#note('error', said);
  warn = (...said: unknown[]): void => this.#note('warn', said);
  debug = (...said: unknown[]): void => this.#note('debug', said);
  verbose = (...said: unknown[]): void => this.#note('verbose', said);
  fatal = (...said: unknown[]): void => this.#note('fatal', said);

  /** Lines of the module's own. */
  own(level?: 'error' | 'warn'): string[] {
    return this.lines.filter((line) => line.includes('[Idempotency]') && (level === undefined || line.startsWith(level)));
  }

  #note(level: string, said: readonly unknown[]): void {
    const texts = said.map((part) =>
      part instanceof Error ? (part.stack ?? part.message) : typeof part === 'string' ? part : JSON.stringify(part),
    );
    const context = texts.length > 1 ? texts.at(-1) : '';
    this.lines.push(`${level} [${context}] ${texts.join(' ')}`);
  }
}
