/** Options for handlers of webhooks, by sender. What their events are known by is in recipes/webhook-ids.ts. */
import type { IncomingHttpHeaders } from 'node:http';
import type { ExecutionContext } from '@nestjs/common';
import { adyenEventId, githubDeliveryId, stripeEventId } from '../recipes/webhook-ids.js';
import type { IdempotentOptions } from './options.js';

/**
 * What all have in common. A delivery without its id is refused with 400. Senders prove who they are
 * by a signature or Basic authentication and are nobody's users, so they share one space. Only a
 * success is kept: an event that came too early is refused with a 4xx by the handler, and tried again
 * when it is delivered again.
 */
const DELIVERY = {
  required: true,
  scope: false,
  storeIf: (status: number) => status >= 200 && status < 300,
} as const satisfies IdempotentOptions;

/** What an Express and a Fastify request have in common, of what is read here. */
interface Delivery {
  readonly headers: IncomingHttpHeaders;
  readonly body?: unknown;
}

function deliveryIn(context: ExecutionContext): Delivery {
  return context.switchToHttp().getRequest<Delivery>();
}

/**
 * Route options that handle each event of a webhook once: `@Idempotent({ ...fromWebhook.stripe, atomic: true })`.
 * The id of the event is the key, in a space of the handler's own, and the whole fingerprint: what is
 * the same event need not have the same bytes.
 *
 * Check the signature before, in a guard: guards run before anything is claimed or replayed, and
 * whoever can send an event unchecked can also take its id away from the real one.
 */
export const fromWebhook = Object.freeze({
  /**
   * By the event's `id`. Stripe delivers again for three days, and its events can be sent again by hand
   * for as long as they are listed, 30 days (docs.stripe.com/webhooks/process-undelivered-events).
   */
  stripe: preset('30d', (context) => stripeEventId(deliveryIn(context).body)),
  /**
   * By the header `X-GitHub-Delivery`, which is the same in a redelivery. GitHub redelivers when asked
   * to, within three days, on Enterprise Server seven (docs.github.com, “Redelivering webhooks”).
   */
  github: preset('8d', (context) => githubDeliveryId(deliveryIn(context).headers['x-github-delivery'])),
  /**
   * By `pspReference` and `eventCode`. Adyen delivers again for up to 30 days
   * (docs.adyen.com, “Troubleshoot webhooks”).
   */
  adyen: preset('31d', (context) => adyenEventId(deliveryIn(context).body)),
});

function preset(ttl: string, keyFrom: (context: ExecutionContext) => string): IdempotentOptions {
  return Object.freeze({ ...DELIVERY, ttl, keyFrom });
}
