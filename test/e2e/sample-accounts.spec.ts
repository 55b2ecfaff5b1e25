import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { openSampleShop } from '../support/sample-shop.js';
import type { Asked, SampleShop } from '../support/sample-shop.js';
import { json } from './support/wire.js';
import type { Answer } from './support/wire.js';

jest.setTimeout(60_000); // starts an application

interface Transfer {
  readonly transactionId: string;
  readonly from: string;
  readonly to: string;
  readonly amount: number;
}

let shop: SampleShop;

beforeAll(async () => {
  shop = await openSampleShop();
});

afterAll(async () => {
  await shop.close();
});

async function openAccount(userId: string, balance: number): Promise<string> {
  const id = `account-${randomUUID()}`;
  await shop.database.pool.query('insert into accounts (id, user_id, balance) values ($1, $2, $3)', [id, userId, balance]);
  return id;
}

async function balancesOf(accounts: readonly string[]): Promise<number[]> {
  const { rows } = await shop.database.pool.query<{ balance: number }>(
    'select balance from accounts join unnest($1::text[]) with ordinality as wanted (id, place) using (id) order by place',
    [accounts],
  );
  return rows.map(({ balance }) => balance);
}

const transfer = (from: string, to: string, amount: number): Transfer => ({ transactionId: randomUUID(), from, to, amount });
const send = (body: object, asked: Asked = {}): Promise<Answer> => shop.ask('POST', '/transfers', { body, ...asked });
const statusesOf = (answers: readonly Answer[]): number[] => answers.map(({ status }) => status).sort((one, other) => one - other);
const countOf = ({ transactionId }: Transfer): Promise<number> =>
  shop.count('select from transfers where transaction_id = $1', [transactionId]);

describe('a transfer by transaction id', () => {
  it('moves the money the first time, 201, and is given again after that, 200', async () => {
    const [from, to] = [await openAccount('alice', 100), await openAccount('bob', 5)];
    const wanted = transfer(from, to, 30);
    const [first, second] = [await send(wanted), await send(wanted)];
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(json(first)).toMatchObject({ ...wanted, userId: 'alice' });
    expect(second.text).toBe(first.text);
    expect(await balancesOf([from, to])).toEqual([70, 35]);
    expect(json(await shop.ask('GET', '/transfers'))).toContainEqual(json(first));
    expect(json(await shop.ask('GET', '/accounts'))).toContainEqual({ id: from, userId: 'alice', balance: 70 });
  });

  it('moves it once when twenty come at the same time; the others are told the same transfer', async () => {
    const [from, to] = [await openAccount('alice', 100), await openAccount('bob', 0)];
    const wanted = transfer(from, to, 30);
    const answers = await Promise.all(Array.from({ length: 20 }, () => send(wanted)));
    expect(statusesOf(answers)).toEqual([...Array<number>(19).fill(200), 201]);
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(await balancesOf([from, to])).toEqual([70, 30]);
  });

  it('keeps the sum when a hundred go back and forth at the same time, each sent twice', async () => {
    const accounts = await Promise.all(Array.from({ length: 4 }, () => openAccount('alice', 10_000)));
    const wanted = Array.from({ length: 100 }, (_, index) =>
      transfer(accounts[index % 4] ?? '', accounts[(index + 1 + (index % 3)) % 4] ?? '', 1 + index),
    );
    const answers = await Promise.all(wanted.flatMap((each) => [send(each), send(each)]));
    expect(statusesOf(answers)).toEqual([...Array<number>(100).fill(200), ...Array<number>(100).fill(201)]);

    const expected = accounts.map((account) =>
      wanted.reduce((sum, { from, to, amount }) => sum + (to === account ? amount : 0) - (from === account ? amount : 0), 10_000),
    );
    expect(expected.reduce((sum, balance) => sum + balance)).toBe(40_000);
    expect(await balancesOf(accounts)).toEqual(expected);
  });

  it('is refused with 402 when there is too little money, also where each by itself would be all right', async () => {
    const [from, to] = [await openAccount('alice', 45), await openAccount('bob', 0)];
    const wanted = Array.from({ length: 20 }, () => transfer(from, to, 10));
    const answers = await Promise.all(wanted.map((each) => send(each)));
    expect(statusesOf(answers)).toEqual([...Array<number>(4).fill(201), ...Array<number>(16).fill(402)]);
    expect(await balancesOf([from, to])).toEqual([5, 40]);
  });

  it('leaves nothing behind when it is refused: the same one goes through once there is money', async () => {
    const [from, to, savings] = [await openAccount('alice', 5), await openAccount('bob', 0), await openAccount('alice', 100)];
    const wanted = transfer(from, to, 10);
    expect((await send(wanted)).status).toBe(402);
    expect(await countOf(wanted)).toBe(0);
    expect((await send(transfer(savings, from, 50))).status).toBe(201);
    expect((await send(wanted)).status).toBe(201);
    expect(await balancesOf([from, to, savings])).toEqual([45, 10, 50]);
  });

  it('is answered again also when the money is long gone', async () => {
    const [from, to] = [await openAccount('alice', 10), await openAccount('bob', 0)];
    const wanted = transfer(from, to, 10);
    await send(wanted);
    expect((await send(wanted)).status).toBe(200);
    expect(await balancesOf([from, to])).toEqual([0, 10]);
  });
});

describe('a transfer that finds the balance changed', () => {
  /** Every change of the account comes to nothing, as if somebody else had always been faster. */
  async function whileOvertaken(account: string, work: () => Promise<void>): Promise<void> {
    const { pool } = shop.database;
    await pool.query(`
      create function overtake() returns trigger language plpgsql as $$ begin return null; end $$;
      create trigger overtaken before update on accounts for each row when (old.id = '${account}') execute function overtake()`);
    await work();
    await pool.query('drop function overtake cascade');
  }

  it('again and again, gives up with 503 and has moved nothing; it goes through when it is sent later', async () => {
    const [from, to] = [await openAccount('alice', 100), await openAccount('bob', 0)];
    for (const busy of [from, to]) {
      const wanted = transfer(from, to, 30);
      await whileOvertaken(busy, async () => {
        const before = await balancesOf([from, to]);
        expect((await send(wanted)).status).toBe(503);
        expect(await balancesOf([from, to])).toEqual(before);
        expect(await countOf(wanted)).toBe(0);
      });
      expect((await send(wanted)).status).toBe(201);
    }
    expect(await balancesOf([from, to])).toEqual([40, 60]);
  });
});

describe('a transaction id', () => {
  it('that was used for another transfer is refused with 422, whatever differs', async () => {
    const [from, to, other] = [await openAccount('alice', 100), await openAccount('bob', 0), await openAccount('alice', 100)];
    const wanted = transfer(from, to, 30);
    await send(wanted);
    for (const change of [{ amount: 31 }, { to: other }, { from: other }]) expect((await send({ ...wanted, ...change })).status).toBe(422);
    expect(await balancesOf([from, to, other])).toEqual([70, 30, 100]);
  });

  it("of another customer's transfer is refused with 409, and tells nothing of it", async () => {
    const [from, to] = [await openAccount('alice', 100), await openAccount('bob', 100)];
    const wanted = transfer(from, to, 30);
    await send(wanted);
    const taken = await send({ ...wanted, from: to, to: from }, { as: 'bob' });
    expect(taken.status).toBe(409);
    expect(taken.text).not.toContain(from);
    expect(await balancesOf([from, to])).toEqual([70, 130]);
  });

  it('is the same in capital letters', async () => {
    const [from, to] = [await openAccount('alice', 100), await openAccount('bob', 0)];
    const wanted = transfer(from, to, 30);
    const capitals = { ...wanted, transactionId: wanted.transactionId.toUpperCase() };
    const [first, second] = [await send(capitals), await send(wanted)];
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(second.text).toBe(first.text);
    expect(await balancesOf([from, to])).toEqual([70, 30]);
  });
});

describe('a transfer that makes no sense', () => {
  it("is refused before anything is written: from another's account, to nowhere, to where it came from, or of no amount", async () => {
    const [mine, theirs] = [await openAccount('alice', 100), await openAccount('bob', 100)];
    const senseless: [number, Transfer][] = [
      [404, transfer(theirs, mine, 10)],
      [404, transfer('account-nobody', mine, 10)],
      [404, transfer(mine, 'account-nobody', 10)],
      [422, transfer(mine, mine, 10)],
      [400, transfer(mine, theirs, 0)],
      [400, transfer(mine, theirs, 0.5)],
      [400, { ...transfer(mine, theirs, 10), transactionId: 'transfer-1' }],
    ];
    for (const [status, wanted] of senseless) expect([wanted, (await send(wanted)).status]).toEqual([wanted, status]);
    expect(await balancesOf([mine, theirs])).toEqual([100, 100]);
    expect(await shop.count('select from transfers where $1 in (from_account, to_account)', [mine])).toBe(0);
  });
});
