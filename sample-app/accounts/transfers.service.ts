import {
  ConflictException,
  HttpException,
  HttpStatus,
  Injectable,
  NotFoundException,
  ServiceUnavailableException,
  UnprocessableEntityException,
} from '@nestjs/common';
import { DataSource } from 'typeorm';
import type { EntityManager } from 'typeorm';
import { compareAndSet, insertOnce } from '../../lib/index.js';
import type { User } from '../auth/users.js';
import { Account } from './account.entity.js';
import type { CreateTransferDto } from './create-transfer.dto.js';
import { Transfer } from './transfer.entity.js';

/**
 * Whoever finds a balance changed was overtaken by a transfer that went through, so somebody always
 * gets ahead; and Postgres lets those who wait for a row have it in turn, so that nobody is overtaken
 * often. Who is all the same is told to come back: that is better than to wait for no one knows how long.
 */
const MOST_TRIES = 50;

@Injectable()
export class TransfersService {
  constructor(private readonly dataSource: DataSource) {}

  /**
   * The transfer is entered first, and under its id there can be only one. Who comes with the same id
   * while it is under way waits in `insertOnce` until it has been committed, and is given it then; or
   * until it was rolled back, and carries it out in its place. A refused transfer leaves nothing behind:
   * its id may be tried again when there is money. READ COMMITTED, since who has waited must see what was
   * committed meanwhile.
   */
  transfer(user: User, wanted: CreateTransferDto): Promise<{ transfer: Transfer; isNew: boolean }> {
    const { transactionId, from, to, amount } = wanted;
    return this.dataSource.transaction('READ COMMITTED', async (manager) => {
      await this.checkAccounts(manager, user, wanted);
      const entry = { transactionId, userId: user.id, from, to, amount };
      const { row: transfer, inserted } = await insertOnce(manager, Transfer, entry, { unique: ['transactionId'] });
      if (inserted) await this.move(manager, wanted);
      else this.checkItIsTheSame(transfer, user, wanted);
      return { transfer, isNew: inserted };
    });
  }

  list(user: User): Promise<Transfer[]> {
    return this.dataSource.manager.find(Transfer, { where: { userId: user.id }, order: { createdAt: 'ASC' } });
  }

  private async checkAccounts(manager: EntityManager, user: User, { from, to }: CreateTransferDto): Promise<void> {
    if (from === to) throw new UnprocessableEntityException('The money is there already.');
    if (!(await manager.existsBy(Account, { id: from, userId: user.id }))) throw new NotFoundException(`You have no account ${from}.`);
    if (!(await manager.existsBy(Account, { id: to }))) throw new NotFoundException(`There is no account ${to}.`);
  }

  /** An id that is known is not yet a retry: it may be somebody else's, or have been used for something else. */
  private checkItIsTheSame(found: Transfer, user: User, { from, to, amount }: CreateTransferDto): void {
    if (found.userId !== user.id) throw new ConflictException('This transaction id is taken. Make a new one.');
    if (found.from === from && found.to === to && found.amount === amount) return;
    throw new UnprocessableEntityException('This transaction id was used for another transfer. Make a new one for each.');
  }

  /** Always in the same order, whichever way the money goes: two that wait for each other would wait forever. */
  private async move(manager: EntityManager, { from, to, amount }: CreateTransferDto): Promise<void> {
    for (const id of [from, to].sort()) await this.change(manager, id, id === from ? -amount : amount);
  }

  /** Read, compute, and set only if it still is what was read. A balance that came back to it in between is as good. */
  private async change(manager: EntityManager, id: string, change: number): Promise<void> {
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const { balance } = await manager.findOneByOrFail(Account, { id });
      if (balance + change < 0) throw new HttpException('There is not enough money in the account.', HttpStatus.PAYMENT_REQUIRED);
      if (await compareAndSet(manager, Account, { id }, { balance }, { balance: balance + change })) return;
    }
    throw new ServiceUnavailableException('The account is very busy. Nothing has moved; send the same transfer again.');
  }
}
