import { describe, expect, it } from '@jest/globals';
import { Columns } from '../../lib/store/columns.js';

interface Berth {
  readonly name: string;
  readonly depth: number | null;
  readonly free: boolean;
}

const columns = new Columns<Berth>({ name: 'text', depth: 'number', free: 'boolean' });

describe('a row', () => {
  it('has its columns in their order, each of its kind', () => {
    const row = columns.read(['North', '8.5', 't']);
    expect(row).toEqual({ name: 'North', depth: 8.5, free: true });
    expect(Object.keys(row)).toEqual(['name', 'depth', 'free']);
    expect(columns.read(['', '-0.001', 'f'])).toEqual({ name: '', depth: -0.001, free: false });
  });

  it('leaves texts alone that look like something else', () => {
    for (const name of ['t', '12', 'null', '{}']) expect(columns.read([name, null, 't']).name).toBe(name);
  });

  it('has null where Postgres has it, whatever the row before had', () => {
    columns.read(['South', '3', 't']);
    expect(columns.read([null, null, null])).toEqual({ name: null, depth: null, free: null });
  });

  it.each(['NaN', 'Infinity', '-Infinity', '1e-07', '9007199254740991'])('reads the number %s', (text) => {
    expect(columns.read(['x', text, 'f']).depth).toBe(Number(text));
  });
});
