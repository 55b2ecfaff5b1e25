import { randomUUID } from 'node:crypto';
import type { BookEntry, PaymentOrder } from '../customer.js';
import type { Narrator } from '../narrator.js';
import type { Stage } from '../stage.js';

export type Act = (stage: Stage, narrator: Narrator) => Promise<void>;

/** Each act buys something of its own, so that none sees another's charges. */
export const purchase = (description: string, card = 'tok_visa'): Required<PaymentOrder> => ({
  key: randomUUID(),
  amount: 4200,
  card,
  description: `${description} ${randomUUID().slice(0, 8)}`,
});

export const outcomes = (book: readonly BookEntry[]): string => book.map(({ outcome }) => outcome).join();
