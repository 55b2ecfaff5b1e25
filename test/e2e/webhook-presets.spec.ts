import { beforeAll, describe, expect, it } from '@jest/globals';
import { Body, Controller, Headers, HttpCode, NotFoundException, Post, UnauthorizedException, UseGuards } from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { Idempotent, fromWebhook } from '../../lib/index.js';
import { PLATFORMS } from '../support/app.js';
import type { RunningApp } from '../support/app.js';
import { Ledger, bench, newKey } from './support/bench.js';
import { Journal } from './support/journal.js';
import { codeOf, isReplay, json, send } from './support/wire.js';
import type { Answer } from './support/wire.js';

const shared = bench();
const ledger = new Ledger();
/** What has not been heard of yet, so that events about it come too early. */
const unknown = new Set<string>();

class Signature implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string | undefined> }>();
    if (headers['x-signature'] === 'forged') throw new UnauthorizedException();
    return true;
  }
}

function handle(event: string): object {
  if (unknown.has(event)) throw new NotFoundException();
  return { run: ledger.run(event) };
}

@Controller('hooks')
@UseGuards(Signature)
class Hooks {
  @Post('stripe')
  @HttpCode(200)
  @Idempotent(fromWebhook.stripe)
  stripe(@Body() { id }: { id: string }): object {
    return handle(id);
  }

  @Post('stripe/short')
  @Idempotent({ ...fromWebhook.stripe, ttl: '7d' })
  short(@Body() { id }: { id: string }): object {
    return handle(id);
  }

  @Post('github')
  @Idempotent(fromWebhook.github)
  github(@Headers('x-github-delivery') delivery: string): object {
    return handle(delivery);
  }

  @Post('adyen')
  @Idempotent(fromWebhook.adyen)
  adyen(@Body() body: { notificationItems: { NotificationRequestItem: { pspReference: string } }[] }): object {
    return handle(body.notificationItems[0]!.NotificationRequestItem.pspReference);
  }

  @Post('orders')
  @Idempotent({ required: true, scope: false })
  order(): object {
    return { run: ledger.run('order') };
  }
}

interface Delivery {
  readonly path: string;
  readonly headers?: Record<string, string>;
  readonly body: unknown;
}

/** The same event twice as its sender sends it, or other ones; `again` differs where a redelivery may. */
const senders: readonly { name: string; deliver: (id: string, again?: boolean) => Delivery; anonymous: Delivery }[] = [
  {
    name: 'Stripe',
    deliver: (id, again = false) => ({ path: '/hooks/stripe', body: { id, type: 'invoice.paid', pending_webhooks: again ? 0 : 1 } }),
    anonymous: { path: '/hooks/stripe', body: { type: 'invoice.paid' } },
  },
  {
    name: 'GitHub',
    deliver: (id, again = false) => ({ path: '/hooks/github', headers: { 'x-github-delivery': id }, body: { action: 'opened', again } }),
    anonymous: { path: '/hooks/github', body: { action: 'opened' } },
  },
  {
    name: 'Adyen',
    deliver: (id, again = false) => ({
      path: '/hooks/adyen',
      body: notification({ pspReference: id, eventCode: 'CAPTURE', reason: String(again) }),
    }),
    anonymous: { path: '/hooks/adyen', body: notification({ eventCode: 'CAPTURE' }) },
  },
];

function notification(...items: object[]): object {
  return { live: 'false', notificationItems: items.map((NotificationRequestItem) => ({ NotificationRequestItem })) };
}

describe.each(PLATFORMS)('webhooks on %s', (platform) => {
  const journal = new Journal();
  let app: RunningApp;
  beforeAll(async () => {
    app = await shared.start(platform, { controllers: [Hooks], create: { logger: journal } });
  });

  const deliver = ({ path, headers, body }: Delivery, more: Record<string, string> = {}): Promise<Answer> =>
    send(`${app.url}${path}`, { body, headers: { authorization: 'Basic YWR5ZW46c2VjcmV0', ...headers, ...more } });

  describe.each(senders)('of $name', ({ deliver: deliveryOf, anonymous }) => {
    it('are handled once for each event, whoever says that he is the sender, whatever else has changed', async () => {
      const id = newKey();
      const [first, again] = [
        await deliver(deliveryOf(id)),
        await deliver(deliveryOf(id, true), { authorization: 'Basic b3RoZXI6c2VjcmV0' }),
      ];
      expect([isReplay(first), isReplay(again), again.text]).toEqual([false, true, first.text]);
      expect((await deliver(deliveryOf(newKey()))).text).not.toBe(first.text);
      expect(ledger.runs(id)).toBe(1);
    });

    it('are handled once when two of them come at once', async () => {
      const id = newKey();
      const answers = await Promise.all([deliver(deliveryOf(id)), deliver(deliveryOf(id))]);
      expect(answers.map((answer) => answer.status < 300 || codeOf(answer) === 'IDEMPOTENCY_KEY_IN_USE')).toEqual([true, true]);
      expect(ledger.runs(id)).toBe(1);
    });

    it('are tried again when they came too early', async () => {
      const id = newKey();
      unknown.add(id);
      expect((await deliver(deliveryOf(id))).status).toBe(404);
      unknown.delete(id);
      expect((await deliver(deliveryOf(id))).status).toBeLessThan(300);
      expect(isReplay(await deliver(deliveryOf(id)))).toBe(true);
    });

    it('are refused without their id', async () => {
      const answer = await deliver(anonymous);
      expect([answer.status, codeOf(answer)]).toEqual([400, 'IDEMPOTENCY_KEY_REQUIRED']);
      expect(answer.text).not.toContain('Make one');
    });

    it('can’t have their ids taken away by somebody with a forged signature, nor have their answers read', async () => {
      const id = newKey();
      expect((await deliver(deliveryOf(id), { 'x-signature': 'forged' })).status).toBe(401);
      const first = await deliver(deliveryOf(id));
      expect([first.status < 300, isReplay(first)]).toEqual([true, false]);
      expect((await deliver(deliveryOf(id), { 'x-signature': 'forged' })).status).toBe(401);
    });

    it('have a space of ids of their own', async () => {
      const id = newKey();
      await deliver(deliveryOf(id));
      expect((await send(`${app.url}/hooks/orders`, { key: id })).status).toBe(201);
      const elsewhere = await deliver({ path: '/hooks/stripe/short', body: { id } });
      expect([elsewhere.status, isReplay(elsewhere)]).toEqual([201, false]);
    });
  });

  it('of Adyen are told apart by their event code, too', async () => {
    const pspReference = newKey();
    const of = (eventCode: string): Promise<Answer> => deliver({ path: '/hooks/adyen', body: notification({ pspReference, eventCode }) });
    expect([isReplay(await of('AUTHORISATION')), isReplay(await of('CAPTURE')), isReplay(await of('CAPTURE'))]).toEqual([
      false,
      false,
      true,
    ]);
  });

  it('of Adyen with several items are refused, with a way out', async () => {
    const item = { pspReference: newKey(), eventCode: 'CAPTURE' };
    const answer = await deliver({ path: '/hooks/adyen', body: notification(item, item) });
    expect([answer.status, codeOf(answer)]).toEqual([400, 'IDEMPOTENCY_KEY_INVALID']);
    expect((json(answer) as { detail: string }).detail).toMatch(/JSON and HTTP POST/);
  });

  it.each<[path: string, body: (id: string) => Delivery, days: number]>([
    ['Stripe', senders[0]!.deliver, 30],
    ['GitHub', senders[1]!.deliver, 8],
    ['Adyen', senders[2]!.deliver, 31],
    ['Stripe, told otherwise', (id) => ({ path: '/hooks/stripe/short', body: { id } }), 7],
  ])('of %s are remembered for as long as they may come again', async (_, deliveryOf, days) => {
    const id = newKey();
    await deliver(deliveryOf(id));
    const { rows } = await shared
      .database()
      .pool.query<{ days: number }>(
        `select extract(epoch from expires_at - completed_at)::float8 / 86400 as days from idempotency_records where key like $1`,
        [`${id}%`],
      );
    expect(rows).toEqual([{ days }]);
  });

  it('are nothing to warn of', () => {
    expect(journal.own()).toEqual([]);
  });
});
