import { describe, expect, it } from '@jest/globals';
import { facts, printable, printableLines, table } from '../../lib/cli/table.js';
import { ago, counted, size } from '../../lib/cli/wording.js';

const bold = (text: string): string => `<b>${text}</b>`;

describe('a table', () => {
  it('aligns texts to the left and numbers to the right, without white space at the end of a line', () => {
    const columns = [{ title: 'State' }, { title: 'Records', align: 'right' }, { title: 'Note' }] as const;
    const rows = [
      ['running', '7', ''],
      ['lost', '1,200', 'look'],
    ];
    expect(table(columns, rows, bold).split('\n')).toEqual(['<b>State    Records  Note</b>', 'running        7', 'lost       1,200  look']);
  });

  it('counts what a terminal shows, not code units', () => {
    const rows = [
      ['日本', '1'],
      ['e\u0301tage', '2'],
      ['👩‍🚀', '3'],
    ];
    expect(table([{ title: 'Scope' }, { title: 'N' }], rows, String).split('\n')).toEqual([
      'Scope  N',
      '日本   1',
      'e\u0301tage  2',
      '👩‍🚀     3',
    ]);
  });

  it('has a heading where there are no rows', () => {
    expect(table([{ title: 'Key' }], [], String)).toBe('Key');
  });
});

describe('facts', () => {
  it('are one a line, and leave out what is missing', () => {
    const pairs = [
      ['State', 'lost'],
      ['Status', undefined],
      ['Locked until', 'noon'],
    ] as const;
    expect(facts(pairs, bold)).toBe('<b>State       </b>  lost\n<b>Locked until</b>  noon');
  });
});

describe('what clients have sent', () => {
  it('commands no terminal: control characters and turns of direction are written as escapes', () => {
    expect(printable('a\u001b[2J\r\n\u0085\u202eb')).toBe('a\\u001b[2J\\u000d\\u000a\\u0085\\u202eb');
    expect(printableLines('a\n\tb\u0007')).toBe('a\n\tb\\u0007');
    expect(facts([['Key', 'a\nState  completed']], String)).toBe('Key  a\\u000aState  completed');
  });
});

describe('numbers', () => {
  it.each([
    [0, '0 bytes'],
    [1023, '1,023 bytes'],
    [1024, '1.0 kB'],
    [16_384, '16 kB'],
    [1_500_000_000, '1.4 GB'],
    [5e16, '45,475 TB'],
  ])('%d bytes are written as %s', (bytes, written) => expect(size(bytes)).toBe(written));

  it.each([
    [0, '0 seconds ago'],
    [-5, '0 seconds ago'],
    [1, '1 second ago'],
    [119, '1 minute ago'],
    [7200, '2 hours ago'],
    [86_400 * 3 + 5, '3 days ago'],
  ])('%d seconds were %s', (seconds, written) => {
    const now = new Date();
    expect(ago(new Date(now.getTime() - seconds * 1000), now)).toBe(written);
  });

  it('have one word for one and another for many', () => {
    expect([counted(1, 'record'), counted(0, 'record'), counted(1234, 'record is', 'records are')]).toEqual([
      '1 record',
      '0 records',
      '1,234 records are',
    ]);
  });
});
