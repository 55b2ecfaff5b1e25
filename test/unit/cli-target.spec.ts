import { describe, expect, it } from '@jest/globals';
import { StoreUnavailable, TransactionMisused } from '../../lib/contract/errors.js';
import { CliError } from '../../lib/cli/exit-codes.js';
import { explained, refusal } from '../../lib/cli/failures.js';
import { scrubbed, targetOf } from '../../lib/cli/target.js';
import { GaveUp } from '../../lib/store/patience.js';

const aTarget = (url = 'postgres://shop:p%40ss@db.example:5433/orders') => targetOf(url, {});

describe('a target', () => {
  it('is named by its place, never by its password', () => {
    const { scrub: _, config, ...place } = aTarget();
    expect({ ...place }).toEqual({ host: 'db.example', port: 5433, database: 'orders', user: 'shop' });
    expect(config).toMatchObject({ connectionString: 'postgres://shop:p%40ss@db.example:5433/orders' });
  });

  it.each(['postgres:///orders?host=/var/run/postgresql', '/var/run/postgresql orders', 'socket:/var/run/postgresql?db=orders'])(
    'may be a socket (%s)',
    (url) => {
      expect(aTarget(url)).toMatchObject({ host: '/var/run/postgresql', database: 'orders' });
    },
  );

  it.each([
    '',
    'db.example',
    'https://db.example',
    'postgres://a:b/c@d/e',
    'postgres://a:b?c@d/e',
    'postgres://a:b#c@d/e',
    'postgres://a:b@c:port/d',
  ])('is refused when it can’t be read (%s), and not quoted', (url) => {
    const refused = (): unknown => targetOf(url, {});
    expect(refused).toThrow(expect.objectContaining({ code: 'USAGE', exitCode: 2 }));
    if (url !== '') expect(refused).toThrow(expect.objectContaining({ message: expect.not.stringContaining(url) }));
  });
});

describe('what others have written', () => {
  it('is told without the password, as it is and as it stands in a URL', () => {
    const { scrub } = aTarget();
    expect(scrub('no p@ss, no p%40ss, no postgres://shop:p@ss@db/x')).toBe('no ***, no ***, no postgres://***@db/x');
    expect(scrubbed('postgresql://a:b@c/d and POSTGRES://e:f@g@h/i')).toBe('postgresql://***@c/d and POSTGRES://***@h/i');
    expect(aTarget('postgres://db.example/orders').scrub('as it is')).toBe('as it is');
  });
});

describe('a failure', () => {
  const failed = (code: string, message: string): CliError => refusal(Object.assign(new Error(message), { code }), aTarget());

  it.each([
    ['28P01', 'password authentication failed for user "shop"', /does not take this password\. Look at user and password/],
    ['42501', 'permission denied for table x', /grant it/],
    ['25006', 'cannot execute INSERT in a read-only transaction', /Name the primary/],
    ['53300', 'sorry, too many clients already', /max_connections/],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'self-signed certificate in certificate chain', /sslrootcert/],
    ['XX000', 'something of Postgres’ own', /failed \(something/],
  ])('%s is told with its remedy and with what Postgres said', (code, message, told) => {
    const { message: sentence, exitCode } = failed(code, message);
    expect([sentence, exitCode]).toEqual([expect.stringMatching(told), 1]);
    expect(sentence).toMatch(/^Postgres at db\.example:5433 \(database orders, user shop\) /);
    expect(sentence).toContain(message);
  });

  it('is told by what made the store fail, and without the password in whatever that says', () => {
    const cause = new Error('can’t log in with p@ss');
    expect(explained(new StoreUnavailable({ cause }), aTarget()).message).toMatch(/failed \(can’t log in with \*\*\*\)\.$/);
    expect(explained(new StoreUnavailable({ cause: new GaveUp('late') }), aTarget()).message).toMatch(/did not answer in time.*--timeout/);
    expect(explained(new StoreUnavailable({ cause: new AggregateError([], '') }), aTarget()).message).toMatch(/failed\.$/);
    expect(explained(new StoreUnavailable({ cause: new Error('client password must be a string') }), aTarget()).message).toMatch(
      /wants a password.*PGPASSWORD/,
    );
  });

  it('of another kind is told as what it is', () => {
    const ours = new CliError('X', 4, 'as it is');
    expect(explained(ours, aTarget())).toBe(ours);
    expect(explained(new TransactionMisused('of the store'), aTarget())).toMatchObject({
      code: 'IDEMPOTENCY_TRANSACTION_MISUSED',
      message: 'of the store',
    });
    expect(explained(new TypeError('p@ss is not a function'), aTarget())).toMatchObject({
      code: 'UNEXPECTED',
      message: 'This should not have happened: *** is not a function',
    });
  });
});
