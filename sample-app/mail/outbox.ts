/**
 * Mails, one about each thing that there is to tell of: an order that is paid, a message that has come.
 *
 * A mail can't be taken back, so it must not be sent from within the transaction that it tells of,
 * which may yet be rolled back; and it must not be forgotten by a process that dies between the commit
 * and the mail. So the transaction leaves a note of it (`noteDown`), and notes are seen to afterwards:
 * when something has been committed, when the shop is opened, and every few seconds.
 *
 * Several processes may come upon the same note, or one may die over it. `run` with the id of what
 * the mail is about lets one of them send, and tells the others that it is done.
 */
import { Inject, Injectable, Logger } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Transporter } from 'nodemailer';
import { filter } from 'rxjs';
import type { EntityManager, Repository } from 'typeorm';
import { IdempotencyEvents, IdempotencyService, isIdempotencyError } from '../../lib/index.js';
import { PendingMail } from './pending-mail.entity.js';

export type Mail = Pick<PendingMail, 'about' | 'recipient' | 'subject' | 'text'> & Partial<Pick<PendingMail, 'replyTo'>>;

export const MAIL_TRANSPORT = Symbol('MAIL_TRANSPORT');

/** Where mails come from, and where those go that are for the shop itself. */
export const SHOP_ADDRESS = 'shop@shop.example';

const OPERATION = 'mail';

/** A mail whose process has died is free for another one after three seconds. */
const LOOK_EVERY_MS = 5_000;

/** One look takes no more than these; the next one sees to the rest. */
const AT_ONCE = 100;

@Injectable()
export class Outbox implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly logger = new Logger(Outbox.name);
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

  /** @param manager of the transaction that the mail tells of: both are committed together, or neither is */
  async noteDown(manager: EntityManager, mail: Mail): Promise<void> {
    await manager.insert(PendingMail, mail);
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
        this.logger.warn(`Nobody knows which mails are to be sent: ${String(error)}`);
      }
    }
  }

  /**
   * That it has been sent and that its note is gone are committed together. The mail itself is a
   * step: once the server has taken it, no other attempt sends it. Only a process that dies between
   * the server's yes and the step's record leaves a mail to be sent twice, and then under the same
   * Message-ID, by which mailboxes tell a copy; a mail server offers nothing better.
   */
  private async sendOnce(mail: PendingMail): Promise<void> {
    const { about } = mail;
    if (this.closed) return;
    try {
      const { replayed } = await this.idempotency.run({ operation: OPERATION, key: about, atomic: true, ttl: '30d' }, async (execution) => {
        await execution.step('send', ({ key }) => this.send(`<${key}@shop.example>`, mail));
        await execution.manager.delete(PendingMail, { about });
      });
      if (replayed) await this.pending.delete({ about }); // it was noted down once more after it had been sent
    } catch (error) {
      if (isIdempotencyError(error) && error.code === 'IDEMPOTENCY_KEY_IN_USE') return; // another process is at it
      this.logger.warn(`The mail about ${about} can't be sent yet: ${String(error)}`);
    }
  }

  private async send(messageId: string, { recipient, replyTo, subject, text }: PendingMail): Promise<void> {
    const from = `The shop <${SHOP_ADDRESS}>`;
    await this.transport.sendMail({ messageId, from, to: recipient, ...(replyTo !== null && { replyTo }), subject, text });
  }
}
