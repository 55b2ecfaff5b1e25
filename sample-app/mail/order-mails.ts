/**
 * Confirmations of paid orders by e-mail, one for each.
 *
 * A mail can't be taken back, so it must not be sent from within the order's transaction, which may
 * yet be rolled back; and it must not be forgotten by a process that dies between the commit and the
 * mail. So the transaction leaves a note of it (`noteDown`), and notes are seen to afterwards: when
 * something has been committed, when the shop is opened, and every few seconds.
 *
 * Several processes may come upon the same note, or one may die over it. `run` with the order's id
 * lets one of them send, and tells the others that it is done.
 */
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Transporter } from 'nodemailer';
import { filter } from 'rxjs';
import type { EntityManager, Repository } from 'typeorm';
import { IdempotencyEvents, IdempotencyService, isIdempotencyError } from '../../lib/index.js';
import type { User } from '../auth/users.js';
import type { Order } from '../orders/order.entity.js';
import { PendingMail } from './pending-mail.entity.js';

export const MAIL_TRANSPORT = Symbol('MAIL_TRANSPORT');

const OPERATION = 'order-mail';
/** A mail whose process has died is free for another one after three seconds. */
const LOOK_EVERY_MS = 5_000;

/** One look takes no more than these; the next one sees to the rest. */
const AT_ONCE = 100;

@Injectable()
export class OrderMails implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(OrderMails.name);
  private timer: NodeJS.Timeout | undefined;
  private round: Promise<void> | undefined;
  private wanted = false;
  private closed = false;

  constructor(
    @InjectRepository(PendingMail) private readonly pending: Repository<PendingMail>,
    private readonly idempotency: IdempotencyService,
    private readonly events: IdempotencyEvents,
    @Inject(MAIL_TRANSPORT) private readonly transport: Transporter,
  ) {}

  /** In the order's transaction: an order and the note of its mail are committed together, or neither is. */
  async noteDown(manager: EntityManager, { id }: Order, { email }: User): Promise<void> {
    await manager.insert(PendingMail, { orderId: id, recipient: email });
  }

  onApplicationBootstrap(): void {
    const committed = filter(
      ({ type, operation }: { type: string; operation?: string }) => type === 'completed' && operation !== OPERATION,
    );
    this.events.events$.pipe(committed).subscribe(() => this.sendSoon());
    this.timer = setInterval(() => this.sendSoon(), LOOK_EVERY_MS);
    this.sendSoon();
  }

  /** A mail under way is sent; what is still to be sent then is for the next process. */
  async beforeApplicationShutdown(): Promise<void> {
    this.closed = true;
    clearInterval(this.timer);
    await this.round;
  }

  private sendSoon(): void {
    this.wanted = true;
    this.round ??= this.sendPending().finally(() => (this.round = undefined));
  }

  private async sendPending(): Promise<void> {
    while (this.wanted && !this.closed) {
      this.wanted = false;
      try {
        for (const mail of await this.pending.find({ order: { createdAt: 'ASC' }, take: AT_ONCE })) await this.sendOnce(mail);
      } catch (error) {
        this.logger.warn(`Nobody knows which confirmations are to be sent: ${String(error)}`);
      }
    }
  }

  /**
   * That it has been sent and that its note is gone are committed together. The mail itself is a
   * step: once the server has taken it, no other attempt sends it. Only a process that dies between
   * the server's yes and the step's record leaves a mail to be sent twice, and then under the same
   * Message-ID, by which mailboxes tell a copy; a mail server offers nothing better.
   */
  private async sendOnce({ orderId, recipient }: PendingMail): Promise<void> {
    if (this.closed) return;
    try {
      await this.idempotency.run({ operation: OPERATION, key: orderId, atomic: true, ttl: '30d' }, async (execution) => {
        await execution.step('send', ({ key }) => this.send(`<${key}@shop.example>`, orderId, recipient));
        await execution.manager.delete(PendingMail, { orderId });
      });
    } catch (error) {
      if (isIdempotencyError(error) && error.code === 'IDEMPOTENCY_KEY_IN_USE') return; // another process is at it
      this.logger.warn(`The confirmation of order ${orderId} can't be sent yet: ${String(error)}`);
    }
  }

  private async send(messageId: string, orderId: string, recipient: string): Promise<void> {
    const [from, subject, text] = ['The shop <shop@shop.example>', `Your order ${orderId}`, 'It is paid, and on its way.'];
    await this.transport.sendMail({ messageId, from, to: recipient, subject, text });
  }
}
