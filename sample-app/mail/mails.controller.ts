import { Controller, Get } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository } from 'typeorm';
import { CurrentUser } from '../auth/current-user.js';
import type { User } from '../auth/users.js';
import { OUTSIDE } from '../outside.js';
import { ReceivedMail } from './received-mail.entity.js';

/** A look into one's own mailbox, where a second confirmation of an order would show. */
@Controller('mails')
export class MailsController {
  constructor(@InjectRepository(ReceivedMail, OUTSIDE) private readonly mails: Repository<ReceivedMail>) {}

  @Get()
  list(@CurrentUser() { email }: User): Promise<ReceivedMail[]> {
    return this.mails.find({ where: { recipient: email }, order: { receivedAt: 'ASC' } });
  }
}
