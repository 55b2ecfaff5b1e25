/**
 * The provider's other half: it tells the shop what becomes of its charges, by an event for each. As
 * providers do, it signs every delivery, and does not care that it may deliver an event more than once.
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

  async deliver(what: 'settled' | 'refunded', { id: chargeId }: ProviderCall, path = '/webhooks/payments'): Promise<Delivery> {
    const event = `evt_${what}_${chargeId}`; // there is one of a kind for each charge
    const body = JSON.stringify({ id: event, type: `charge.${what}`, chargeId });
    const signature = signatureOf(this.secret, body, Math.floor(Date.now() / 1000));
    const headers = { 'Content-Type': 'application/json', [SIGNATURE_HEADER]: signature };
    const response = await fetch(this.shopsAddress() + path, { method: 'POST', headers, body });
    return { event, status: response.status, replayed: response.headers.get('idempotent-replayed') === 'true' };
  }

  /** A provider has it in its settings. It is never taken from a request: a signed event is for the shop's eyes alone. */
  private shopsAddress(): string {
    const { port } = (this.host.httpAdapter.getHttpServer() as Server).address() as AddressInfo;
    return `http://127.0.0.1:${port}`;
  }
}
