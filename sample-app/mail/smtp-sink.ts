/** A mail server for those who have none at hand. It takes every mail, forwards none, and keeps them where GET /mails shows them. */
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { callbackify } from 'node:util';
import { Injectable } from '@nestjs/common';
import type { OnApplicationShutdown } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { SMTPServer } from 'smtp-server';
import type { SMTPServerDataStream, SMTPServerSession } from 'smtp-server';
import type { Repository } from 'typeorm';
import { OUTSIDE } from '../outside.js';
import { ReceivedMail } from './received-mail.entity.js';

@Injectable()
export class SmtpSink implements OnApplicationShutdown {
  private readonly server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['AUTH', 'STARTTLS'], // it is on this machine, and has nothing to hide from it
    disableReverseLookup: true,
    onData: callbackify((stream: SMTPServerDataStream, session: SMTPServerSession) => this.keep(stream, session)),
  });

  constructor(@InjectRepository(ReceivedMail, OUTSIDE) private readonly mails: Repository<ReceivedMail>) {
    this.server.on('error', () => undefined); // somebody hung up in the middle of a mail; it was not accepted, and that is all
  }

  /** Opens it on any port. Its address, as nodemailer takes it. */
  async open(): Promise<string> {
    const listener = this.server.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as { port: number };
    return `smtp://127.0.0.1:${port}`;
  }

  async onApplicationShutdown(): Promise<void> {
    await new Promise<void>((closed) => this.server.close(closed));
  }

  /** As every mail server must: what it has said yes to is on disk. */
  private async keep(stream: SMTPServerDataStream, { envelope }: SMTPServerSession): Promise<void> {
    const recipient = envelope.rcptTo.map(({ address }) => address).join();
    await this.mails.insert({ recipient, source: await text(stream) });
  }
}
