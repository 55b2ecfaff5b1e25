/** Tells what happens, in plain words, and remembers whether it was what should have happened. */
import type { Answer, BookEntry, Delivery, Traces } from './customer.js';

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

  deliveries(when: string, deliveries: readonly Delivery[]): void {
    this.tell(`${when}: ${deliveries.map(({ status, replayed }) => `${status}${replayed ? ' (known already)' : ''}`).join(', ')}`);
  }

  expectOneOf({ orders, payments, sales }: Traces): void {
    this.expect('the shop has one order, one payment and one ledger entry', orders === 1 && payments === 1 && sales === 1);
  }

  expect(what: string, holds: boolean): void {
    console.log(`   ${holds ? '✓' : '✗ NOT SO:'} ${what}`);
    if (!holds) this.failures += 1;
  }
}
