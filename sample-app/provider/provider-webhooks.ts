/**
 * The provider's other half: it pays charges out and sends the shop an event for each. As providers
 * do, it signs every delivery, and does not care that it may deliver an event more than once.
 */
import type { AddressInfo, Server } from 'node:net';
import { Inject, Injectable } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { SIGNATURE_HEADER, signatureOf } from '../webhooks/signature.js';
import type { ProviderCall } from './provider-call.entity.js';

export const PROVIDER_SECRET = Symbol('PROVIDER_SECRET');

export interface Delivery {
  readonly event: string;
  readonly status: number;
  /** Whether the shop said that it has seen this event before. */
  readonly replayed: boolean;
}

@Injectable()
export class ProviderWebhooks {
  constructor(
    private readonly host: HttpAdapterHost,
    @Inject(PROVIDER_SECRET) private readonly secret: string,
  ) {}

  async deliverSettled(charge: ProviderCall): Promise<Delivery> {
    const event = `evt_${charge.id}`;
    const body = JSON.stringify({ id: event, type: 'charge.settled', chargeId: charge.id });
    const signature = signatureOf(this.secret, body, Math.floor(Date.now() / 1000));
    const headers = { 'Content-Type': 'application/json', [SIGNATURE_HEADER]: signature };
    const response = await fetch(this.shopsAddress(), { method: 'POST', headers, body });
    return { event, status: response.status, replayed: response.headers.get('idempotent-replayed') === 'true' };
  }

  /** A provider has it in its settings. It is never taken from a request: a signed event is for the shop's eyes alone. */
  private shopsAddress(): string {
    const { port } = (this.host.httpAdapter.getHttpServer() as Server).address() as AddressInfo;
    return `http://127.0.0.1:${port}/webhooks/payments`;
  }
}
