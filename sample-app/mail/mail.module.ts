import { Module } from '@nestjs/common';
import type { DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { createTransport } from 'nodemailer';
import { OUTSIDE } from '../outside.js';
import { MailsController } from './mails.controller.js';
import { MAIL_TRANSPORT, Outbox } from './outbox.js';
import { PendingMail } from './pending-mail.entity.js';
import { ReceivedMail } from './received-mail.entity.js';
import { SmtpSink } from './smtp-sink.js';

@Module({})
export class MailModule {
  static with({ smtpUrl }: { smtpUrl: string | undefined }): DynamicModule {
    return {
      module: MailModule,
      global: true,
      imports: [TypeOrmModule.forFeature([PendingMail]), TypeOrmModule.forFeature([ReceivedMail], OUTSIDE)],
      controllers: [MailsController],
      providers: [
        Outbox,
        SmtpSink,
        {
          provide: MAIL_TRANSPORT,
          inject: [SmtpSink],
          useFactory: async (sink: SmtpSink) => createTransport(smtpUrl ?? (await sink.open())),
        },
      ],
      exports: [Outbox, MAIL_TRANSPORT],
    };
  }
}
