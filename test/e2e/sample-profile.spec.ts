import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { barrier } from '../support/barrier.js';
import { openSampleShop } from '../support/sample-shop.js';
import type { SampleShop } from '../support/sample-shop.js';
import { codeOf, field, json } from './support/wire.js';
import type { Answer } from './support/wire.js';

jest.setTimeout(60_000); // starts an application

interface Profile {
  readonly name: string;
  readonly address: string;
}

let shop: SampleShop;

beforeAll(async () => {
  shop = await openSampleShop();
});

afterAll(async () => {
  await shop.close();
});

const read = (ifNoneMatch?: string): Promise<Answer> =>
  shop.ask('GET', '/profile', { headers: ifNoneMatch === undefined ? {} : { 'if-none-match': ifNoneMatch } });
const write = (profile: object, ifMatch?: string): Promise<Answer> =>
  shop.ask('PUT', '/profile', { body: profile, headers: ifMatch === undefined ? {} : { 'if-match': ifMatch } });
const profileIn = (answer: Answer): Profile => {
  const { name, address } = json(answer) as Profile;
  return { name, address };
};
const etagOf = (answer: Answer): string => field(answer, 'etag') ?? '';

describe('a profile that is read', () => {
  it('has a strong ETag, and is not sent again to somebody who has it', async () => {
    const first = await read();
    expect([first.status, etagOf(first)]).toEqual([200, expect.stringMatching(/^"[^"]+"$/)]);
    const second = await read(etagOf(first));
    expect([second.status, second.text, etagOf(second)]).toEqual([304, '', etagOf(first)]);
  });

  it('is sent again once it has changed', async () => {
    const before = await read();
    const written = await write({ name: 'Alice', address: '1 Mill Lane' }, etagOf(before));
    expect([written.status, etagOf(written)]).toEqual([200, expect.not.stringContaining(etagOf(before))]);
    const after = await read(etagOf(before));
    expect([after.status, etagOf(after), profileIn(after).address]).toEqual([200, etagOf(written), '1 Mill Lane']);
  });

  it("is the caller's own", async () => {
    const bobs = await shop.ask('GET', '/profile', { as: 'bob' });
    expect(json(bobs)).toMatchObject({ userId: 'bob' });
  });
});

describe('a profile that is written', () => {
  it('asks for the version that was edited, and takes none that is no version', async () => {
    const { name, address } = profileIn(await read());
    const none = await write({ name, address: 'Nowhere' });
    const malformed = await write({ name, address: 'Nowhere' }, 'the latest');
    expect([none.status, codeOf(none)]).toEqual([428, 'PRECONDITION_REQUIRED']);
    expect(malformed.status).toBe(400);
    expect(profileIn(await read())).toEqual({ name, address });
  });

  it('refuses an edit of a profile that has changed since, also when it comes again', async () => {
    const before = await read();
    const mine = { name: 'Alice', address: '2 Mill Lane' };
    const statuses = [await write(mine, etagOf(before)), await write(mine, etagOf(before))];
    expect(statuses.map(({ status }) => status)).toEqual([200, 412]);
    expect(codeOf(statuses[1]!)).toBe('PRECONDITION_FAILED');
    expect(profileIn(await read())).toEqual(mine);
  });

  it('never matches a weak ETag', async () => {
    const before = await read();
    expect((await write({ name: 'Alice', address: 'Weak' }, `W/${etagOf(before)}`)).status).toBe(412);
    expect(profileIn(await read())).toEqual(profileIn(before));
  });

  it('loses neither of two edits that begin at the same version: the second one is made again on top of the first', async () => {
    await write({ name: 'Alice', address: '3 Mill Lane' }, etagOf(await read()));
    const both = barrier(2); // both have read before anybody writes
    const edit = async (change: Partial<Profile>): Promise<number[]> => {
      const statuses: number[] = [];
      for (let seen = await read(); ; seen = await read()) {
        if (statuses.length === 0) await both.arrive();
        const answer = await write({ ...profileIn(seen), ...change }, etagOf(seen));
        statuses.push(answer.status);
        if (answer.status !== 412) return statuses;
      }
    };
    const editors = await Promise.all([edit({ name: 'Alice B.' }), edit({ address: '4 Mill Lane' })]);
    expect(editors.sort((one, other) => one.length - other.length)).toEqual([[200], [412, 200]]);
    expect(profileIn(await read())).toEqual({ name: 'Alice B.', address: '4 Mill Lane' });
  });

  it('lets one of twenty edits of a version through', async () => {
    const before = await read();
    const edits = Array.from({ length: 20 }, (_, number) => write({ name: 'Alice', address: `${number} Hill Road` }, etagOf(before)));
    const answers = await Promise.all(edits);
    expect(answers.map(({ status }) => status).sort((one, other) => one - other)).toEqual([200, ...Array<number>(19).fill(412)]);
    expect(etagOf(await read())).toBe(etagOf(answers.find(({ status }) => status === 200)!));
  });
});
