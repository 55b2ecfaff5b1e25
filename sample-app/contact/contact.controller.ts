import { Body, Controller, Get, Post } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { Deduplicate } from '../../lib/index.js';
import { Public } from '../auth/public.js';
import { Outbox, SHOP_ADDRESS } from '../mail/outbox.js';
import { ContactMessage } from './contact-message.entity.js';
import { SendMessageDto } from './send-message.dto.js';

@Controller('contact')
export class ContactController {
  constructor(
    @InjectRepository(ContactMessage) private readonly messages: Repository<ContactMessage>,
    private readonly outbox: Outbox,
  ) {}

  /**
   * A form in a page sends no key, and nobody is logged in: the same words with the same address within
   * ten seconds are taken for one message (`scope: false`, since the address in the body says who it is).
   *
   * The second click gets the first one's thanks. Whoever clicks twice sees the answer to the second
   * click only, and a refusal there would look as if nothing had been sent, so that they write it all
   * again. Only a click that comes while the first is still at work is told to wait, by 409 and
   * Retry-After: there are no thanks yet.
   */
  @Post()
  @Public(true)
  @Deduplicate({ window: '10s', answer: 'replay', scope: false })
  send(@Body() { email, message }: SendMessageDto): Promise<{ received: string }> {
    return this.messages.manager.transaction(async (manager) => {
      const { id } = await manager.save(ContactMessage, { email, message });
      await this.outbox.noteDown(manager, {
        about: id,
        recipient: SHOP_ADDRESS,
        replyTo: email,
        subject: 'A message from the contact form',
        text: message,
      });
      return { received: id };
    });
  }

  /** A look into what has come, where a second copy of a message would show. */
  @Get()
  list(): Promise<ContactMessage[]> {
    return this.messages.find({ order: { createdAt: 'ASC' } });
  }
}
