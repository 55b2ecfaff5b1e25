import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { LedgerEntry } from './ledger-entry.entity.js';
import type { Account } from './ledger-entry.entity.js';

@Injectable()
export class Ledger {
  /**
   * Nothing but the transaction keeps an entry from being made twice: there is no unique constraint
   * that could, since a payment has several.
   *
   * @param manager of the transaction that makes what is entered here. It is handed over rather than
   *   found out, so that an entry can't be made outside of one by mistake.
   */
  async enter(manager: EntityManager, entry: { paymentId: string; amount: number; debit: Account; credit: Account }): Promise<void> {
    await manager.insert(LedgerEntry, entry);
  }
}
