import { Body, Controller, Inject, Post } from '@nestjs/common';
import type { Transporter } from 'nodemailer';
import { DataSource } from 'typeorm';
import { SkipIdempotency } from '../../lib/index.js';
import { Public } from '../auth/public.js';
import { ContactMessage } from '../contact/contact-message.entity.js';
import { SendMessageDto } from '../contact/send-message.dto.js';
import { MAIL_TRANSPORT, SHOP_ADDRESS } from '../mail/outbox.js';

@Controller('unprotected/contact')
export class UnprotectedContactController {
  constructor(
    private readonly dataSource: DataSource,
    @Inject(MAIL_TRANSPORT) private readonly mails: Transporter,
  ) {}

  /** Two clicks are two messages. */
  @Post()
  @Public(true)
  @SkipIdempotency()
  async send(@Body() { email, message }: SendMessageDto): Promise<{ received: string }> {
    const { id } = await this.dataSource.manager.save(ContactMessage, { email, message });
    const [from, subject] = [`The shop <${SHOP_ADDRESS}>`, 'A message from the contact form'];
    await this.mails.sendMail({ from, to: SHOP_ADDRESS, replyTo: email, subject, text: message });
    return { received: id };
  }
}
