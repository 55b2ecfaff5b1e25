/**
 * By what the senders of webhooks know their events, as their documentation has it. A delivery that
 * does not say so is refused; which answer is kept for how long is decided where these are used.
 */
import { KeyInvalid, KeyRequired } from '../contract/errors.js';
import { keyText, valueAt } from '../engine/key.js';

/** `id` of the event (docs.stripe.com/webhooks: log the ids of events that were processed). */
export function stripeEventId(body: unknown): string {
  return required(keyText(valueAt(jsonOf(body), 'id')), 'the body at "id"', 'Stripe');
}

/**
 * The GUID in `X-GitHub-Delivery`, which a redelivery repeats (docs.github.com, “Best practices for
 * using webhooks”).
 *
 * @param field as Node has it: repeated fields are joined by a comma there
 */
export function githubDeliveryId(field: string | readonly string[] | undefined): string {
  if (Array.isArray(field) || (typeof field === 'string' && field.includes(','))) {
    throw new KeyInvalid('came in several X-GitHub-Delivery fields; GitHub sends exactly one');
  }
  return required(keyText(field), 'the X-GitHub-Delivery header', 'GitHub');
}

/**
 * `pspReference` and `eventCode`, which duplicates have in common while other fields may differ
 * (docs.adyen.com, “Handle webhook events”). They stand in the one item of a JSON notification, or flat
 * in one by HTTP POST; webhooks about tokens call them `eventId` and `type`.
 */
export function adyenEventId(body: unknown): string {
  const event = adyenEvent(jsonOf(body));
  const reference = keyText(valueAt(event, 'pspReference') ?? valueAt(event, 'eventId'));
  const code = keyText(valueAt(event, 'eventCode') ?? valueAt(event, 'type'));
  if (reference?.includes(':')) throw new KeyInvalid('has a colon in its pspReference, so that it could be taken for another one');
  const id = reference === undefined || code === undefined ? undefined : `${reference}:${code}`;
  return required(id, "the notification's pspReference and eventCode", 'Adyen');
}

function adyenEvent(body: unknown): unknown {
  const items = valueAt(body, 'notificationItems');
  if (items === undefined) return body;
  if (Array.isArray(items) && items.length > 1) {
    throw new KeyInvalid(
      'would stand for several notification items, and Adyen sends one at a time by JSON and HTTP POST; choose one of these methods for the webhook',
    );
  }
  return valueAt(items, '0.NotificationRequestItem');
}

function required(key: string | undefined, source: string, sender: string): string {
  if (key === undefined) throw new KeyRequired(source, `Nothing but deliveries as ${sender} sends them is accepted here.`);
  return key;
}

/** Where a signature is checked over the raw bytes, the body is often just these. */
function jsonOf(body: unknown): unknown {
  if (typeof body !== 'string' && !(body instanceof Uint8Array)) return body;
  try {
    return JSON.parse(typeof body === 'string' ? body : Buffer.from(body).toString());
  } catch {
    return undefined;
  }
}
