/** What may happen, as plain data: a schedule that fails is printed, and can be read and replayed. */
import fc from 'fast-check';

export const PROCESSES = 3;
export const KEYS = ['plain', 'atomic'] as const;
export const STEPS = ['charge', 'book', 'receipt'] as const;

export type StepName = (typeof STEPS)[number];
export type Request = 'A' | 'B';
/** `created` is kept, `refused` is kept and undone, `failed` frees the key, `huge` is done and not replayable. */
export type Outcome = 'created' | 'refused' | 'failed' | 'huge';

export type Action =
  | {
      readonly does: 'request';
      readonly process: number;
      readonly key: number;
      readonly request: Request;
      readonly onLost: 'rerun' | 'reject';
    }
  /** Simultaneous ones, of all processes. */
  | { readonly does: 'storm'; readonly key: number; readonly requests: readonly Request[] }
  /** A foreign call, by one of the executions that are at work. */
  | { readonly does: 'step'; readonly execution: number; readonly name: StepName; readonly throws: boolean }
  /** Rows and their result in one. */
  | { readonly does: 'phase'; readonly execution: number; readonly name: StepName; readonly throws: boolean }
  | { readonly does: 'end'; readonly execution: number; readonly outcome: Outcome }
  /** An execution ends while a retry comes in elsewhere: late, if its lease has passed. */
  | { readonly does: 'end-and-retry'; readonly execution: number; readonly process: number }
  | { readonly does: 'crash'; readonly process: number }
  | { readonly does: 'shutdown'; readonly process: number; readonly inTime: boolean }
  /** It stands still, and nothing is renewed; what it is told to do it still does, late. */
  | { readonly does: 'stall'; readonly process: number }
  | { readonly does: 'wake'; readonly process: number }
  | { readonly does: 'time'; readonly units: number }
  /** An execution's process stalls for longer than its lease, and a retry comes in elsewhere. By chance that is rare. */
  | { readonly does: 'overtake'; readonly execution: number; readonly process: number }
  | { readonly does: 'reap'; readonly process: number }
  | { readonly does: 'forget'; readonly process: number; readonly key: number }
  /** An answer is asked for until the process has it at hand. */
  | { readonly does: 'crowd'; readonly process: number; readonly key: number };

const process = fc.nat(PROCESSES - 1);
const key = fc.nat(KEYS.length - 1);
const execution = fc.nat(7);
const name = fc.constantFrom(...STEPS);
const request = fc.constantFrom<Request>('A', 'A', 'A', 'B');
const outcome = fc.constantFrom<Outcome>('created', 'created', 'refused', 'failed', 'failed', 'huge');
const rarely = fc.nat(4).map((n) => n === 4);
const is = fc.constant;

/** Plain objects, since they are to be read. */
function of<Fields extends object>(fields: { [Name in keyof Fields]: fc.Arbitrary<Fields[Name]> }): fc.Arbitrary<Fields> {
  return fc.record<Fields>(fields, { noNullPrototype: true }) as fc.Arbitrary<Fields>;
}

const ACTIONS: readonly { readonly weight: number; readonly arbitrary: fc.Arbitrary<Action> }[] = [
  { weight: 8, arbitrary: of({ does: is('request'), process, key, request, onLost: fc.constantFrom('rerun', 'rerun', 'reject') }) },
  { weight: 2, arbitrary: of({ does: is('storm'), key, requests: fc.array(request, { minLength: PROCESSES, maxLength: 2 * PROCESSES }) }) },
  { weight: 5, arbitrary: of({ does: is('step'), execution, name, throws: rarely }) },
  { weight: 3, arbitrary: of({ does: is('phase'), execution, name, throws: rarely }) },
  { weight: 5, arbitrary: of({ does: is('end'), execution, outcome }) },
  { weight: 2, arbitrary: of({ does: is('end-and-retry'), execution, process }) },
  { weight: 2, arbitrary: of({ does: is('crash'), process }) },
  { weight: 1, arbitrary: of({ does: is('shutdown'), process, inTime: fc.boolean() }) },
  { weight: 2, arbitrary: of({ does: is('stall'), process }) },
  { weight: 3, arbitrary: of({ does: is('wake'), process }) },
  { weight: 6, arbitrary: of({ does: is('time'), units: fc.constantFrom(1, 3, 4) }) },
  { weight: 3, arbitrary: of({ does: is('overtake'), execution, process }) },
  { weight: 1, arbitrary: of({ does: is('reap'), process }) },
  { weight: 2, arbitrary: of({ does: is('forget'), process, key }) },
  { weight: 2, arbitrary: of({ does: is('crowd'), process, key }) },
];

export const SCHEDULE: fc.Arbitrary<readonly Action[]> = fc.array(fc.oneof(...ACTIONS), { minLength: 10, maxLength: 40, size: 'max' });
