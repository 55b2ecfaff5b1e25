/** Tells what happens, in plain words, and remembers whether it was what should have happened. */
import type { Answer, BookEntry } from './customer.js';

export class Narrator {
  private acts = 0;
  private failures = 0;

  get everythingHeld(): boolean {
    return this.failures === 0;
  }

  act(title: string): void {
    this.acts += 1;
    console.log(`\n${this.acts}. ${title}`);
  }

  tell(text: string): void {
    console.log(`   ${text}`);
  }

  answer(request: string, { status, replayed, code, retryAfter }: Answer): void {
    const facts = [status, code, retryAfter !== undefined && `Retry-After: ${retryAfter}`, replayed && 'Idempotent-Replayed: true'];
    this.tell(`${request}: ${facts.filter(Boolean).join(', ')}`);
  }

  book(entries: readonly BookEntry[]): void {
    this.tell(`The provider's book: ${entries.map(({ outcome }) => outcome).join(', ') || 'nothing'}.`);
  }

  expect(what: string, holds: boolean): void {
    console.log(`   ${holds ? '✓' : '✗ NOT SO:'} ${what}`);
    if (!holds) this.failures += 1;
  }
}
