/**
 * The shop's client of its payment provider, and in this sample the provider itself. It takes its
 * time, it sometimes fails, and like every good one it has idempotency keys of its own: a call that
 * repeats the key of an earlier charge gets that charge, and no money moves.
 *
 * Cards with a meaning, so that failures can be tried out:
 *   tok_declined   the bank says no
 *   tok_slow       a new charge takes ten seconds: time enough to kill the shop in between
 *   tok_down       the provider is down
 *   tok_down_once  the provider is down for the first call with a key, and up again for the next
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { OUTSIDE } from '../outside.js';
import type { CallOutcome } from './provider-call.entity.js';
import { ProviderCall } from './provider-call.entity.js';

export interface ChargeRequest {
  /** The provider's idempotency key. */
  readonly idempotencyKey: string;
  readonly card: string;
  /** In cents. */
  readonly amount: number;
  readonly description: string;
}

export type ChargeResult =
  { readonly kind: 'charged'; readonly chargeId: string } | { readonly kind: 'declined' } | { readonly kind: 'unavailable' };

export const PROVIDER_DELAY_MS = Symbol('PROVIDER_DELAY_MS');

const SLOW_MS = 10_000;

@Injectable()
export class PaymentProvider {
  constructor(
    @InjectRepository(ProviderCall, OUTSIDE) private readonly calls: Repository<ProviderCall>,
    @Inject(PROVIDER_DELAY_MS) private readonly delayMs: number,
  ) {}

  async charge(request: ChargeRequest): Promise<ChargeResult> {
    const { card, idempotencyKey } = request;
    if (card === 'tok_declined') {
      await this.record(request, 'declined');
      await pause(this.delayMs);
      return { kind: 'declined' };
    }
    if (card === 'tok_down' || (card === 'tok_down_once' && !(await this.calls.existsBy({ idempotencyKey })))) {
      await this.record(request, 'unavailable');
      return { kind: 'unavailable' };
    }
    const chargeId = await this.record(request, 'charged');
    if (chargeId === undefined) {
      const first = await this.calls.findOneByOrFail({ idempotencyKey, outcome: 'charged' });
      await this.record(request, 'repeated');
      return { kind: 'charged', chargeId: first.id };
    }
    // The money has moved and the answer is on its way: a shop that dies now has charged and does not know it.
    await pause(card === 'tok_slow' ? SLOW_MS : this.delayMs);
    return { kind: 'charged', chargeId };
  }

  /** The new entry's id; `undefined` if there is a charge with this key already, which a unique index sees to. */
  private async record({ idempotencyKey, card, amount, description }: ChargeRequest, outcome: CallOutcome): Promise<string | undefined> {
    const inserted = await this.calls
      .createQueryBuilder()
      .insert()
      .values({ idempotencyKey, card, amount, description, outcome })
      .orIgnore()
      .execute();
    const [entry] = inserted.raw as { id: string }[];
    return entry?.id;
  }
}
