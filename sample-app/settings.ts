/** What can be set from outside, read once. */
import { randomBytes } from 'node:crypto';

export interface ShopSettings {
  readonly databaseUrl: string;
  /** How long the payment provider takes for a new charge. */
  readonly providerDelayMs: number;
  /** A process that stands still for that long loses its payment to a retry. One that crashed has lost it at once. */
  readonly lockTtl: string;
  /** How long stock is reserved for a customer who has not decided yet; as Postgres reads an interval, such as `10m`. */
  readonly reservationTtl: string;
  /** What the provider signs its webhooks with. */
  readonly webhookSecret: string;
  /** Where mails go; `undefined`: to a mailbox of the shop's own, see mail/smtp-sink.ts. */
  readonly smtpUrl: string | undefined;
}

export function readSettings(env: NodeJS.ProcessEnv, databaseUrl: string): ShopSettings {
  return {
    databaseUrl,
    providerDelayMs: Number(env['PROVIDER_DELAY_MS'] ?? 300),
    lockTtl: env['LOCK_TTL'] ?? '60s',
    reservationTtl: readReservationTtl(env),
    webhookSecret: env['WEBHOOK_SECRET'] ?? randomBytes(32).toString('hex'), // provider and shop are one process here
    smtpUrl: env['SMTP_URL'] || undefined,
  };
}

/** Postgres reads it at the first reservation; that is late to hear of a typing error. */
function readReservationTtl(env: NodeJS.ProcessEnv): string {
  const ttl = env['RESERVATION_TTL'] ?? '10m';
  if (!/^\d+(ms|s|m|h|d)$/.test(ttl)) throw new Error(`RESERVATION_TTL is ${ttl}. Give a time such as 30s, 10m or 2h, or leave it out.`);
  return ttl;
}

export function readPort(env: NodeJS.ProcessEnv): number {
  const port = Number(env['PORT'] ?? 3000);
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new Error(`PORT is ${env['PORT']}. Give a number up to 65535, or leave it out.`);
  return port;
}
