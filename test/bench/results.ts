/** What a run has found, as it is written into its JSON file. Times are in the units that names say; CPU is microseconds a request. */

export interface Round {
  readonly requests: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuUs: {
    readonly app: number;
    readonly postgres?: number;
    readonly redis?: number;
    /** Of the clients: how much of the machine was spent on asking. */
    readonly client: number;
  };
  readonly walBytes: number;
  readonly statuses: Readonly<Record<string, number>>;
  readonly replays: number;
}

/** From Postgres' own counters, a request; taken apart from the rounds, since the server tells them late. */
export interface Counts {
  /** Waits for the disk of the connections that serve requests. */
  readonly fsyncs?: number;
  /** The same with those of background processes, which nobody waits for. */
  readonly fsyncsInAll?: number;
  readonly transactions: number;
  readonly walRecords: number;
  readonly fullPageImages: number;
}

export interface Line {
  readonly contestant: string;
  readonly baseline?: string;
  readonly rounds: readonly Round[];
  readonly counts?: Counts;
}

/** Contestants that did the same in interleaved rounds. */
export interface Race {
  readonly title: string;
  readonly connections: number;
  readonly lines: readonly Line[];
}

/** Figures that are no race. */
export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
}

/** A goal beside what was found. */
export interface Verdict {
  readonly what: string;
  readonly goal: string;
  readonly found: string;
  /** `undefined`: it could not be measured here. */
  readonly met: boolean | undefined;
}

export interface Fault {
  readonly contestant: string;
  readonly fault: string;
}

export interface Findings {
  readonly workload: string;
  readonly races: readonly Race[];
  readonly tables: readonly Table[];
  readonly verdicts: readonly Verdict[];
  /** Answers that were wrong. Those of others are told; those of this library fail the run. */
  readonly faults: readonly Fault[];
}
