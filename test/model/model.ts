/**
 * What must be so, in as few words as possible: which state each key is in, which answer stands, and
 * whose work may run. It knows no Postgres and no engine.
 */
import type { Outcome, Request } from './schedule.js';
import { LEASE_UNITS, RETENTION_UNITS, type Mode } from './processes.js';

/** An execution as the model sees it. */
export interface Work {
  readonly id: number;
  readonly process: number;
  readonly key: KeyModel;
  readonly request: Request;
  readonly attempt: number;
  /** Results of steps that it has found when it first asked. */
  found: ReadonlyMap<string, number> | undefined;
  readonly used: Set<string>;
  /** It has been told that it is superseded. */
  knows: boolean;
  /** Rows that it has written into its transaction. */
  rows: number;
}

export type Expected =
  | { readonly kind: 'run'; readonly attempt: number }
  | { readonly kind: 'replay'; readonly by: number; readonly status: number }
  | { readonly kind: 'refuse'; readonly code: string };

export const IN_USE: Expected = { kind: 'refuse', code: 'IDEMPOTENCY_KEY_IN_USE' };
const REUSED: Expected = { kind: 'refuse', code: 'IDEMPOTENCY_KEY_REUSED' };
const NOT_REPLAYABLE: Expected = { kind: 'refuse', code: 'IDEMPOTENCY_RESULT_NOT_REPLAYABLE' };
const UNKNOWN: Expected = { kind: 'refuse', code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' };

interface Life {
  readonly request: Request;
  attempt: number;
  readonly steps: Map<string, number>;
}

type State =
  | { readonly is: 'free' }
  | (Life & { readonly is: 'running'; readonly owner: Work; lease: number; held: boolean })
  /** For `left` more units. */
  | (Life & { readonly is: 'open' | 'sealed'; left: number })
  | (Life & { readonly is: 'completed'; readonly by: number; readonly status: number; left: number });

export class KeyModel {
  state: State = { is: 'free' };
  /** Business rows that are committed. */
  rows = 0;

  constructor(readonly mode: Mode) {}

  /** What `find` would say. */
  get seen(): { readonly state: string; readonly attempt: number; readonly steps: readonly string[] } | undefined {
    const { state } = this;
    if (state.is === 'free') return undefined;
    return { state: this.isLost ? 'lost' : state.is, attempt: state.attempt, steps: [...state.steps.keys()] };
  }

  get isLost(): boolean {
    return this.state.is === 'running' && this.state.lease <= 0 && !this.state.held;
  }

  isOwnedBy(work: Work): boolean {
    return this.state.is === 'running' && this.state.owner === work;
  }

  expected(request: Request, process: number, onLost: 'rerun' | 'reject'): Expected {
    const { state } = this;
    if (state.is === 'free') return { kind: 'run', attempt: 1 };
    if (state.request !== request) return REUSED;
    switch (state.is) {
      case 'completed':
        return { kind: 'replay', by: state.by, status: state.status };
      case 'sealed':
        return NOT_REPLAYABLE;
      case 'open':
        return { kind: 'run', attempt: state.attempt + 1 };
      case 'running':
        if (!this.isLost || state.owner.process === process) return IN_USE;
        return onLost === 'reject' ? UNKNOWN : { kind: 'run', attempt: state.attempt + 1 };
    }
  }

  begin(work: Work): void {
    const { state } = this;
    const steps = state.is === 'free' ? new Map<string, number>() : state.steps;
    this.state = {
      is: 'running',
      owner: work,
      request: work.request,
      attempt: work.attempt,
      steps,
      lease: LEASE_UNITS,
      held: this.mode === 'atomic',
    };
  }

  /** What the client of `work` is told; a superseded one hears what any other retry would, if there is an end of it. */
  end(work: Work, outcome: Outcome): Expected | 'send' {
    const { state } = this;
    if (state.is !== 'running' || state.owner !== work) return this.#instead(work, outcome);
    const life = { request: state.request, attempt: state.attempt, steps: state.steps, left: RETENTION_UNITS };
    if (outcome === 'created' || outcome === 'refused') this.state = { is: 'completed', by: work.id, status: statusOf(outcome), ...life };
    else if (outcome === 'huge') this.state = { is: 'sealed', ...life };
    else this.state = state.steps.size > 0 ? { is: 'open', ...life } : { is: 'free' };
    if (outcome === 'created' || outcome === 'huge') this.rows += work.rows;
    return 'send';
  }

  /** A unit of time; `awake` says which processes renew. */
  pass(awake: (process: number) => boolean): void {
    const { state } = this;
    if (state.is === 'free') return;
    if (state.is === 'running') {
      if (state.held) return;
      state.lease = awake(state.owner.process) ? LEASE_UNITS : state.lease - 1;
    } else if ((state.left -= 1) <= 0) this.state = { is: 'free' };
  }

  /** The process of its owner is no more. A transaction ends with it, and so does the lease that it was. */
  orphan(process: number): void {
    const { state } = this;
    if (state.is !== 'running' || state.owner.process !== process) return;
    this.state = { ...state, owner: { ...state.owner, process: NOBODY }, held: false, lease: state.held ? 0 : state.lease };
  }

  forget(): 'removed' | 'absent' | 'live' {
    if (this.state.is === 'free') return 'absent';
    if (this.state.is === 'running' && !this.isLost) return 'live';
    this.state = { is: 'free' };
    return 'removed';
  }

  #instead(work: Work, outcome: Outcome): Expected {
    const { state } = this;
    if (outcome === 'failed' || state.is === 'free' || state.request !== work.request) return IN_USE;
    if (state.is === 'completed') return { kind: 'replay', by: state.by, status: state.status };
    return state.is === 'sealed' ? NOT_REPLAYABLE : IN_USE;
  }
}

const NOBODY = -1;

export function statusOf(outcome: Outcome): number {
  return { created: 201, refused: 402, failed: 500, huge: 200 }[outcome];
}
