/**
 * How the provider signs what it sends, and how the shop finds out: `t=<seconds>,v1=<hex>`, the
 * HMAC-SHA256 of the time and the body's bytes. The time is signed too, so that a delivery that
 * somebody has recorded is worth nothing later.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

export const SIGNATURE_HEADER = 'provider-signature';

/** Clocks differ by a little, and networks take their time. */
const TOLERANCE_SECONDS = 300;

export function signatureOf(secret: string, body: string | Buffer, atSeconds: number): string {
  return `t=${atSeconds},v1=${digest(secret, String(atSeconds), body).toString('hex')}`;
}

export function isGenuine(secret: string, signature: string, body: Buffer, nowSeconds: number): boolean {
  const [, time, hex] = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(signature) ?? [];
  if (time === undefined || hex === undefined || Math.abs(nowSeconds - Number(time)) > TOLERANCE_SECONDS) return false;
  return timingSafeEqual(digest(secret, time, body), Buffer.from(hex, 'hex')); // how long it takes must not tell how much of it was right
}

function digest(secret: string, time: string, body: string | Buffer): Buffer {
  return createHmac('sha256', secret).update(`${time}.`).update(body).digest();
}
